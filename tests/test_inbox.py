from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from orchestrator import clock
from orchestrator.core import observations as obs
from orchestrator.inbox import BATCH, Inbox
from tests.core.given import FINE, an

STARTED, ENDED, TICK = obs.Started(an(1), 9, 9), obs.Ended(an(1), FINE), obs.Tick()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    opened = Inbox()
    yield opened
    opened.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_what_was_put_is_had_at_once_in_its_order(inbox):
    inbox.put(ENDED)
    inbox.put(TICK)
    assert not inbox.is_empty
    since = clock.ticking()
    assert inbox.get(60.0) == [ENDED, TICK] and inbox.is_empty and clock.ticking() - since < 30


def test_silence_is_an_empty_list_when_its_time_has_come(inbox):
    since = clock.ticking()
    assert inbox.get(0.05) == [] and clock.ticking() - since >= 0.049
    assert inbox.get(0.0) == []


def test_a_batch_is_bounded_and_the_rest_comes_next(inbox):
    for _ in range(BATCH + 3):
        inbox.put(TICK)
    assert [len(inbox.get(0.0)) for _ in range(3)] == [BATCH, 3, 0]


def test_a_file_that_becomes_readable_is_asked_and_wakes(inbox, pipe):
    inbox.watch(pipe[0], lambda: [obs.AgentGone("a1", os.read(pipe[0], 99).decode())])
    assert inbox.get(0.0) == []
    os.write(pipe[1], b"news")
    assert inbox.get(60.0) == [obs.AgentGone("a1", "news")]
    inbox.forget(pipe[0])
    os.write(pipe[1], b"more")
    assert inbox.get(0.0) == []


def test_files_are_heard_beside_what_was_put(inbox, pipe):
    inbox.watch(pipe[0], lambda: [obs.AgentGone("a1", os.read(pipe[0], 99).decode())])
    os.write(pipe[1], b"news")
    inbox.put(TICK)
    assert inbox.get(60.0) == [TICK, obs.AgentGone("a1", "news")]


def test_whoever_must_be_asked_now_and_then_says_when_again(inbox):
    asked: list[float] = []

    def ask() -> float:
        asked.append(clock.ticking())
        if len(asked) == 3:
            inbox.put(TICK)
        return 0.02

    inbox.every(ask)
    assert [inbox.get(60.0) for _ in range(3)] == [[], [], [TICK]]
    assert asked[1] - asked[0] >= 0.019 and asked[2] - asked[1] >= 0.019


def test_what_a_timer_puts_is_had_at_once(inbox):
    inbox.every(lambda: inbox.put(ENDED) or 60.0)
    since = clock.ticking()
    assert inbox.get(60.0) == [ENDED] and clock.ticking() - since < 30


def test_the_soonest_of_all_timers_counts(inbox):
    inbox.every(lambda: 60.0)
    inbox.every(lambda: 0.01)
    inbox.every(lambda: -5.0)
    since = clock.ticking()
    assert inbox.get(60.0) == [] and clock.ticking() - since < 30


@pytest.mark.parametrize(
    ("first", "waits"), [(STARTED, True), (obs.Beat("a1", {}), True), (TICK, False), (ENDED, False)]
)
def test_news_that_nobody_acts_on_waits_a_moment_for_the_end_that_follows(inbox, pipe, first, waits):
    """One decision, one line on the disk, instead of two: the end becomes readable while the start is being read."""
    read, write = os.pipe()

    def start() -> list[obs.Observation]:
        os.read(pipe[0], 99)
        os.write(write, b".")
        return [first]

    inbox.watch(pipe[0], start)
    inbox.watch(read, lambda: [ENDED] if os.read(read, 99) else [])
    os.write(pipe[1], b".")
    assert inbox.get(60.0) == ([first, ENDED] if waits else [first])
    assert inbox.get(0.0) == ([] if waits else [ENDED])
    for end in (read, write):
        os.close(end)


def test_news_that_nobody_acts_on_waits_no_longer_than_that(inbox):
    inbox.put(STARTED)
    since = clock.ticking()
    assert inbox.get(60.0) == [STARTED] and clock.ticking() - since < 30


def test_whoever_is_asked_seldom_is_not_asked_by_news_of_others(inbox):
    asked: list[float] = []
    inbox.seldom(lambda: asked.append(clock.ticking()) or 0.05)
    for _ in range(5):
        assert inbox.get(0.0) == []
    assert len(asked) == 1
    assert inbox.get(60.0) == [] and inbox.get(60.0) == []
    assert len(asked) == 2 and asked[1] - asked[0] >= 0.049
