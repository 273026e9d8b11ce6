from __future__ import annotations

import json

import pytest

from orchestrator.core import events as ev
from orchestrator.core.cachekey import Made
from orchestrator.core.events import Scope
from orchestrator.core.names import AttemptId, iso
from orchestrator.core.outcome import Failure
from orchestrator.core.phase import DURATIONS_KEPT, ERRORS_KEPT, PhaseState, fold_phase, phase_document
from orchestrator.core.state import (
    ANSWERS_KEPT,
    INSTANTS_KEPT,
    RUNS_KEPT,
    SCHEDULES_KEPT,
    RunState,
    State,
    from_document,
    run_document,
)
from tests.core.given import AGENT, COMES, ME, NOW, completed, failed, intended, retrying, run_started

AT = iso(NOW)
_OF_NEW_RUNS = ("due", "params", "cut_off", "force")
LOST = Failure("INTERRUPTED", "its agent is gone", log="3.log")


def fold(*events: ev.PhaseEvent) -> PhaseState:
    phase = PhaseState(name="p3")
    for event in events:
        phase = fold_phase(phase, event, AT)
    return phase


def state_of(*events: ev.Event) -> State:
    state = State()
    for event in events:
        state.apply(event, NOW)
    return state


def test_an_intended_attempt_is_starting_with_its_agent_and_key():
    assert fold(intended(3, 7)) == PhaseState(
        status="in_progress",
        step="starting",
        started_at=AT,
        attempt=7,
        attempts=1,
        agent="a1",
        inputs_hash="key",
        name="p3",
        made=Made("key", {}),
    )


def test_a_completed_one_has_its_result_and_nobody_who_owns_it():
    assert fold(intended(3), ev.AttemptStarted(3, 1, 30, 3), completed(3)) == PhaseState(
        status="completed", started_at=AT, finished_at=AT, duration_seconds=2.0, attempt=1, attempts=1, inputs_hash="key",
        outputs={"result": {"n": 1}}, log="its.log", name="p3", durations=(2.0,),
        made=Made("key", {}, yields=COMES),
    )  # fmt: skip


def test_a_running_one_keeps_its_process_while_it_is_being_stopped():
    phase = fold(intended(3), ev.AttemptStarted(3, 1, 30, 3), ev.StopRequested(3, 1, "cancelled by ann"))
    assert (phase.status, phase.step, phase.pid, phase.ticks, phase.why) == (
        "in_progress", "stopping", 30, 3, "cancelled by ann",
    )  # fmt: skip


def test_a_withdrawn_attempt_leaves_no_trace_but_its_number():
    before = fold(intended(3, 1), retrying(3))
    after = fold_phase(fold_phase(before, intended(3, 2), AT), ev.AttemptWithdrawn(3, 2, "never began"), AT)
    assert (after.status, after.attempt, after.attempts) == ("pending", 2, 1)
    assert fold_phase(after, intended(3, 3), AT).retry_count == 1, "two attempts were intended for one retry"
    assert (after.failures, after.interruptions, after.errors) == (before.failures, 0, before.errors)
    assert after.agent is None and after.started_at is None and after.why == "never began"


def test_a_failure_is_counted_and_kept_with_what_to_do():
    phase = fold(intended(3), failed(3))
    assert (phase.status, phase.failures, phase.interruptions, phase.agent) == ("failed", 1, 0, None)
    error = {"code": "FAILED", "message": "no", "remedy": Failure("FAILED", "").remedy, "at": AT, "attempt": 1}
    assert phase.errors == (error,)


def test_a_retry_that_waits_says_until_when_and_why():
    phase = fold(intended(3), retrying(3))
    assert (phase.status, phase.retry_at, phase.retry_delay_seconds, phase.why) == (
        "retry_wait",
        iso(NOW + 60),
        60.0,
        "no",
    )
    assert phase.failures == 1
    again = fold_phase(phase, intended(3, 2), AT)
    assert (again.retry_at, again.retry_delay_seconds, again.retry_count, again.attempts) == (None, None, 1, 2)


@pytest.mark.parametrize(
    "found", [ev.PhaseRecovered(3, 1, LOST, owner="agent a1"), ev.RetryScheduled(3, 1, LOST, 0.0, AT, 0.0)]
)
def test_an_interruption_is_no_failure_and_counts_in_a_row(found):
    once = fold(intended(3), found)
    assert (once.failures, once.interruptions, once.errors[-1]["code"]) == (0, 1, "INTERRUPTED")
    reset = fold_phase(once, ev.PhaseReset(3, "again", once.interruptions), AT) if once.status == "failed" else once
    twice = fold_phase(fold_phase(reset, intended(3, 2), AT), found.replace(attempt=2), AT)
    assert (twice.failures, twice.interruptions) == (0, 2)
    other = fold_phase(fold_phase(reset, intended(3, 2), AT), failed(3, 2), AT)
    assert (other.failures, other.interruptions) == (1, 0)


def test_a_mended_one_is_failed_and_says_why():
    phase = fold(intended(3), ev.PhaseMended(3, 1, Failure("INTERNAL", "nobody knows")))
    assert (phase.status, phase.why, phase.errors[-1]["code"]) == ("failed", "nobody knows", "INTERNAL")


def test_a_reset_gives_fresh_tries_and_forgets_the_result():
    phase = fold(intended(3), completed(3), ev.PhaseReset(3, "--force"))
    assert (phase.status, phase.outputs, phase.failures, phase.why) == ("pending", None, 0, "--force")
    assert (phase.attempt, phase.attempts) == (1, 1)


def test_a_cancelled_retry_is_due_no_more():
    phase = fold(intended(3), retrying(3), ev.PhaseCancelled(3, "by ann"))
    assert (phase.status, phase.retry_at, phase.why) == ("cancelled", None, "by ann")


def test_only_the_last_errors_are_kept():
    phase = PhaseState()
    for attempt in range(1, ERRORS_KEPT + 4):
        phase = fold_phase(fold_phase(phase, intended(3, attempt), AT), retrying(3, attempt=attempt), AT)
    assert [error["attempt"] for error in phase.errors] == list(range(4, ERRORS_KEPT + 4))


def test_who_is_live_follows_from_the_phases():
    state = state_of(run_started(), intended(3), intended(-1))
    assert state.live == {3, -1} and state.attempt_id(3) == AttemptId("r1", 3, 1)
    state.apply(completed(3), NOW)
    state.apply(retrying(-1), NOW)
    assert state.live == set()


def test_a_new_run_remembers_what_phases_are_called_and_counts_their_attempts_on():
    state = state_of(
        run_started(), ev.PlanAdopted("d", {"3": ["index", "The index"]}), intended(3, 4), intended(5), completed(3, 4)
    )
    state.apply(run_started(run="r2"), NOW)
    made = Made("key", {}, yields=COMES, run="r1", result={"n": 1})
    assert state.phase(3) == PhaseState(name="index", title="The index", attempt=4, durations=(2.0,), made=made)
    assert state.live == set(), "a new run has nothing in hand, whatever the last one left"
    assert (state.run.id, state.run.calls, state.run.due) == ("r2", 1, "now")


def test_a_run_that_goes_on_keeps_its_id_and_its_phases():
    state = state_of(run_started(), ev.RunStopping("SIGINT", 130), ev.RunEnded("cancelled", 130))
    assert (state.run.verdict, state.run.exit_code, state.run.stopping) == ("cancelled", 130, "SIGINT")
    fields = {name: value for name, value in run_started(jobs=8).__dict__.items() if name not in _OF_NEW_RUNS}
    state.apply(ev.RunContinued(**fields), NOW + 5)
    run = state.run
    assert (run.id, run.calls, run.jobs, run.started_at, run.continued_at) == ("r1", 2, 8, AT, iso(NOW + 5))
    assert (run.verdict, run.exit_code, run.stopping, run.stopping_code, run.finished_at) == (
        None,
        None,
        None,
        None,
        None,
    )


def test_a_phase_that_is_not_defined_any_more_is_not_planned_and_not_forgotten():
    state = state_of(run_started(), ev.PlanAdopted("d", {"1": ["a", ""], "2": ["b", ""]}), intended(2))
    state.apply(ev.PlanAdopted("e", {"1": ["new", "A"]}), NOW)
    assert (state.phase(1).name, state.phase(1).planned, state.phase(2).planned) == ("new", True, False)
    assert state.live == {2} and state.run.plan == "e"


def test_agents_come_and_go_and_none_is_left_at_the_end():
    state = state_of(
        ev.AgentEngaged("a1", AGENT), ev.AgentEngaged("a2", ME), ev.AgentLeft("a2", ""), ev.AgentLeft("a3", "")
    )
    assert state.agents == {"a1": AGENT}
    state.apply(ev.RunEnded("completed", 0), NOW)
    assert state.agents == {}


def test_the_last_thousand_answers_are_kept():
    state = state_of(*(ev.AskAnswered(f"k{index}", "retry", "ann", True, "yes") for index in range(ANSWERS_KEPT + 2)))
    assert ANSWERS_KEPT == 1000 and len(state.answers) == 1000
    assert "k1" not in state.answers and "k2" in state.answers and f"k{ANSWERS_KEPT + 1}" in state.answers


def test_the_last_durations_are_kept_through_all_runs():
    state = state_of(run_started())
    for attempt in range(1, DURATIONS_KEPT + 3):
        for event in (
            intended(3, attempt),
            completed(3, attempt).replace(duration_seconds=float(attempt)),
            ev.PhaseReset(3, ""),
        ):
            state.apply(event, NOW)
    state.apply(run_started(run="r2"), NOW)
    assert state.phase(3).durations == tuple(float(each) for each in range(3, DURATIONS_KEPT + 3))


def test_the_ends_of_the_last_runs_are_kept_each_once():
    state = state_of(run_started(), ev.PlanAdopted("d", {"1": ["a", ""], "2": ["b", ""]}), intended(1), completed(1))
    state.apply(ev.RunEnded("cancelled", 130), NOW)
    state.apply(ev.RunEnded("failed", 1), NOW + 9)
    assert state.runs == [
        {
            "id": "r1",
            "due": "now",
            "started_at": AT,
            "finished_at": iso(NOW + 9),
            "calls": 1,
            "verdict": "failed",
            "done": 1,
            "total": 2,
        }
    ]
    for index in range(RUNS_KEPT):
        state.apply(run_started(run=f"s{index}"), NOW)
        state.apply(ev.RunEnded("completed", 0), NOW)
    assert len(state.runs) == RUNS_KEPT and state.runs[0]["id"] == "s0"


def test_the_document_is_json_and_comes_back_as_the_same_state():
    state = state_of(
        run_started(scope=Scope(only=(1, -2))), ev.PlanAdopted("d", {"1": ["a", ""], "-2": ["b", "B"]}),
        ev.AgentEngaged("a1", AGENT), intended(1), intended(-2), failed(1), ev.AskAnswered("k", "retry", "ann", True, "yes", 1),
        ev.RunEnded("failed", 1), ev.AgentEngaged("a2", ME),
    )  # fmt: skip
    phases = {str(number): phase_document(phase) for number, phase in state.phases.items()}
    again = from_document(json.loads(json.dumps({**run_document(state), "phases": phases})))
    assert (again.run, again.phases, again.agents) == (state.run, state.phases, state.agents)
    assert (again.answers, again.runs) == (state.answers, state.runs) and len(state.runs) == 1
    assert again.live == state.live == {-2}


def test_a_phase_in_the_document_has_every_field():
    assert set(phase_document(PhaseState())) == set(PhaseState._fields)
    assert RunState.from_dict({}) == RunState()


def test_instants_are_kept_by_their_schedule_and_not_without_end():
    state = State()
    for minute in range(INSTANTS_KEPT + 3):
        due = f"2026-11-20T{minute // 60:02}:{minute % 60:02}:00.000Z"
        state.apply(ev.InstantSettled("nightly", due, "ran", run="r1"), float(minute))
    state.apply(ev.InstantSettled("weekly", "2026-11-20T00:00:00.000Z", "skipped", "nobody began it", missed=True), 9.0)
    assert len(state.schedules["nightly"]) == INSTANTS_KEPT
    assert state.schedules["nightly"][0]["due"] == "2026-11-20T00:03:00.000Z"
    again = from_document(json.loads(json.dumps({**run_document(state), "phases": {}})))
    assert again.schedules == state.schedules
    for number in range(SCHEDULES_KEPT):
        state.apply(ev.InstantSettled(f"s{number}", "2026-11-20T00:00:00.000Z", "ran"), 1.0)
    assert len(state.schedules) == SCHEDULES_KEPT and "nightly" not in state.schedules


def test_a_run_that_never_came_to_an_end_is_kept_when_another_begins():
    state = State()
    state.apply(run_started(), NOW)
    state.apply(run_started(run="r2", cut_off="r1"), NOW + 5)
    assert [(run["id"], run["verdict"], run["finished_at"]) for run in state.runs] == [("r1", "interrupted", None)]
    state.apply(run_started(run="r3"), NOW + 9)
    assert len(state.runs) == 1, "an older orch did not say it, and its journal means what it meant"
