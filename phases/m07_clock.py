"""Phase -7: whether the clocks can be trusted, and whether a process can be told from one that came before it."""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestrator import ConfigurationFault, Context, phase, process
from phases._ground import child

KEPT = {True: "kept in step", False: "not kept in step", None: "unknown whether kept in step"}
MEASURED_SECONDS = 0.4
MOST_DRIFT_PPM = 1000.0  # an adjustment by NTP stays below 500
BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@phase(-7, needs=[-8], timeout="30s", retries=0)
def clock(ctx: Context) -> dict[str, Any]:
    """Compare the clocks; tell processes and boots apart."""
    refuse_backwards([reading() for _ in range(1000)])
    identity = of_identity()
    figures = {**of_drift(MEASURED_SECONDS), **of_resolution(), **identity, **of_zone(), **of_kernel_clock()}
    found = list(warnings(figures, ctx.project))
    return {"verdict": verdict(figures), "figures": figures, "warnings": found}


def verdict(figures: dict[str, Any]) -> str:
    kept = KEPT[figures["synchronized"]]
    known = "boot and start ticks are known" if figures["boot_id"] else "the boot is not known"
    return f"wall clock {figures['wall_drift_ppm']:+.0f} ppm against the clock of deadlines, {kept}; {known}"


def warnings(figures: dict[str, Any], project: Path) -> Iterator[str]:
    uncertain_ppm = figures["drift_uncertainty_ppm"]
    if abs(figures["wall_drift_ppm"]) > MOST_DRIFT_PPM + uncertain_ppm:
        yield f"the wall clock runs {figures['wall_drift_ppm']:+.0f} ppm against that of deadlines, or was set just now"
    if figures["resolution_seconds"] > 0.01:
        yield f"the clock of deadlines moves in steps of {figures['resolution_seconds'] * 1000:g} ms"
    if figures["synchronized"] is False:
        yield "the kernel says that nobody keeps the clock in step (NTP): due times will wander"
    if not figures["boot_id"]:
        yield "the boot id cannot be read (/proc/sys): after a crash, attempts count as lost only after stale_after"
    if not figures["named_zones"]:
        yield "no time zones are installed (package tzdata): only UTC and the machine's own can be used"
    if figures["namespace_offset_seconds"]:
        yield "this is a time namespace: start ticks read from outside of it differ, so call orch only from inside"
    if newest(project) > time.time() + 86400:
        yield "files of the project are from the future by more than a day: the clock is most likely wrong"


# Clocks


class Reading(NamedTuple):
    wall: float
    boot: float
    steady: float
    uncertain: float  # seconds that passed while these were read


def reading() -> Reading:
    first = time.clock_gettime(time.CLOCK_BOOTTIME)
    wall, steady = time.time(), time.clock_gettime(time.CLOCK_MONOTONIC)
    last = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Reading(wall, (first + last) / 2, steady, last - first)


def best_reading() -> Reading:
    """Of many the one that was least interrupted."""
    return min((reading() for _ in range(50)), key=lambda each: each.uncertain)


def refuse_backwards(readings: list[Reading]) -> None:
    for before, after in itertools.pairwise(readings):
        if after.boot < before.boot or after.steady < before.steady:
            back = max(before.boot - after.boot, before.steady - after.steady)
            raise ConfigurationFault(
                f"the clock of deadlines went back by {back:.6f} s: nothing can be timed here; "
                "look at the clock source of this machine (/sys/devices/system/clocksource)"
            )


def of_drift(seconds: float) -> dict[str, Any]:
    begin = best_reading()
    time.sleep(seconds)
    end = best_reading()
    passed, uncertain = end.boot - begin.boot, begin.uncertain + end.uncertain
    return {
        "wall_drift_ppm": round(((end.wall - begin.wall) - passed) / passed * 1e6, 1),
        "monotonic_drift_ppm": round(((end.steady - begin.steady) - passed) / passed * 1e6, 1),
        "drift_uncertainty_ppm": round(uncertain / passed * 1e6, 1),
        "measured_seconds": round(passed, 3),
        "slept_since_boot_seconds": max(0.0, round(end.boot - end.steady, 3)),
    }


def of_resolution() -> dict[str, Any]:
    times = [time.clock_gettime_ns(time.CLOCK_BOOTTIME) for _ in range(2000)]
    steps = [after - before for before, after in itertools.pairwise(times) if after > before]
    return {
        "resolution_seconds": time.clock_getres(time.CLOCK_BOOTTIME),
        "smallest_step_seconds": min(steps, default=0) / 1e9,
    }


def of_kernel_clock() -> dict[str, Any]:
    synchronized, error_us = asked_of_kernel()
    return {"synchronized": synchronized, "largest_error_ms": error_us and error_us / 1000}


class Timex(ctypes.Structure):
    """The beginning of the kernel's struct timex."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("largest_error", ctypes.c_long),
        ("estimated_error", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def asked_of_kernel() -> tuple[bool | None, int | None]:
    """Whether the clock is kept in step, and how many microseconds it may be wrong; None: cannot be told."""
    answer = Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(answer))
    except (OSError, AttributeError):
        return None, None
    unsynchronized = 0x40
    return (None, None) if state < 0 else (not answer.status & unsynchronized, answer.largest_error)


# Who is who


def of_identity() -> dict[str, Any]:
    """What tells this process from all others, twice from here and once from another process: all must agree."""
    me = os.getpid()
    first = identity_of(me)
    with child(lambda say: say(identity_of(me))) as other:
        seen = other.hear()
    again = identity_of(me)
    if not first == again == seen:
        raise ConfigurationFault(
            f"the identity of a process is not the same each time ({first}, then {again}, from a child {seen}): "
            "orch could not tell an owner that lives from one that died; look at how /proc is mounted"
        )
    boot, ticks = first
    if boot and not BOOT_ID.fullmatch(boot):
        raise ConfigurationFault(f"/proc/sys/kernel/random/boot_id says {boot!r}, which is no id of a boot")
    per_second = os.sysconf("SC_CLK_TCK")
    return {"boot_id": boot, "start_ticks": ticks, "ticks_per_second": per_second, "host": process.host()}


def identity_of(pid: int) -> list[Any]:
    entry = process.entry_of(pid)
    if entry is None:
        raise ConfigurationFault(f"/proc does not show process {pid}: orch tells processes apart by it; mount /proc")
    return [process.boot(), entry.ticks]


def of_zone() -> dict[str, Any]:
    local = datetime.now().astimezone()
    offset = local.utcoffset()
    return {
        "zone": os.environ.get("TZ") or os.path.realpath("/etc/localtime").rpartition("zoneinfo/")[2],
        "zone_shown": local.tzname(),
        "zone_offset_seconds": offset.total_seconds() if offset else 0,
        "named_zones": has_zones(),
        "namespace_offset_seconds": namespace_offset(),
    }


def has_zones() -> bool:
    try:
        return ZoneInfo("Europe/Berlin").key == "Europe/Berlin"
    except (ZoneInfoNotFoundError, OSError):
        return False


def namespace_offset() -> float:
    """By how much a time namespace shifts the clocks that nobody sets."""
    try:
        told = Path("/proc/self/timens_offsets").read_text()
    except OSError:
        return 0.0
    parts = (line.split() for line in told.splitlines())
    return max((int(seconds) + int(nano) / 1e9 for _, seconds, nano in parts), key=abs, default=0.0)


def newest(project: Path) -> float:
    return max((entry.lstat().st_mtime for entry in project.glob("*")), default=0.0)
