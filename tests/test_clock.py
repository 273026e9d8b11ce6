from __future__ import annotations

import time
from datetime import UTC, datetime, tzinfo

import pytest

from orchestrator import clock
from orchestrator.errors import UsageError


def test_now_is_the_time_of_day_and_the_ticking_clock_counts_from_the_boot():
    assert abs(clock.now() - time.time()) < 60
    assert abs(clock.ticking() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 60


def test_the_ticking_clock_never_goes_back():
    ticks = [clock.ticking() for _ in range(1000)]
    assert ticks == sorted(ticks)


def test_a_pause_lasts_at_least_as_long_as_it_should():
    since = clock.ticking()
    clock.pause(0.02)
    assert clock.ticking() - since >= 0.02


def test_a_moment_has_both_clocks_and_a_draw_that_differs():
    moments = [clock.System().moment() for _ in range(20)]
    assert len({moment.draw for moment in moments}) == 20 and all(0 <= moment.draw < 1 for moment in moments)
    assert abs(moments[0].now - clock.now()) < 60 and abs(moments[0].tick - clock.ticking()) < 60


def offset(zone: tzinfo, month: int) -> int:
    found = datetime(2027, month, 15, tzinfo=UTC).astimezone(zone).utcoffset()
    assert found is not None
    return int(found.total_seconds() // 60)


def test_a_zone_has_the_offsets_of_its_seasons():
    assert [offset(clock.zone("Europe/Berlin"), month) for month in (1, 7)] == [60, 120]
    assert [offset(clock.zone("Australia/Lord_Howe"), month) for month in (1, 7)] == [660, 630]


def test_without_a_name_it_is_that_of_this_process_and_else_of_the_machine(monkeypatch, tmp_path):
    for told in ("Asia/Tokyo", ":Asia/Tokyo"):
        monkeypatch.setenv("TZ", told)
        assert offset(clock.zone(), 1) == 540
    monkeypatch.setattr(clock, "LOCALTIME", "/usr/share/zoneinfo/America/New_York")
    assert offset(clock.machine_zone(), 1) == -300 and str(clock.machine_zone()) == "America/New_York"
    for told in ("", None):
        monkeypatch.setenv("TZ", told) if told is not None else monkeypatch.delenv("TZ")
        assert offset(clock.zone(), 1) == -300
    for nothing in (tmp_path / "none", tmp_path, __file__):
        monkeypatch.setattr(clock, "LOCALTIME", str(nothing))
        assert clock.zone() is UTC


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("Berlin", "did you mean Europe/Berlin?"),
        ("../../etc/passwd", "name one as Europe/Berlin"),
        ("Europe", None),
        ("\0", None),
        ("x" * 300, None),
    ],
)
def test_a_zone_that_does_not_exist_is_refused_with_the_nearest(name, hint):
    with pytest.raises(UsageError) as refused:
        clock.zone(name)
    assert hint is None or hint in refused.value.remedy


def test_a_zone_from_the_environment_says_where_it_comes_from(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    with pytest.raises(UsageError, match=r"\$TZ"):
        clock.zone()
