"""The inbox: the one door through which everything reaches the loop, whoever brings it."""

from __future__ import annotations

import selectors
from collections import deque
from collections.abc import Callable, Iterable

from orchestrator import clock
from orchestrator.core.observations import Beat, Observation, Started

BATCH = 256
LINGER = 0.01  # news that nobody acts on waits this long for the end that often follows at once: one line, not two

Reader = Callable[[], Iterable[Observation]]


class Inbox:
    """Files that become readable, mapped to what they say; and timers, for those who must be asked now and then."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._waiting: deque[Observation] = deque()
        self._timers: list[Callable[[], float]] = []
        self._seldom: list[_Due] = []

    def watch(self, fd: int, read: Reader) -> None:
        self._selector.register(fd, selectors.EVENT_READ, read)

    def forget(self, fd: int) -> None:
        self._selector.unregister(fd)

    def every(self, ask: Callable[[], float]) -> None:
        """`ask` is called each time round, may put things here, returns the seconds until it must be asked again."""
        self._timers.append(ask)

    def seldom(self, ask: Callable[[], float]) -> None:
        """The same, but it is not called before that time: for who has nothing to do with what is decided meanwhile."""
        self._seldom.append(_Due(ask))

    def put(self, observation: Observation) -> None:
        self._waiting.append(observation)

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def get(self, wait_seconds: float) -> list[Observation]:
        until = clock.ticking() + wait_seconds
        self._collect(0 if self._waiting else self._until_timers(until))
        if self._waiting and all(isinstance(seen, (Started, Beat)) for seen in self._waiting):
            self._collect(LINGER)
        return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    def _until_timers(self, until: float) -> float:
        soonest = min((*(ask() for ask in self._timers), *(due.left() for due in self._seldom)), default=3600.0)
        return 0 if self._waiting else max(0.0, min(until - clock.ticking(), soonest))

    def _collect(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            self._waiting.extend(key.data())

    def close(self) -> None:
        self._selector.close()


class _Due:
    """Somebody who said when they must be asked again."""

    def __init__(self, ask: Callable[[], float]) -> None:
        self._ask, self._at = ask, clock.ticking()

    def left(self) -> float:
        now = clock.ticking()
        if now >= self._at:
            self._at = now + self._ask()
        return self._at - now
