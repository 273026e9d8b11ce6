"""Each instant is settled once: what a run is for, what is missed, what waits, and what a clock that jumps does to it."""

from __future__ import annotations

import random
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from orchestrator.core import due
from orchestrator.core.due import (
    CAUGHT_UP,
    LATE,
    RAN,
    SKIPPED,
    Met,
    is_settled,
    looked_at_from,
    meet,
    skipped,
    unsettled,
)
from orchestrator.core.events import InstantSettled
from orchestrator.core.names import epoch, iso
from orchestrator.core.schedule import Schedule
from orchestrator.core.state import State
from tests.core.test_schedule import ZONES, scan, stretches
from tests.driving import times

T0 = 1_790_000_040.0  # a full minute
MINUTE = 60.0


class Life:
    """A schedule of every `step` seconds, and a clock that the test moves."""

    def __init__(self, step: float = MINUTE, catch_up: float = 0.0, *, every: bool = False) -> None:
        self.step, self.catch_up, self.every = step, catch_up, every
        self.state = State()
        self.now = T0 - 1

    @property
    def records(self) -> list[dict[str, Any]]:
        return self.state.schedules.get("s", [])

    def instants(self) -> list[float]:
        start = looked_at_from(T0 - 1, self.records, self.now)
        first = int((start - T0) // self.step) + 1
        last = int((self.now - T0) // self.step)
        return [T0 + place * self.step for place in range(first, last + 1)]

    def meet(self, busy: str = "") -> Met:
        return meet(
            "s", self.instants(), self.records, self.now, self.catch_up, every=self.every, busy=lambda instant: busy
        )

    def fire(self, now: float, busy: str = "") -> Met:
        """What cron starts, all the way."""
        self.now = now
        met = self.meet(busy)
        for event in (*met.settled, *([met.chosen] if met.chosen else [])):
            self.settle(event)
        return met

    def settle(self, event: InstantSettled) -> None:
        assert not is_settled(self.records, event, self.now)
        self.state.apply(event, self.now)

    def settled(self) -> dict[float, str]:
        """Of each instant what became of it; one that has two records is an error."""
        found: dict[float, str] = {}
        for record in self.records:
            place, last = epoch(record["due"]), epoch(record["last"] or record["due"])
            count = 0
            while place <= last:
                assert place not in found
                found[place] = record["how"]
                place, count = place + self.step, count + 1
            assert count == record["count"]
        return found


def test_an_instant_that_comes_is_run_once_however_often_it_is_asked_for() -> None:
    life = Life()
    assert life.fire(T0 - 0.5) == Met()
    met = life.fire(T0 + 1)
    assert met.chosen == InstantSettled("s", iso(T0), RAN) and met.settled == ()
    assert life.fire(T0 + 2) == Met()
    assert life.fire(T0 + 61).chosen == InstantSettled("s", iso(T0 + 60), RAN)


def test_what_nobody_began_is_one_record_of_many() -> None:
    life = Life()
    life.fire(T0 + 1)
    met = life.fire(T0 + 5 * 60 + 2)
    assert met.chosen == InstantSettled("s", iso(T0 + 300), RAN)
    assert met.settled == (
        InstantSettled("s", iso(T0 + 60), SKIPPED, due.MISSED, missed=True, last=iso(T0 + 240), count=4),
    )
    assert life.settled() == {T0 + 60 * n: RAN if n in (0, 5) else SKIPPED for n in range(6)}


def test_an_instant_that_is_too_late_is_missed_and_one_within_the_window_is_caught_up() -> None:
    day = 86400.0
    late = Life(day)
    assert late.fire(T0 + LATE + 1).chosen is None
    assert late.settled() == {T0: SKIPPED}
    caught = Life(day, catch_up=6 * 3600)
    assert caught.fire(T0 + 3600).chosen == InstantSettled("s", iso(T0), CAUGHT_UP)
    assert caught.fire(T0 + 3700) == Met()
    assert caught.fire(T0 + day + 7 * 3600).settled[0].missed
    slow = Life(day)
    assert slow.fire(T0 + LATE).chosen == InstantSettled("s", iso(T0), RAN)


def test_of_several_in_the_window_the_newest_is_caught_up_or_each_in_its_turn() -> None:
    newest = Life(3600.0, catch_up=6 * 3600)
    met = newest.fire(T0 + 3 * 3600 + 1800)
    assert met.chosen == InstantSettled("s", iso(T0 + 3 * 3600), CAUGHT_UP)
    assert [event.count for event in met.settled] == [3]
    each = Life(3600.0, catch_up=2 * 3600, every=True)
    told = [each.fire(T0 + 3 * 3600 + 1800).chosen for _ in range(4)]
    assert told == [
        InstantSettled("s", iso(T0 + 2 * 3600), CAUGHT_UP), InstantSettled("s", iso(T0 + 3 * 3600), CAUGHT_UP),
        None, None,
    ]  # fmt: skip
    assert each.settled() == {T0: SKIPPED, T0 + 3600: SKIPPED, T0 + 7200: CAUGHT_UP, T0 + 10800: CAUGHT_UP}


def test_why_it_was_skipped_is_told_by_what_was_going_on() -> None:
    life = Life()
    busy = {T0 + 60: "r1", T0 + 120: "r1"}
    life.now = T0 + 240
    met = meet("s", life.instants(), [], life.now, 0.0, every=False, busy=lambda instant: busy.get(instant, ""))
    assert [(event.count, event.missed) for event in met.settled] == [(1, True), (2, False), (1, True)]
    assert met.settled[1].why == "run r1 was still going on"


def test_one_that_waits_is_settled_after_later_ones() -> None:
    life = Life()
    life.fire(T0)
    life.now = T0 + 60
    waiting = life.meet()
    for late in (120, 180):
        life.now = T0 + late
        life.settle(skipped("s", [T0 + late], "another one is waiting already"))
    life.now = T0 + 200
    assert life.meet().chosen == waiting.chosen
    life.settle(life.meet().chosen or pytest.fail("lost"))
    assert life.meet() == Met()
    assert len(life.settled()) == 4


def test_a_clock_that_is_set_back_runs_nothing_twice_and_waits_for_nothing() -> None:
    life = Life()
    life.fire(T0)
    life.fire(T0 + 60)
    assert life.fire(T0 + 30) == Met() and life.fire(T0 + 61) == Met()  # a minute that came again
    assert life.fire(T0 + 120).chosen is not None
    ahead = Life()
    ahead.fire(T0)
    ahead.fire(T0 + 3 * 86400)  # a clock that was wrong by days
    met = ahead.fire(T0 + 60)
    assert met.chosen == InstantSettled("s", iso(T0 + 60), RAN), (
        "what is said to be missed in a future that did not come"
    )


def test_chance_leaves_no_instant_without_a_record_and_none_with_two() -> None:
    for seed in range(times(60, 3000)):
        chance = random.Random(seed)
        life = Life(chance.choice([60.0, 3600.0]), chance.choice([0.0, 1800.0, 7200.0]), every=chance.random() < 0.3)
        now = T0 - 1.0
        for _ in range(chance.randrange(1, 30)):
            now += chance.choice([1.0, 59.0, 60.0, 61.0, 600.0, 4000.0])
            life.fire(now, busy=chance.choice(["", "r7"]))
        while life.fire(now).chosen:
            pass
        came = [T0 + place * life.step for place in range(int((now - T0) // life.step) + 1)]
        settled = life.settled()
        kept = [instant for instant in came if instant >= min(settled, default=now)]
        assert sorted(settled) == kept and (len(life.records) == 100 or kept == came), seed


@pytest.mark.parametrize("zone", ZONES)
def test_through_both_changes_a_cron_that_begins_each_minute_settles_what_a_scan_finds(zone: str) -> None:
    """Of the minutes some begin late, some twice and some not at all."""
    chance = random.Random(zone)
    for first, end in stretches(zone)[:2]:
        for text in ("30 2 * * *", "*/20 * * * *", "0 1-3 * * *", "45 1 * * *"):
            wanted = list(scan(text, zone, first + 60, end))
            state, there, kept = State(), ZoneInfo(zone), list[dict[str, Any]]()
            schedule = Schedule("s", text, since=iso(first), catch_up=chance.choice([0.0, 3600.0]))
            minute = float(first)
            while minute < end + 4000:
                minute += chance.choice([60.0, 60.0, 60.0, 0.0, 60.0, 1800.0])
                now = minute + chance.choice([0.1, 0.1, 2.0, 50.0])
                records = state.schedules.get("s", [])
                met = meet("s", unsettled(schedule, there, records, now), records, now, schedule.catch_up, every=False)
                for event in (*met.settled, *([met.chosen] if met.chosen else [])):
                    state.apply(event, now)
                    kept.append(state.schedules["s"][-1])
            found = sorted(instant for record in kept for instant in _of(record, wanted))
            assert found == wanted, (zone, text, first)
            assert sum(record["count"] for record in kept if epoch(record["due"]) < end) == len(wanted)


def _of(record: dict[str, Any], wanted: list[int]) -> list[int]:
    return [instant for instant in wanted if epoch(record["due"]) <= instant <= epoch(record["last"] or record["due"])]
