"""The lines of a crontab, or of a timer, that begin at every instant of a schedule, in whatever zone they live.

A crontab lives in the machine's zone. For a schedule of another one it is given all minutes at which that may be due
within the next years, and who is started asks whether it is. A timer knows zones, and yet loses what is due in an hour
that a clock leaves out, and the second of two hours: these it is told one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, tzinfo
from functools import lru_cache

from orchestrator.core import expression
from orchestrator.core.expression import DAY
from orchestrator.core.schedule import Schedule, instants_of_day, offset

YEARS = 10
_WEEK = "Sun Mon Tue Wed Thu Fri Sat".split()


def cron_times(schedule: Schedule, zone: tzinfo, machine: tzinfo, now: float) -> list[str]:
    """The five fields of each line that is needed."""
    today = int(now // (DAY * 60))
    if _are_alike(zone, machine, today):
        return [expression.plain(schedule.at)]
    minute, hour = expression.plain(schedule.at).split(" ")[:2]
    daily = expression.read(f"{minute} {hour} * * *")
    found, comes_twice = defaultdict[int, set[int]](set), False
    for day in _kinds_of_days(zone, machine, today):
        for instant in instants_of_day(daily, zone, day):
            local = datetime.fromtimestamp(instant, machine)
            found[local.hour].add(local.minute)
            comes_twice |= bool(local.fold)
    if comes_twice:  # a time of day begins in the first of two hours only; with a star in front, in both
        return [f"{_written(set().union(*found.values()), 0, 59, '-')} * * * *"]
    by_minutes = defaultdict[frozenset[int], list[int]](list)
    for at, minutes in sorted(found.items()):
        by_minutes[frozenset(minutes)].append(at)
    return [f"{_written(m, 0, 59, '-')} {_written(h, 0, 23, '-')} * * *" for m, h in by_minutes.items()]


def _days(today: int) -> range:
    return range(today - 1, today + 366 * YEARS)


@lru_cache(maxsize=32)
def _are_alike(zone: tzinfo, other: tzinfo, today: int) -> bool:
    for day in _days(today):
        edges = (day * DAY, (day + 1) * DAY)
        step = DAY if len({offset(zone, edge) for edge in edges}) == 1 else 15
        if any(offset(zone, minute) != offset(other, minute) for minute in range(*edges, step)):
            return False
    return True


@lru_cache(maxsize=32)
def _kinds_of_days(zone: tzinfo, machine: tzinfo, today: int) -> list[int]:
    """One day for each pair of offsets that comes, and for each way in which they change."""
    alike, found = set[tuple[int, ...]](), list[int]()
    for day in _days(today):
        edges = (day * DAY - 1, (day + 1) * DAY - 1)
        kind = tuple(offset(one, edge) for one in (zone, machine) for edge in edges)
        if kind not in alike:
            alike.add(kind)
            found.append(day)
    return found


def calendar_lines(schedule: Schedule, zone: tzinfo, now: float) -> list[str]:
    """What `OnCalendar=` takes: all that the expression means, and the instants around changes that it would lose."""
    cron, name = schedule.cron, getattr(zone, "key", None) or ("UTC" if zone is UTC else "")
    hours, minutes = {time // 60 for time in cron.times}, {time % 60 for time in cron.times}
    time = f"{_written(hours, 0, 23, '..')}:{_written(minutes, 0, 59, '..')}:00" + (f" {name}" if "/" in name else "")
    time += " UTC" if name == "UTC" else ""
    month, days = _written(cron.months, 1, 12, ".."), _written(cron.days, 1, 31, "..")
    week = ",".join(_WEEK[day] for day in sorted(cron.weekdays)) + " " if len(cron.weekdays) < 7 else ""
    either = [f"*-{month}-{days}", f"{week}*-{month}-*"]
    dates = [f"{week}*-{month}-{days}"] if cron.takes_both else either
    return [*(f"{date} {time}" for date in dates), *_around_changes(schedule, zone, now)]


def _around_changes(schedule: Schedule, zone: tzinfo, now: float) -> list[str]:
    cron, found = schedule.cron, list[str]()
    for day in _days(int(now // (DAY * 60))):
        if offset(zone, day * DAY - 1) == offset(zone, (day + 1) * DAY - 1):
            continue
        lost = defaultdict[int, list[int]](list)
        for instant in instants_of_day(cron, zone, day):
            local = datetime.fromtimestamp(instant, zone)
            if local.fold or not cron.has(local.replace(tzinfo=None)):
                lost[int(instant // 3600)].append(int(instant // 60 % 60))
        for hour, minutes in lost.items():
            date = datetime.fromtimestamp(hour * 3600, UTC)
            found.append(f"{date:%Y-%m-%d %H}:{_written(minutes, 0, 59, '..')}:00 UTC")
    return found


def _written(values: Collection[int], least: int, most: int, dots: str) -> str:
    if len(values) == most - least + 1:
        return "*"
    return ",".join(_runs(sorted(values), dots))


def _runs(values: list[int], dots: str) -> Iterable[str]:
    """As ranges, where at least three stand in a row."""
    while values:
        end = next((n for n in range(1, len(values)) if values[n] != values[n - 1] + 1), len(values))
        run, values = values[:end], values[end:]
        yield from [f"{run[0]}{dots}{run[-1]}"] if len(run) > 2 else map(str, run)
