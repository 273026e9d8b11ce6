"""Quiet hours by the clock on the wall, also over midnight and when that clock is changed."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from orchestrator.core.quiet import quiet_of

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("hours", "now", "until"),
    [
        ("22:00-07:00", "2026-11-20 21:59:59", None),
        ("22:00-07:00", "2026-11-20 22:00:00", "2026-11-21 07:00"),
        ("22:00-07:00", "2026-11-20 23:59:59", "2026-11-21 07:00"),
        ("22:00-07:00", "2026-11-21 00:00:00", "2026-11-21 07:00"),
        ("22:00-07:00", "2026-11-21 06:59:59", "2026-11-21 07:00"),
        ("22:00-07:00", "2026-11-21 07:00:00", None),
        ("12:30-13:15", "2026-11-20 12:30:00", "2026-11-20 13:15"),
        ("12:30-13:15", "2026-11-20 13:15:00", None),
        ("12:30-13:15", "2026-11-20 12:29:59", None),
        ("22:00-00:00", "2026-12-31 23:00:00", "2027-01-01 00:00"),
        ("00:00-06:00", "2026-11-20 00:00:00", "2026-11-20 06:00"),
        ("22:00-07:00", "2026-03-28 23:00:00", "2026-03-29 07:00"),  # one hour less
        ("22:00-07:00", "2026-10-24 23:00:00", "2026-10-25 07:00"),  # one hour more
    ],
)
def test_they_hold_until_their_end(hours: str, now: str, until: str | None) -> None:
    assert quiet_of(hours).until(at(now), BERLIN) == (None if until is None else at(until))


def test_an_end_that_the_clock_skips_or_shows_twice_still_comes() -> None:
    skipped = quiet_of("01:00-02:30").until(at("2026-03-29 01:30"), BERLIN)
    assert skipped is not None
    assert at("2026-03-29 01:59") < skipped <= at("2026-03-29 03:30")
    again = quiet_of("01:00-02:30").until(at("2026-10-25 02:10", fold=1), BERLIN)
    assert again == at("2026-10-25 02:30", fold=1)


def test_every_minute_of_a_year_with_both_changes_has_an_end_ahead_of_it() -> None:
    quiet = quiet_of("22:00-07:00")
    for minute in range(0, 366 * 24 * 60, 31):
        now = at("2026-01-01 00:00") + 60 * minute
        hour = datetime.fromtimestamp(now, UTC).astimezone(BERLIN).hour
        until = quiet.until(now, BERLIN)
        assert (until is not None) == (hour >= 22 or hour < 7)
        assert until is None or now < until <= now + 10 * 3600


@pytest.mark.parametrize("text", ["", "22-7", "24:00-07:00", "22:60-07:00", "22:00", "22:00-22:00", "10pm-7am"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quiet hours"):
        quiet_of(text)
