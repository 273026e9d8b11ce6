"""The only module that reads the clock: wall time for people and disk, a clock that counts sleep for deadlines."""

from __future__ import annotations

import random
import time

from orchestrator.core.names import Moment


def now() -> float:
    """Seconds since 1970, UTC."""
    return time.time()


def ticking() -> float:
    """Seconds on the clock that nobody sets and that counts the machine's sleep; compare only with itself."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def pause(seconds: float) -> None:
    time.sleep(seconds)


class System:
    """The clock of the machine, and its dice."""

    def moment(self) -> Moment:
        return Moment(now(), ticking(), random.random())
