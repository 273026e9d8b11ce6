"""system/schedules/NAME.queue: which instant of a schedule waits for its turn; at most one does."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator import disk
from orchestrator.core.names import epoch, iso
from orchestrator.disk import unwritable
from orchestrator.errors import StateUnwritable
from orchestrator.store.schedules import path_of

_PATIENCE = 0.2  # whoever only looks holds it for a moment


class Queue:
    def __init__(self, system: Path, name: str) -> None:
        self._path = path_of(system, name, ".queue")

    @cached_property
    def _lock(self) -> Any:
        from filelock import FileLock  # hardly ever does anybody wait

        return FileLock(self._path, mode=disk.PRIVATE_FILE, timeout=0, fallback_to_soft=False, thread_local=False)

    def enter(self, instant: float) -> bool:
        """True: the place is ours until `leave`, or the end of this process. False: another one waits."""
        if not self._acquired():
            return False
        try:
            self._path.write_text(iso(instant))
        except OSError as error:
            raise unwritable(error, self._path) from error
        return True

    def leave(self) -> None:
        self._lock.release()

    def waiting(self) -> float | None:
        """The instant that waits; None if none does."""
        if not os.path.exists(self._path):
            return None
        try:
            if self._acquired():
                self._lock.release()
                return None
            return epoch(self._path.read_text())
        except (OSError, ValueError, StateUnwritable):  # it has just come, or we may only read
            return None

    def _acquired(self) -> bool:
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=_PATIENCE, poll_interval=0.02)
        except Timeout:
            return False
        except OSError as error:
            raise unwritable(error, self._path) from error
        return True
