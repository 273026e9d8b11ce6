"""Instants against a scan of every minute: written with zoneinfo alone, and with expressions read a second time."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from orchestrator.core import expression
from orchestrator.core.names import iso
from orchestrator.core.schedule import Schedule, all_between, faults, following, latest
from tests.driving import TIMES

BERLIN, NEW_YORK, LORD_HOWE = ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe")
EXPRESSIONS = (
    "* * * * *", "*/15 * * * *", "0 * * * *", "30 2 * * *", "0,30 2 * * *", "0 2,3 * * *", "*/10 2 * * *", "15 */2 * * *",
    "45 1 * * *", "0 1,2,3 * * 7", "59 1-3 * * 0", "0 0 29 2 *", "30 2 29 2 *", "5 4 1 * MON", "5 4 */2 * MON", "5 4 1,15 * *",
    "0 12 * JAN-MAR,oct Mon-Fri", "7-59/13 0-23/5 * */3 1-7/2", "15 2 8-14 3,11 *", "*,5 1 * * *", "0 0 31 * *",
)  # fmt: skip
MINUTE = 60


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def schedule(text: str, **keys: object) -> Schedule:
    return Schedule("night", text, **keys)


# The other way to know: every minute is looked at


class Sets(NamedTuple):
    minutes: set[int]
    hours: set[int]
    days: set[int]
    months: set[int]
    weekdays: set[int]
    is_wild: bool
    both_days: bool

    @classmethod
    def of(cls, text: str) -> Sets:
        names = ("jan feb mar apr may jun jul aug sep oct nov dec", "sun mon tue wed thu fri sat")
        words = {
            word: str(n)
            for listed, start in zip(names, (1, 0), strict=True)
            for n, word in enumerate(listed.split(), start)
        }
        fields = text.lower().split()
        ends = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
        found = [cls._set(field, *edges, words) for field, edges in zip(fields, ends, strict=True)]
        found[4] = {day % 7 for day in found[4]}
        return cls(*found, fields[0][0] == "*" or fields[1][0] == "*", fields[2][0] == "*" or fields[4][0] == "*")

    @staticmethod
    def _set(field: str, least: int, most: int, words: dict[str, str]) -> set[int]:
        found = set[int]()
        for item in field.split(","):
            range_, _, step = item.partition("/")
            low, _, high = range_.partition("-")
            if low == "*":
                low, high = str(least), str(most)
            low, high = (words.get(word, word) for word in (low, high or low))
            found |= set(range(int(low), int(high) + 1, int(step or 1)))
        return found

    def fits(self, local: datetime) -> bool:
        if local.minute not in self.minutes or local.hour not in self.hours or local.month not in self.months:
            return False
        day, weekday = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return day and weekday if self.both_days else day or weekday


@cache
def minutes_of(zone: str, first: int, end: int) -> list[tuple[int, datetime]]:
    there = ZoneInfo(zone)
    return [
        (second, datetime.fromtimestamp(second, there).replace(tzinfo=None)) for second in range(first, end, MINUTE)
    ]


def scan(text: str, zone: str, first: int, end: int) -> Iterator[int]:
    sets = Sets.of(text)
    seen = datetime.fromtimestamp(first - MINUTE, ZoneInfo(zone)).replace(tzinfo=None)
    one = timedelta(minutes=1)
    for second, local in minutes_of(zone, first, end):
        if sets.is_wild:
            if sets.fits(local):
                yield second
            continue
        is_due = False
        while seen < local:  # usually one step: more where clocks went forward, none while they are had again
            seen += one
            is_due |= sets.fits(seen)
        if is_due:
            yield second


def stretches(zone: str) -> list[tuple[int, int]]:
    """Ten years, or in the short form of two of them: three days around every change, and the ends of February."""
    if TIMES:
        return [(int(at("2026-01-01")), int(at("2036-01-01")))]
    found, there = list[tuple[int, int]](), ZoneInfo(zone)
    for day in range(int(at("2027-01-01")), int(at("2029-01-01")), 86400):
        offsets = {datetime.fromtimestamp(edge, there).utcoffset() for edge in (day, day + 86400)}
        if len(offsets) > 1:
            found.append((day - 86400, day + 2 * 86400))
    return found + [(int(at(f"{year}-02-28")), int(at(f"{year}-03-02"))) for year in (2027, 2028)]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.timeout(1200)
def test_ten_years_agree_with_a_scan_of_every_minute(zone: str) -> None:
    for first, end in stretches(zone):
        for text in EXPRESSIONS:
            wanted = list(scan(text, zone, first, end))
            found = all_between(schedule(text), ZoneInfo(zone), first - 1, end - 1, 10**7)
            assert found == wanted, (text, zone, first)


@pytest.mark.parametrize("zone", ZONES)
def test_a_search_may_begin_at_any_minute_around_a_change(zone: str) -> None:
    """Also in the second of two hours, where one that goes by the local time alone is a day off."""
    there = ZoneInfo(zone)
    for first, end in stretches(zone)[:2]:
        for text in ("30 2 * * *", "*/10 2 * * *", "45 1 * * *"):
            wanted = list(scan(text, zone, first, end))
            for now in range(first + 86400 - 4 * 3600, first + 86400 + 20 * 3600, 11 * MINUTE):
                before = [instant for instant in wanted if instant <= now]
                after = [instant for instant in wanted if instant > now]
                assert latest(schedule(text), there, first - 1, now) == (before[-1] if before else None)
                assert not after or following(schedule(text), there, now) == after[0]


FIELD_ENDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


@st.composite
def fields(draw: st.DrawFn, least: int, most: int) -> str:
    items = []
    for _ in range(draw(st.integers(1, 3))):
        low = draw(st.integers(least, most))
        high = draw(st.integers(low, most))
        step = draw(st.integers(1, most))
        items.append(draw(st.sampled_from(["*", f"{low}", f"{low}-{high}", f"{low}-{high}/{step}", f"*/{step}"])))
    return ",".join(items)


@pytest.mark.timeout(1200)
@settings(deadline=None, max_examples=40 if not TIMES else 300)
@given(
    text=st.tuples(*(fields(*ends) for ends in FIELD_ENDS)).map(" ".join),
    zone=st.sampled_from(ZONES),
    which=st.integers(0, 19),
)
@example("0 2 * * *", LORD_HOWE, 0)
@example("3-3/2 * * * 3-3/1", BERLIN, 0)  # cronsim: 3-59/2, and Wednesday to Sunday
def test_any_expression_agrees_with_the_scan(text: str, zone: str, which: int) -> None:
    assert expression.fault(text) is None
    changes = (
        stretches(zone)
        if not TIMES
        else [(first, first + 90 * 86400) for first in (int(at("2027-03-01")), int(at("2027-09-15")))]
    )
    first, end = changes[which % len(changes)]
    found = all_between(schedule(text), ZoneInfo(zone), first - 1, end - 1, 10**6)
    assert found == list(scan(text, zone, first, end))


@settings(deadline=None, max_examples=60)
@given(
    text=st.tuples(*(fields(*ends) for ends in FIELD_ENDS)).map(" ".join),
    now=st.integers(1.6e9, 2.2e9),
    zone=st.sampled_from(ZONES),
)
def test_forwards_and_backwards_are_the_same_row(text: str, now: int, zone: str) -> None:
    there, one = ZoneInfo(zone), schedule(text)
    row = [float(now)]
    for _ in range(4):
        row.append(following(one, there, row[-1]))
    assume(row[-1] < math.inf)
    assert row == sorted(set(row)) and all(instant % 60 == 0 for instant in row[1:])
    assert all_between(one, there, now, row[-1], 10) == row[1:]
    assert latest(one, there, now, row[-1]) == row[-1] and latest(one, there, now, row[-1] - 1) == row[-2]


# By name, what the scan says of all


@pytest.mark.parametrize(
    ("text", "zone", "day", "wanted"),
    [
        ("30 2 * * *", BERLIN, "2027-03-28", ["01:00"]),  # 2:30 is left out: at once after it
        ("30 2 * * *", BERLIN, "2027-10-31", ["00:30"]),  # the first 2:30 of two
        ("0,30 2 * * *", BERLIN, "2027-03-28", ["01:00"]),  # both fall on one instant, and that is one
        ("0 2,3 * * *", BERLIN, "2027-03-28", ["01:00"]),
        ("*/30 2 * * *", BERLIN, "2027-03-28", []),  # each real minute that fits: there is none
        ("*/30 2 * * *", BERLIN, "2027-10-31", ["00:00", "00:30", "01:00", "01:30"]),
        ("30 * * * *", BERLIN, "2027-10-31", [f"{hour:02}:30" for hour in range(24)]),
        ("15 2 * * *", LORD_HOWE, "2027-10-02", ["15:30"]),  # 2:00 becomes 2:30
        ("45 1 * * *", LORD_HOWE, "2027-04-03", ["14:45"]),  # 2:00 becomes 1:30
        ("*/15 1 * * *", LORD_HOWE, "2027-04-03", ["14:00", "14:15", "14:30", "14:45", "15:00", "15:15"]),
        (
            "*/10 2 * * *",
            LORD_HOWE,
            "2027-04-03",
            ["15:30", "15:40", "15:50", "16:00", "16:10", "16:20"],
        ),  # cronsim: from 16:00
        ("0 0 29 2 *", "UTC", "2028-02-29", ["00:00"]),
        ("0 0 29 2 *", "UTC", "2027-03-01", []),
        ("0 12 * * *", "Pacific/Apia", "2011-12-30", ["10:00", "22:00"]),  # a day that Samoa did not have, and the next
    ],
)
def test_both_changes_and_the_29th_of_february(text: str, zone: str, day: str, wanted: list[str]) -> None:
    begin = at(day)
    found = all_between(schedule(text), ZoneInfo(zone), begin - 1, begin + 86400 - 1, 10**4)
    assert [iso(instant)[11:16] for instant in found] == wanted


def test_days_of_month_and_week_mean_either_unless_one_begins_with_a_star() -> None:
    week = (at("2027-02-01"), at("2027-02-08") - 1)  # a Monday
    assert len(all_between(schedule("0 0 3 * fri"), UTC, week[0] - 1, week[1], 9)) == 2
    assert len(all_between(schedule("0 0 */2 * fri"), UTC, week[0] - 1, week[1], 9)) == 1
    assert len(all_between(schedule("0 0 1-7 * */2"), UTC, week[0] - 1, week[1], 9)) == 4
    assert all_between(schedule("0 0 * * 7"), UTC, *week, 9) == all_between(schedule("0 0 * * sUn"), UTC, *week, 9)


@pytest.mark.parametrize("name", expression.NICKNAMES)
def test_a_nickname_means_what_cron_means(name: str) -> None:
    assert faults(schedule(name)) == []
    assert following(schedule(name), UTC, 0.0) == following(schedule(expression.NICKNAMES[name]), UTC, 0.0)


def test_of_very_many_the_newest_are_had_without_a_walk_through_the_others() -> None:
    now = at("2036-01-01")
    looked: list[int] = []

    class Counting(ZoneInfo):
        def utcoffset(self, when: datetime | None) -> timedelta | None:
            looked.append(1)
            return super().utcoffset(when)

    there = Counting(BERLIN)
    assert latest(schedule("* * * * *"), there, at("2026-01-01"), now) == now
    assert all_between(schedule("* * * * *"), there, at("2026-01-01"), now, 3) == [now - 120, now - 60, now]
    assert len(looked) < 10
    assert latest(schedule("0 0 29 2 */7"), there, 0.0, now) == at("2032-02-29", BERLIN)


def test_the_edges_belong_to_the_end() -> None:
    three, four = at("2027-01-01 03:00"), at("2027-01-01 04:00")
    hourly = schedule("@hourly")
    assert all_between(hourly, UTC, three, four, 9) == [four]
    assert latest(hourly, UTC, three, four) == four and latest(hourly, UTC, three, four - 1) is None
    assert following(hourly, UTC, three) == four and following(hourly, UTC, three - 0.5) == three


def test_nothing_before_a_schedule_was_added_is_due() -> None:
    late = schedule("@hourly", since="2027-01-01T03:00:00.500Z")
    four = at("2027-01-01 04:00")
    assert all_between(late, UTC, 0.0, four, 9) == [four]
    assert latest(late, UTC, 0.0, four - 1) is None and following(late, UTC, 0.0) == four


# What is refused


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no fields"),
        ("0 3 * *", "4 fields, and it takes five"),
        ("0 0 3 * * *", "cron knows no seconds"),
        ("60 * * * *", 'minute: "60" is not from 0 to 59'),
        ("0 24 * * *", 'hour: "24"'),
        ("0 0 0 * *", 'day of month: "0"'),
        ("0 0 * 13 *", 'month: "13" is not from 1 to 12, or JAN to DEC'),
        ("0 0 * * 8", 'day of week: "8" is not from 0 to 7, or SUN to SAT'),
        ("0 0 * * monday", '"monday"'),
        ("5/10 * * * *", "write 5-59/10"),
        ("*/90 * * * *", "never gets to its second step"),
        ("*/0 * * * *", "no step"),
        ("0 22-2 * * *", "write 22-23,0-2"),
        ("0 0 * * fri-mon", "write fri-7,0-mon"),
        ("0 0 L * *", 'day of month: "L"'),
        ("0 0 * * mon#2", '"mon#2" is neither'),
        ("1,,2 * * * *", '"" is neither'),
        ("-1 * * * *", "minute"),
        ("0 ٣ * * *", "hour"),
        ("% * * * *", '"%"'),
        ("@reboot", "that is no time"),
        ("@often", "@hourly"),
        ("0 0 30 2 *", "no such day ever comes"),
        ("0 0 31 2,4,6,9,11 */2", "no such day ever comes"),
        (",".join(["0"] * 200) + " * * * *", "characters"),
    ],
)
def test_a_bad_expression_is_refused_with_its_field_and_a_way_out(text: str, told: str) -> None:
    found = faults(schedule(text))
    assert len(found) == 1 and told in found[0]


@pytest.mark.parametrize(
    "text", ["0 22-23,0-2 * * *", "5-59/10 * * * *", "0 0 * * fri-7,0-mon", "0 0 29 2 */7", "0 0 30 2 mon"]
)
def test_the_ways_out_lead_out(text: str) -> None:
    assert faults(schedule(text)) == []


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"overlap": "allow"}, "skip, queue, replace"),
        ({"catch_up_all": True, "overlap": "queue"}, "without catch-up"),
        ({"catch_up_all": True, "catch_up": 60.0}, "overlap skip: each run that is made up for would be skipped"),
        ({"catch_up_all": True, "catch_up": 60.0, "overlap": "replace"}, "would end the one before it"),
        ({"catch_up_all": True, "catch_up": 60.0, "overlap": "queue", "anew": False}, "the work of all"),
        ({"overlap": "replace", "anew": False}, "the run that it then goes on with"),
    ],
)
def test_what_contradicts_itself_is_refused(keys: dict[str, object], told: str) -> None:
    found = faults(schedule("@daily", **keys))
    assert len(found) == 1 and told in found[0]


def test_everything_else_goes_together() -> None:
    for overlap, anew, catch_up in (
        ("skip", True, 60.0),
        ("skip", False, 0.0),
        ("queue", True, 0.0),
        ("queue", False, 9.0),
        ("replace", True, 1.0),
    ):
        assert faults(schedule("@daily", overlap=overlap, anew=anew, catch_up=catch_up)) == []
    assert faults(schedule("@daily", overlap="queue", catch_up=60.0, catch_up_all=True)) == []


def test_a_schedule_goes_into_json_and_comes_back() -> None:
    rng = random.Random(7)
    full = schedule(
        "@daily",
        tz=rng.choice(ZONES),
        options=("--from", "-8"),
        since="2027-01-01T00:00:00Z",
        catch_up=60.0,
        watch=900.0,
        systemd=True,
    )
    for one in (full, schedule("0 3 * * *")):
        assert Schedule.from_dict(one.as_dict()) == one
    for bad in (
        {"name": 1},
        {"overlap": None},
        {"options": [1]},
        {"catch_up": "6h"},
        {"catch_up": -1.0},
        {"since": "now"},
        {"new": True},
    ):
        with pytest.raises((ValueError, TypeError)):
            Schedule.from_dict({"name": "night", "at": "@daily", **bad})


def test_an_expression_in_words() -> None:
    assert expression.in_words("30 2 * * 1-5") == "At 02:30 on Monday through Friday"
    assert expression.in_words("@weekly") == "At 00:00 on Sunday"
