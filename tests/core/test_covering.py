"""Lines of a crontab, and of a timer, against the instants that they are for."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.covering import calendar_lines, cron_times
from orchestrator.core.expression import fault
from orchestrator.core.schedule import Schedule, all_between
from tests.core.test_schedule import BERLIN, EXPRESSIONS, FIELD_ENDS, LORD_HOWE, NEW_YORK, at, fields
from tests.driving import TIMES

NOW = at("2027-01-15 12:00")
MACHINES = ("UTC", BERLIN, NEW_YORK, LORD_HOWE, "Asia/Kolkata")
CHANGES = (
    "2027-03-14",
    "2027-03-28",
    "2027-04-03",
    "2027-10-02",
    "2027-10-31",
    "2027-11-07",
    "2028-02-29",
    "2027-06-01",
)


def begun_by(lines: list[str], machine: str, first: float, end: float) -> set[float]:
    """What cron in that zone would start."""
    found = set[float]()
    for line in lines:
        assert fault(line) is None
        found.update(all_between(Schedule("line", line), ZoneInfo(machine), first, end, 10**6))
    return found


@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, "UTC"])
@pytest.mark.parametrize("machine", MACHINES)
def test_cron_begins_at_every_instant_whatever_zone_it_lives_in(zone: str, machine: str) -> None:
    for text in EXPRESSIONS if TIMES else ("*/15 * * * *", "0,30 2 * * *", "45 1 * * *"):
        one = Schedule("a", text)
        lines = cron_times(one, ZoneInfo(zone), ZoneInfo(machine), NOW)
        for day in CHANGES:
            first, end = at(day) - 86400, at(day) + 2 * 86400
            missing = {*all_between(one, ZoneInfo(zone), first, end, 10**6)} - begun_by(lines, machine, first, end)
            assert not missing, (text, lines, min(missing))


@settings(deadline=None, max_examples=300 if TIMES else 10)
@given(
    text=st.tuples(*(fields(*ends) for ends in FIELD_ENDS)).map(" ".join),
    zone=st.sampled_from(MACHINES),
    machine=st.sampled_from(MACHINES),
    day=st.sampled_from(CHANGES),
)
def test_so_for_any_expression(text: str, zone: str, machine: str, day: str) -> None:
    one, first, end = Schedule("a", text), at(day) - 86400, at(day) + 86400
    lines = cron_times(one, ZoneInfo(zone), ZoneInfo(machine), NOW)
    assert {*all_between(one, ZoneInfo(zone), first, end, 10**6)} <= begun_by(lines, machine, first, end)


@pytest.mark.parametrize(
    ("text", "zone", "machine", "lines"),
    [
        ("30 2 * * 1-5", BERLIN, BERLIN, ["30 2 * * 1-5"]),
        ("@daily", BERLIN, "Europe/Vienna", ["0 0 * * *"]),  # they have been alike for long
        ("0 3 * * 1", BERLIN, "UTC", ["0 1,2 * * *"]),  # as many as both offsets demand, and no more
        ("*/15 2 * * *", "Asia/Kolkata", "UTC", ["30,45 20 * * *", "0,15 21 * * *"]),
        ("0 * * * *", BERLIN, "UTC", ["0 * * * *"]),
        ("30 1 * * *", "UTC", BERLIN, ["30 * * * *"]),  # 2:30 comes twice there, and the second is meant
    ],
)
def test_lines_are_as_few_as_the_zones_allow(text: str, zone: str, machine: str, lines: list[str]) -> None:
    assert cron_times(Schedule("a", text), ZoneInfo(zone), ZoneInfo(machine), NOW) == lines


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("0 3 * * *", ["*-*-* 3:0:00 Europe/Berlin"]),
        ("*/15 9-17 * JAN-MAR 1-5", ["Mon,Tue,Wed,Thu,Fri *-1..3-* 9..17:0,15,30,45:00 Europe/Berlin"]),
        ("5 4 1,15 * MON", ["*-*-1,15 4:5:00 Europe/Berlin", "Mon *-*-* 4:5:00 Europe/Berlin"]),  # either
        ("5 4 1-7 * */2", ["Sun,Tue,Thu,Sat *-*-1..7 4:5:00 Europe/Berlin"]),  # both
    ],
)
def test_a_timer_is_told_what_the_expression_means(text: str, lines: list[str]) -> None:
    assert calendar_lines(Schedule("a", text), ZoneInfo(BERLIN), NOW) == lines


def test_a_timer_is_told_what_it_would_lose_where_clocks_change() -> None:
    left_out = calendar_lines(Schedule("a", "30 2 * * *"), ZoneInfo(BERLIN), NOW)
    assert left_out[:3] == ["*-*-* 2:30:00 Europe/Berlin", "2027-03-28 01:0:00 UTC", "2028-03-26 01:0:00 UTC"]
    assert len(left_out) == 11  # for ten years
    twice = calendar_lines(Schedule("a", "*/20 2 * * *"), ZoneInfo(BERLIN), NOW)
    assert twice[:2] == ["*-*-* 2:0,20,40:00 Europe/Berlin", "2027-10-31 01:0,20,40:00 UTC"]
    assert calendar_lines(Schedule("a", "0 3 * * *"), UTC, NOW) == ["*-*-* 3:0:00 UTC"]
