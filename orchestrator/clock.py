"""The only module that reads the clock: wall time and zones for people, one that counts sleep for deadlines."""

from __future__ import annotations

import os
import time
from datetime import UTC, tzinfo
from functools import cache

from orchestrator.core.names import Moment, nearest
from orchestrator.errors import UsageError

LOCALTIME = "/etc/localtime"


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


def zone(name: str = "") -> tzinfo:
    """The time zone of that name; without one that of this process: $TZ, else the machine's."""
    origin = "time zone" if name else "$TZ"
    name = name or os.environ.get("TZ", "").removeprefix(":")
    return _named(name, origin) if name else machine_zone()


def machine_zone() -> tzinfo:
    """What daemons go by, whatever $TZ says here: /etc/localtime, else UTC."""
    from zoneinfo import ZoneInfo  # only schedules need it

    try:
        with open(LOCALTIME, "rb") as file:
            return ZoneInfo.from_file(file, key=_localtime_name())
    except (OSError, ValueError):
        return UTC


def _localtime_name() -> str:
    return os.path.realpath(LOCALTIME).partition("/zoneinfo/")[2].removeprefix("posix/") or "local time"


def _named(name: str, origin: str) -> tzinfo:
    from zoneinfo import ZoneInfo, available_timezones

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = {one.lower(): one for one in available_timezones()}
    if not known:
        remedy = "this machine has no time zones: Debian: apt install tzdata, or pip install tzdata"
    else:
        near = nearest(name.lower(), list(known)) or nearest(name.lower(), [one.rpartition("/")[2] for one in known])
        right = near and next((known[one] for one in known if one == near or one.endswith(f"/{near}")), None)
        remedy = (
            f"did you mean {right}?" if right else "name one as Europe/Berlin; `timedatectl list-timezones` has all"
        )
    raise UsageError(f"{origin}: there is no {name}", remedy)


class System:
    """The clock of the machine, and its dice."""

    def moment(self) -> Moment:
        return Moment(now(), ticking(), int.from_bytes(os.urandom(6), "big") / 2**48)
