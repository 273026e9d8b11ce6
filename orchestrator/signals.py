"""Signals to a holder of the lock, as observations: Ctrl-C and SIGTERM are decisions, not exceptions."""

from __future__ import annotations

import os
import signal
from typing import Any

from orchestrator.core.observations import Interrupt, Observation
from orchestrator.ports import Sources


class Signals:
    """While open: SIGINT and SIGTERM arrive in the inbox; a closed terminal (SIGHUP) ends nothing."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, lambda *_: None)
        self._sources.watch(self._read, self._told)
        return self

    def __exit__(self, *_: object) -> None:
        self._sources.forget(self._read)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._read)
        os.close(self._write)

    def _told(self) -> list[Observation]:
        numbers = os.read(self._read, 4096)
        return [
            Interrupt(signal.Signals(number).name, 128 + number)
            for number in numbers
            if number in (signal.SIGINT, signal.SIGTERM)
        ]
