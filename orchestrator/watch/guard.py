"""Guarded: a watcher that fails is let go and named; the run does not notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.ports import Watcher


class Guarded:
    def __init__(self, watcher: Watcher, complain: Callable[[str], None]) -> None:
        self._watcher: Watcher | None = watcher
        self._complain = complain

    def tell(self, *told: Any) -> None:
        if self._watcher is None:
            return
        try:
            self._watcher.tell(*told)
        except Exception as error:
            name, self._watcher = type(self._watcher).__name__, None
            self._complain(f"{name} failed and is let go: {type(error).__name__}: {error}")
