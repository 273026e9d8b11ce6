"""Schedules: when a run is due by itself, exact to the minute, and what is to happen when it could not begin then.

As Debian's cron: an expression whose minute or hour begins with `*` means each real minute that fits, also those of an
hour that comes twice. Any other means a time of day: in an hour that comes twice the first of the two, and in one that
is left out the first instant after it, once. cronsim has the same rule, and yet is a day off where a search begins in
the second of two hours, and loses some where a clock is changed by half an hour; so it is not asked for instants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from orchestrator.core import expression
from orchestrator.core.expression import DAY, Cron
from orchestrator.core.names import epoch
from orchestrator.core.value import Value

SKIP, QUEUE, REPLACE = OVERLAPS = ("skip", "queue", "replace")
HORIZON = 50 * 366  # days: what does not come within fifty years never comes
_DAY = DAY * 60.0


class Schedule(Value):
    name: str
    at: str  # as it was typed
    tz: str = ""  # the machine's own
    overlap: str = SKIP
    catch_up: float = 0.0  # seconds after an instant in which a start may be made up for
    catch_up_all: bool = False  # each that was missed; else the latest
    anew: bool = True  # each instant begins a run; else it goes on with the last
    options: tuple[str, ...] = ()  # of `orch run`
    since: str = ""  # ISO, UTC: nothing before it is due
    watch: float = 0.0  # seconds after an instant when a start that did not come counts as missed; 0: nobody watches
    systemd: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schedule:
        """ValueError or TypeError: these are not the fields of a schedule, or not of their kinds."""
        made = cls(**{**data, "options": tuple(data.get("options", ()))})
        for name in made._fields:
            value, kind = getattr(made, name), type(cls._defaults.get(name, ""))
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise ValueError(f"{name} is {value!r}")
            if kind is float and not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value!r}")
        if not all(type(option) is str for option in made.options):
            raise ValueError(f"options are {made.options!r}")
        if made.since:
            epoch(made.since)
        return made

    @property
    def cron(self) -> Cron:
        return expression.read(expression.plain(self.at))


def faults(schedule: Schedule) -> list[str]:
    """What cannot be meant, each with a way out."""
    found = list(_contradictions(schedule))
    if said := expression.fault(schedule.at):
        return [said, *found]
    if following(schedule.replace(since=""), UTC, 0.0) == math.inf:
        found.insert(0, f'at "{expression.plain(schedule.at)}": no such day ever comes: correct the day or the month')
    return found


def _contradictions(schedule: Schedule) -> Iterator[str]:
    if schedule.overlap not in OVERLAPS:
        yield f'overlap: "{schedule.overlap}" is none of {", ".join(OVERLAPS)}'
    if schedule.catch_up_all and not schedule.catch_up:
        yield "catch-up-all without catch-up: say how far back, as in --catch-up 6h"
    if schedule.catch_up_all and schedule.overlap in (SKIP, REPLACE):
        fate = "be skipped for" if schedule.overlap == SKIP else "end"
        yield (
            f"catch-up-all with overlap {schedule.overlap}: each run that is made up for would {fate} the one before"
            " it: use --overlap queue, or leave out --catch-up-all"
        )
    if schedule.catch_up_all and not schedule.anew:
        yield (
            "catch-up-all with --continue: the first that is made up for would do the work of all:"
            " use --new, or leave out --catch-up-all"
        )
    if schedule.overlap == REPLACE and schedule.systemd:
        yield (
            "overlap replace with --systemd: a service that runs is not started a second time, so nobody would end it:"
            " use --overlap skip or queue, or cron"
        )
    if schedule.overlap == REPLACE and not schedule.anew:
        yield (
            "overlap replace with --continue: it would end the run that it then goes on with:"
            " use --overlap skip, or --new"
        )


def latest(schedule: Schedule, zone: tzinfo, after: float, now: float) -> float | None:
    """The latest instant in (after, now], without a look at those before it."""
    return next(_backwards(schedule, zone, after, now), None)


def all_between(schedule: Schedule, zone: tzinfo, after: float, until: float, most: int) -> list[float]:
    """In (after, until], oldest first; of more than `most` the newest: who asks for one more sees whether there are."""
    found = list[float]()
    for instant in _backwards(schedule, zone, after, until):
        if len(found) >= most:
            break
        found.append(instant)
    return found[::-1]


def following(schedule: Schedule, zone: tzinfo, after: float) -> float:
    """The first instant after that; without end where none comes within fifty years, and then it has a fault."""
    cron = schedule.cron
    first = int(max(after, _begin(schedule)) // _DAY)
    for day in range(first, first + HORIZON):
        for instant in instants_of_day(cron, zone, day):
            if instant > after and instant >= _begin(schedule):
                return instant
    return math.inf


def _begin(schedule: Schedule) -> float:
    return epoch(schedule.since) if schedule.since else 0.0


def _backwards(schedule: Schedule, zone: tzinfo, after: float, until: float) -> Iterator[float]:
    cron, begin = schedule.cron, _begin(schedule)
    last = int(until // _DAY)
    for day in range(last, max(int(max(after, begin) // _DAY), last - HORIZON) - 1, -1):
        for instant in reversed(instants_of_day(cron, zone, day)):
            if begin <= instant <= until and instant > after:
                yield instant


def instants_of_day(cron: Cron, zone: tzinfo, day: int) -> list[float]:
    """The instants of one day of UTC, in which clocks are changed once at most."""
    start, end = day * DAY, (day + 1) * DAY
    before, after = offset(zone, start - 1), offset(zone, end - 1)
    if before == after:
        found = _atoffset(cron, start, end, after)
    else:
        turn = _turn(zone, start - 1, end - 1)
        found = _atoffset(cron, start, turn, before)
        later = _atoffset(cron, turn, end, after)
        is_left_out = not cron.is_wild and bool(cron.between(turn + before, turn + after))
        found += [turn] if is_left_out and later[:1] != [turn] else []
        found += later
    return [minute * 60.0 for minute in found if cron.is_wild or not datetime.fromtimestamp(minute * 60, zone).fold]


def _atoffset(cron: Cron, first: int, end: int, offset: int) -> list[int]:
    return [minute - offset for minute in cron.between(first + offset, end + offset)]


def offset(zone: tzinfo, minute: int) -> int:
    """Minutes by which clocks there are ahead of UTC."""
    offset = datetime.fromtimestamp(minute * 60, zone).utcoffset()
    return int(offset.total_seconds() // 60) if offset else 0


def _turn(zone: tzinfo, low: int, high: int) -> int:
    """The first minute of the new time; `low` has the old one, `high` the new."""
    old = offset(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset(zone, middle) == old else (low, middle)
    return high
