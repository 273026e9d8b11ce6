from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.core import events as ev
from orchestrator.core.events import Event
from orchestrator.core.names import epoch, iso
from orchestrator.core.state import State
from orchestrator.store.lines import Line
from orchestrator.store.proof import Later
from orchestrator.store.salvage import LOST, Salvage, phases_in
from tests.core.given import AGENT, NOW, completed, failed, intended, run_started
from tests.store.given import opening, seen

LATER = NOW + 60


def state_of(*events: Event) -> State:
    """Three planned phases, and what happened to them."""
    state = State()
    for event in (*opening(3).events, *events):
        state.apply(event, NOW)
    return state


def whole(seq: int, *events: Event) -> Later:
    line = Line(seq, iso(LATER), [], ["why"] * len(events), 0)
    return Later(Path("journal"), seq, 0, b"", line, [*events])


def lost(seq: int, raw: bytes = b"") -> Later:
    return Later(Path("journal"), seq, 0, raw, None, None)


def taken(state: State, *lines: Later, last: int = 1) -> Salvage:
    salvage = Salvage(state)
    salvage.last = last
    salvage.take(lines)
    return salvage


def test_a_damaged_line_may_still_name_its_phases():
    assert phases_in(b'"number":3,"x":{"number":-8},"number":3}"number":12345678901') == {3, -8}
    assert phases_in(b"\xff") == set()


def test_lost_lines_are_counted_with_the_phases_that_they_name():
    salvage = taken(state_of(), lost(2, b'{"number":3}'), lost(3), whole(9, intended(1)), lost(10))
    assert (len(salvage.lost), [later.line.seq for later in salvage.kept], salvage.concerned) == (3, [9], {3})
    assert salvage.last == 10, "no number is used twice"


def test_what_can_follow_from_what_is_known_counts_and_when_it_happened():
    state = state_of(intended(1))
    salvage = taken(state, lost(2), whole(3, completed(1), intended(2)))
    assert (state.phase(1).status, state.phase(2).place, salvage.concerned) == ("completed", "starting", set())
    assert epoch(state.phase(1).finished_at) == LATER and state.live == {2}


def test_an_event_about_an_attempt_that_is_not_known_moves_nothing_and_names_the_phase():
    state = state_of(intended(1))
    salvage = taken(state, whole(3, ev.AttemptStarted(1, 4, 40, 4), failed(2, 3)))
    assert state.phase(1).place == "starting" and state.phase(1).attempt == 1, "one in progress stays what it is"
    assert state.phase(2).place == "pending" and state.phase(2).attempt == 3, "but its number is used up"
    assert salvage.concerned == {1, 2}


def test_an_event_without_an_attempt_that_cannot_follow_names_the_phase():
    state = state_of(intended(1))
    assert taken(state, whole(3, ev.PhaseReset(1, "again"))).concerned == {1}
    assert (state.phase(1).place, state.phase(1).attempt) == ("starting", 1)


@pytest.mark.parametrize(("attempt", "key"), [(1, "key"), (2, None)])
def test_a_completion_says_by_itself_how_its_phase_ended(attempt, key):
    """Of the attempt that is known it is known what it was made of; of a later one it is compared with nothing."""
    state = state_of(intended(1), failed(1))
    salvage = taken(state, lost(2), whole(3, completed(1, attempt)))
    phase = state.phase(1)
    assert (phase.status, phase.attempt, phase.inputs_hash, salvage.concerned) == ("completed", attempt, key, {1})
    assert (phase.made and phase.made.key) == key


def test_an_attempt_that_begins_says_by_itself_that_the_one_before_is_over():
    state = state_of(intended(1))
    taken(state, lost(2), whole(3, intended(1, 2)))
    assert (state.phase(1).place, state.phase(1).attempt, state.live) == ("starting", 2, {1})


def test_a_completion_of_an_earlier_attempt_than_is_known_changes_nothing():
    state = state_of(intended(1, 5))
    salvage = taken(state, whole(3, completed(1, 2)))
    assert (state.phase(1).place, state.phase(1).attempt, salvage.concerned) == ("starting", 5, {1})


def test_an_event_that_cannot_be_whatever_went_before_is_left_out_and_names_its_phase():
    state = state_of(intended(1))
    salvage = taken(state, whole(3, failed(1, code="BAD LUCK"), intended(2)))
    assert (state.phase(1).place, state.phase(2).place, salvage.concerned) == ("starting", "starting", {1})


def test_an_event_about_the_run_that_cannot_be_is_left_out_and_concerns_no_phase():
    state = state_of()
    salvage = taken(state, whole(3, ev.PlanAdopted("digest", {"x": ["a", "b"]}), ev.AgentEngaged("a1", AGENT)))
    assert salvage.concerned == set() and state.agents == {"a1": AGENT}


# ---- about the run


def test_a_run_that_was_told_to_stop_is_not_told_again():
    state = state_of()
    taken(state, whole(3, ev.RunStopping("somebody asked", 130)))
    assert state.run.stopping is None


def test_a_run_that_ended_has_ended_where_nothing_contradicts_it():
    state = state_of(intended(1), completed(1), intended(2), completed(2), intended(3), completed(3))
    taken(state, whole(3, ev.RunEnded("completed", 0)))
    assert (state.run.verdict, state.run.exit_code) == ("completed", 0)
    state = state_of(intended(1), failed(1))
    taken(state, whole(3, ev.RunEnded("failed", 1)))
    assert state.run.verdict == "failed"


@pytest.mark.parametrize("verdict", ["completed", "failed"])
def test_a_run_that_left_something_in_progress_has_not_ended_for_all_we_know(verdict):
    state = state_of(intended(1))
    taken(state, whole(3, ev.RunEnded(verdict, 0)))
    assert state.run.verdict is None and state.live == {1}


def test_a_run_that_completed_what_we_do_not_know_of_has_not_ended_for_all_we_know():
    state = state_of(intended(1), completed(1))
    taken(state, whole(3, ev.RunEnded("completed", 0)))
    assert state.run.verdict is None


def test_a_phase_that_is_not_planned_any_more_keeps_no_run_open():
    state = state_of(intended(1), completed(1), ev.PlanAdopted("less", {"1": ["p1", ""]}))
    taken(state, whole(3, ev.RunEnded("completed", 0)))
    assert state.run.verdict == "completed"


def test_of_a_run_whose_beginning_is_lost_at_least_the_name_is_known():
    state = State()
    salvage = taken(state, lost(1), whole(2, intended(1)), last=0)
    salvage.name_the_run("r7", iso(NOW))
    assert (state.run.id, state.run.started_at) == ("r7", iso(NOW))
    salvage.name_the_run("r8", iso(LATER))
    assert state.run.id == "r7"


def test_of_a_run_that_nobody_knows_a_name_is_made_and_of_none_at_all_none():
    state = State()
    salvage = taken(state, lost(1), last=0)
    salvage.name_the_run("r7", iso(NOW))
    assert state.run.id == "", "nothing was done"
    salvage.take([whole(2, intended(1))])
    salvage.name_the_run("", iso(NOW))
    assert state.run.id == "2027-01-15-repaired"


def test_a_later_beginning_of_a_run_counts():
    state = state_of(intended(1), completed(1))
    taken(state, lost(2), whole(3, run_started(run="r2")))
    assert state.run.id == "r2" and state.phase(1).place == "pending"


# ---- never again


def test_an_attempt_with_a_log_was_started_also_where_the_line_that_says_so_is_lost():
    state = state_of(intended(1), intended(2), intended(3), ev.AttemptStarted(3, 1, 40, 4))
    salvage = taken(state, lost(2, b'"number":1,"number":3'))
    salvage.never_again({1: 1, 2: 1, 3: 1}, LATER)
    assert (state.phase(1).pid, state.phase(1).ticks) == (0, 0)
    assert state.phase(2).pid is None, "nothing was lost about it"
    assert state.phase(3).pid == 40


def test_a_later_attempt_that_left_a_log_ended_the_one_before_and_its_number_is_used_up():
    state = state_of(intended(1), intended(2), failed(2))
    salvage = taken(state)
    salvage.never_again({1: 3, 2: 4, 3: 2}, LATER)
    first, second, third = (state.phase(number) for number in (1, 2, 3))
    assert (first.status, first.attempt, first.why) == ("failed", 3, LOST) and first.errors[-1]["code"] == "INTERRUPTED"
    assert (second.status, second.attempt, len(second.errors)) == ("failed", 4, 1)
    assert (third.status, third.attempt) == ("pending", 2)
    assert salvage.concerned == {1, 2, 3} and state.live == set()


def test_logs_of_attempts_that_are_known_change_nothing():
    state = state_of(intended(1, 3), completed(1, 3))
    before = seen(state)
    taken(state).never_again({1: 2}, LATER)
    assert seen(state) == before
