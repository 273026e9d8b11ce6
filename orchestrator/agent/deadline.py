"""A deadline as a context manager: whatever leaves the block releases the timer."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from orchestrator.agent.loop import Loop, Timer


class Deadline:
    """Armed by `set`, and again by each further `set`; calls `passed` once when it is reached."""

    def __init__(self, loop: Loop, passed: Callable[[], None]) -> None:
        self._loop = loop
        self._passed = passed
        self._timer: Timer | None = None

    def set(self, seconds: float | None) -> None:
        self.release()
        if seconds is not None:
            self._timer = self._loop.after(seconds, self._passed)

    def release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> Deadline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
