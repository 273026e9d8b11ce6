"""Cron expressions as Debian's cron reads them: what is wrong with one, and which days and minutes it means.

cronsim says one in words, and does no more here: it takes what no cron knows (seconds, L, #, `5/10`), and the line goes
to cron as it was typed; it reads `3-3/2` as `3-59/2`; and its instants are wrong where schedule.py says.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from datetime import date, datetime
from functools import lru_cache
from typing import NamedTuple

NICKNAMES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
EXAMPLE = '"30 2 * * 1-5" is half past two, Monday to Friday'
LONGEST = 200  # cron cuts a line at about a thousand characters
HOUR, DAY = 60, 1440  # in minutes
_EPOCH = date(1970, 1, 1).toordinal()
_ITEM = re.compile(r"(\*|(\w+)(?:-(\w+))?)(?:/(\w+))?", re.ASCII)


class Field(NamedTuple):
    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()  # the first means `least`

    def value(self, word: str) -> int | None:
        if word.upper() in self.words:
            return self.words.index(word.upper()) + self.least
        return int(word) if word.isdecimal() and len(word) < 4 and self.least <= int(word) <= self.most else None

    def read(self, written: str) -> frozenset[int]:
        """What a text without faults means."""
        found = set[int]()
        for item in written.split(","):
            range_, _, step = item.partition("/")
            first, _, last = range_.partition("-")
            low, high = self.value(first), self.value(last or first)
            whole = range(self.least, self.most + 1) if low is None or high is None else range(low, high + 1)
            found.update(whole[:: int(step or 1)])
        return frozenset(found)


FIELDS = (
    Field("minute", 0, 59), Field("hour", 0, 23), Field("day of month", 1, 31),
    Field("month", 1, 12, tuple("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split())),
    Field("day of week", 0, 7, tuple("SUN MON TUE WED THU FRI SAT".split())),
)  # fmt: skip


def plain(text: str) -> str:
    """Five fields with one blank between, also for a nickname."""
    return NICKNAMES.get(text.strip().lower(), " ".join(text.split()))


def fault(text: str) -> str | None:
    """What is wrong with it, with the way out; None: cron and orch understand it alike."""
    five = plain(text)
    if five.startswith("@"):
        if five.lower() == "@reboot":
            return 'at "@reboot": that is no time, so nothing is ever due: "@daily" with --catch-up 1d comes near'
        return f'at "{five}": there is no such name: {", ".join(NICKNAMES)}'
    fields = five.split(" ")
    if len(fields) != len(FIELDS):
        seconds = "; cron knows no seconds" if len(fields) == 6 else ""
        names = ", ".join(field.name for field in FIELDS)
        return f'at "{five}": {len(fields) if five else "no"} fields, and it takes five ({names}){seconds}: {EXAMPLE}'
    if len(five) > LONGEST:
        return f"at: {len(five)} characters, and cron takes few more than {LONGEST} of them: use ranges and steps"
    for field, written in zip(FIELDS, fields, strict=True):
        for item in written.split(","):
            if said := _fault_of(field, item):
                return f'at "{five}": {field.name}: {said}'
    return None


def _fault_of(field: Field, item: str) -> str | None:
    match = _ITEM.fullmatch(item)
    if match is None:
        return f'"{item}" is neither *, a value, a range nor a step: {EXAMPLE}'
    whole, first, last, step = match.groups()
    for word in (first, last):
        if word and field.value(word) is None:
            names = f", or {field.words[0]} to {field.words[-1]}" if field.words else ""
            return f'"{word}" is not from {field.least} to {field.most}{names}'
    low, high = (field.value(word) if word else None for word in (first, last))
    if low is not None and high is not None and low > high:
        return f'"{whole}" runs backwards: write {first}-{field.most},{field.least}-{last}'
    if step is None:
        return None
    if not step.isdecimal() or len(step) > 3 or int(step) == 0:
        return f'"{step}" is no step: a step is a whole number from 1 on'
    if first and not last:
        return f'"{item}": cron takes a step only after * or a range: write {first}-{field.most}/{step}'
    if int(step) > field.most:
        return f'"{item}" never gets to its second step, for {field.most} is the last: write {first or field.least}'
    return None


class Cron:
    """An expression without faults, taken apart. Days are counted from 1 January 1970, minutes from midnight."""

    def __init__(self, five: str) -> None:
        written = five.split(" ")
        minutes, hours, self.days, self.months, weekdays = (
            field.read(text) for field, text in zip(FIELDS, written, strict=True)
        )
        self.is_wild = written[0].startswith("*") or written[1].startswith("*")
        self.times = sorted(hour * HOUR + minute for hour in hours for minute in minutes)
        self.weekdays = frozenset(day % 7 for day in weekdays)
        self.takes_both = written[2].startswith("*") or written[4].startswith("*")  # also of `*/2`: so does cron

    def falls_on(self, day: int) -> bool:
        found = date.fromordinal(_EPOCH + day)
        if found.month not in self.months:
            return False
        by_day, by_weekday = found.day in self.days, found.isoweekday() % 7 in self.weekdays
        return by_day and by_weekday if self.takes_both else by_day or by_weekday

    def has(self, local: datetime) -> bool:
        return local.hour * HOUR + local.minute in self.times and self.falls_on(local.toordinal() - _EPOCH)

    def between(self, first: int, end: int) -> list[int]:
        """The minutes from `first` on and before `end` that fit, as a clock counts that is never changed."""
        found = list[int]()
        for day in range(first // DAY, (end - 1) // DAY + 1):
            if self.falls_on(day):
                low, high = (bisect_left(self.times, edge - day * DAY) for edge in (first, end))
                found += [day * DAY + time for time in self.times[low:high]]
        return found


@lru_cache(maxsize=64)
def read(five: str) -> Cron:
    return Cron(five)


def in_words(text: str) -> str:
    from cronsim.explain import explain  # dataclasses and all: only who shows it pays for it

    return str(explain(plain(text)))
