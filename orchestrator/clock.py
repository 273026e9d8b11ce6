"""The only module that reads the clock: wall time for people and disk, a clock that counts sleep for deadlines."""

from __future__ import annotations

import random
import time
from functools import cache

from orchestrator.core.names import Moment


def now() -> float:
    """Seconds since 1970, UTC."""
    return time.time()


def ticking() -> float:
    """Seconds on the clock that nobody sets and that counts the machine's sleep; compare only with itself."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def awake() -> float:
    """The same without the machine's sleep, and alike in all processes of this boot: how long somebody was silent."""
    return time.monotonic() - shift("monotonic")


@cache
def shift(name: str) -> float:
    """By how much the time namespace that we are in moves that clock: `monotonic`; `boottime`, and so start ticks."""
    try:
        with open("/proc/self/timens_offsets") as file:
            offsets = {clock: (seconds, parts) for clock, seconds, parts in map(str.split, file)}
        return int(offsets[name][0]) + int(offsets[name][1]) / 1e9
    except (OSError, KeyError, ValueError):  # a kernel without time namespaces
        return 0.0


def pause(seconds: float) -> None:
    time.sleep(seconds)


class System:
    """The clock of the machine, and its dice."""

    def moment(self) -> Moment:
        return Moment(now(), ticking(), random.random())
