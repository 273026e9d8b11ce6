"""Whether what was made before may stand: what the loop does about it, event by event."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.actions import Measure, StartAttempt
from orchestrator.core.cachekey import NO_FILES, Difference, Made, Material, digest
from orchestrator.core.events import Scope
from orchestrator.core.outcome import EXITED, Outcome
from orchestrator.core.phase import PhaseState
from orchestrator.core.preview import preview
from tests.core.given import FINE, Case, an, run_asked, run_started

FILES = {"inputs": ("data",), "outputs": ("out",), "cache": True}
SEEN = Material("in", "out")
CHANGED = Material("other", "out", Difference("inputs: data/a.csv", "changed", "old", "new"))
WHY = "inputs: data/a.csv changed (old → new)"
DONE = FINE.replace(files="out")


def told(decision) -> list[str]:
    return [f"{event.kind} {event.number}" for event in decision.events if isinstance(event, ev.PhaseEvent)]


def asked_for(decision) -> list[int]:
    return [action.number for action in decision.actions if isinstance(action, Measure)]


def started(decision) -> list[int]:
    return [action.order.attempt.phase for action in decision.actions if isinstance(action, StartAttempt)]


def measured(number: int, material: Material = SEEN) -> obs.Measured:
    return obs.Measured(number, material)


def done_once(needs: dict[int, tuple[int, ...]], keys: dict[int, dict[str, Any]] | None = None, **how: Any) -> Case:
    """Every phase has run, and what it was made of is known."""
    case = Case(needs, keys=dict.fromkeys(needs, FILES) if keys is None else keys, jobs=9, **how)
    for _ in range(3 * len(needs) + 3):
        case.step(*(measured(number) for number in sorted(case.agenda.looking)))
        case.step(*(obs.Ended(case.state.attempt_id(number), DONE) for number in sorted(case.state.live)))
    assert case.state.run.verdict == "completed"
    return case


def goes_on(case: Case, materials: dict[int, Material], **asked: Any):
    """As `orch run` does it: the opening, then what the disk says of all that may be kept."""
    questions = case.plan.questions(case.state, case.state.run.scope, new=asked.get("new", False))
    case.step(run_asked(**asked))
    found = [measured(question.number, materials.get(question.number, SEEN)) for question in questions]
    return case.step(*found) if not asked.get("force") else case.step()


def run_asked_event() -> ev.RunContinued:
    return ev.RunContinued(*(run_started().__dict__[name] for name in ev.RunContinued._fields))


def test_an_attempt_with_declared_inputs_is_begun_when_they_were_looked_at():
    case = Case({1: ()}, keys={1: FILES})
    first = case.step()
    assert (told(first), asked_for(first)) == ([], [1])
    assert first.actions == (Measure(1, ("data",), ()),)
    assert case.wake() == 3600.0 and case.step().is_empty, "nobody is asked twice, and nobody spins"
    then = case.step(measured(1))
    assert told(then) == ["AttemptIntended 1"] and started(then) == [1]
    assert then.events[0].of["inputs"] == "in" and then.events[0].key.startswith("2:")


def test_one_that_is_being_looked_at_keeps_its_place_and_the_others_go_on():
    case = Case({1: (), 2: (), 3: ()}, keys={1: FILES}, jobs=2)
    first = case.step()
    assert asked_for(first) == [1] and started(first) == [2]
    assert started(case.step(measured(1))) == [1]


def test_what_was_found_out_too_late_is_found_out_again():
    case = Case({1: ()}, keys={1: FILES})
    case.step()
    case.given(ev.PhaseCancelled(1, "ann"))
    assert told(case.step(measured(1))) == []
    assert told(case.step(run_asked())) == ["PhaseReset 1"] and asked_for(case.step()) == [1]


def test_a_new_run_keeps_what_is_unchanged_with_no_attempt_and_its_result_with_it():
    case = done_once({1: (), 2: (1,)})
    decision = goes_on(case, {}, new=True)
    assert told(decision) == ["PhaseKept 1", "PhaseKept 2"] and decision.events[0] == ev.PhaseKept(1, "r1")
    assert decision.events[-1] == ev.RunEnded("completed", 0), "and nothing is left to do"
    phase = case.state.phase(2)
    assert (phase.status, phase.attempts, phase.why) == ("completed", 0, "unchanged since run r1")
    assert phase.outputs == {"result": {"n": 1}} and phase.made is not None and phase.made.result is None


def test_it_stands_through_any_number_of_runs_and_says_since_which():
    case = done_once({1: ()})
    for run in ("r2", "r3", "r4"):
        decision = goes_on(case, {}, new=True, run=run)
        assert decision.events[0] == ev.PhaseKept(1, "r1") and case.state.run.id == run


def test_what_has_changed_says_so_and_is_run():
    case = done_once({1: ()})
    decision = goes_on(case, {1: CHANGED}, new=True)
    assert decision.events[0] == ev.PhaseReset(1, WHY, changed=True)
    assert decision.events[1].kind == "AttemptIntended" and decision.events[1].of["inputs"] == "other"


def test_within_a_run_what_is_done_is_compared_when_it_goes_on():
    case = done_once({1: (), 2: ()})
    decision = goes_on(case, {1: CHANGED})
    assert told(decision) == ["PhaseReset 1", "AttemptIntended 1"] and case.status(2) == "completed"


@pytest.mark.parametrize(
    ("outcome", "follows"), [(DONE, ["PhaseCompleted 1", "PhaseKept 2"]), (FINE, ["PhaseCompleted 1", "PhaseReset 2"])]
)
def test_what_depends_on_it_is_judged_when_it_has_come_out(outcome, follows):
    """Early cutoff: the same result and the same outputs, and the rest is kept."""
    case = done_once({1: (), 2: (1,), 3: (2,)})
    first = goes_on(case, {1: CHANGED})
    assert told(first) == ["PhaseReset 1", "PhaseReset 2", "PhaseReset 3", "AttemptIntended 1"]
    assert first.events[1] == ev.PhaseReset(2, "phase 1 is run again", keeps=True)
    ended = case.step(obs.Ended(an(1, 2), outcome))
    assert (told(ended), asked_for(ended)) == (["PhaseCompleted 1"], [2])
    assert [*told(ended), *told(case.step(measured(2)))][:2] == follows


def test_in_a_new_run_what_depends_on_what_runs_is_judged_when_that_has_come_out():
    case = done_once({1: (), 2: (1,)})
    assert told(goes_on(case, {1: CHANGED}, new=True)) == ["PhaseReset 1", "AttemptIntended 1"]
    assert asked_for(case.step(obs.Ended(an(1, 2, "r2"), DONE))) == [2]
    assert case.step(measured(2)).events[0] == ev.PhaseKept(2, "r1")


def test_what_is_to_be_judged_wakes_the_loop():
    case = done_once({1: ()})
    case.given(run_asked_event(), ev.PhaseReset(1, "again", keeps=True))
    assert case.wake() == 0.0 and asked_for(case.step()) == [1]


def test_nothing_starts_and_nothing_ends_while_it_is_being_judged():
    only_outputs = {"outputs": ("out",), "cache": True}
    case = done_once({1: (), 2: (1,)}, {1: FILES, 2: only_outputs})
    goes_on(case, {1: CHANGED})
    assert asked_for(case.step(obs.Ended(an(1, 2), DONE))) == [2]
    assert case.step().is_empty and case.wake() == 3600.0
    assert told(case.step(measured(2, Material("", "out")))) == ["PhaseKept 2"]


def test_without_declared_files_only_what_it_needs_is_compared_and_only_within_its_run():
    case = done_once({1: (), 2: (1,), 3: (1,)}, {1: FILES, 3: {"cache": False}})
    assert told(goes_on(case, {1: CHANGED})) == ["PhaseReset 1", "PhaseReset 2", "AttemptIntended 1"]
    assert told(case.step(obs.Ended(an(1, 2), DONE)))[:2] == ["PhaseCompleted 1", "PhaseKept 2"]
    assert told(goes_on(case, {1: SEEN})) == ["PhaseReset 1", "PhaseReset 2", "AttemptIntended 1"], "changed back"
    ended = case.step(obs.Ended(an(1, 3), DONE.replace(result={"n": 2})))
    assert told(ended) == ["PhaseCompleted 1", "PhaseReset 2", "AttemptIntended 2"]
    assert ended.events[1].why.startswith("needs: what came out of phase 1 changed (")
    assert case.status(3) == "completed", "cache = false: done stays done within its run"


def test_a_new_run_runs_what_declares_no_files_and_what_is_never_compared():
    case = done_once({1: (), 2: ()}, {2: {**FILES, "cache": False}})
    assert told(goes_on(case, {}, new=True)) == ["AttemptIntended 1", "AttemptIntended 2"]


def test_force_runs_it_anyway():
    case = done_once({1: (), 2: (1,)})
    assert told(goes_on(case, {}, new=True, force=True)) == [] and asked_for(case.decide()) == []
    case.step(measured(1))
    assert case.status(1) == "starting" and case.state.phase(2).made is None


@pytest.mark.parametrize("ended", [Outcome(EXITED, 1), Outcome("stopped"), Outcome("lost"), Outcome("timed_out")])
def test_after_an_attempt_that_did_not_succeed_nothing_that_was_made_before_is_taken_as_good(ended):
    case = done_once({1: ()})
    goes_on(case, {1: CHANGED})
    case.step(obs.Ended(an(1, 2), ended))
    case.given(ev.RunEnded("failed", 1))
    decision = goes_on(case, {1: SEEN}, new=True)
    assert told(decision) == [] and asked_for(decision) == [1]


def test_what_an_older_orch_has_done_stays_done_and_is_run_by_a_new_run():
    case = Case({1: (), 2: (1,)}, keys={1: FILES, 2: FILES})
    for number in (1, 2):
        old = ev.PhaseCompleted(number, 1, 2.0, {"n": 1}, "its.log")
        case.given(ev.AttemptIntended(number, 1, "a1", "1:abc"), old)
    case.given(ev.RunEnded("completed", 0))
    assert case.plan.questions(case.state, case.state.run.scope) == []
    assert told(goes_on(case, {})) == []
    assert asked_for(goes_on(case, {}, new=True)) == [1]


def test_a_definition_that_cannot_be_read_changes_nothing_that_is_done():
    case = done_once({1: ()})
    case.plan.specs[1] = case.plan.specs[1].replace(broken="line 3")
    assert told(goes_on(case, {1: CHANGED})) == []


def test_parameters_of_the_run_count_where_they_are_used():
    keys = {1: {"params": {"year": "$year", "cost": "$$5", "of": ["$year", "x"]}, "cache": True}, 2: {"cache": True}}
    case = done_once({1: (), 2: ()}, keys, params={"year": 2024})
    assert case.plan.params(1, {}) == {"year": 2024, "cost": "$5", "of": [2024, "x"]}
    assert told(goes_on(case, {}, new=True, params={"year": 2024})) == ["PhaseKept 1", "PhaseKept 2"]
    decision = goes_on(case, {}, new=True, params={"year": 2025})
    assert case.state.run.params == {"year": 2025}
    assert sorted(told(decision)) == ["AttemptIntended 1", "PhaseKept 2", "PhaseReset 1"]
    assert [action.order.params["year"] for action in decision.actions if isinstance(action, StartAttempt)] == [2025]


def test_a_run_that_goes_on_keeps_its_parameters():
    case = done_once({1: ()}, {1: {"params": {"year": "$year"}, "cache": True}}, params={"year": 2024})
    goes_on(case, {}, new=True, params={"year": 2025})
    [attempt] = case.state.live
    case.step(obs.Ended(case.state.attempt_id(attempt), DONE))
    assert told(goes_on(case, {})) == [] and case.state.run.params == {"year": 2025}


WHEN = {"when": "params.year > 2024", "params": {"year": "$year"}}


def test_where_its_condition_does_not_hold_it_is_skipped_which_counts_as_done():
    case = Case({1: (), 2: (1,)}, keys={1: WHEN}, params={"year": 2024})
    case.given(ev.RunEnded("x", 0))
    decision = goes_on(case, {}, new=True)
    assert decision.events[0] == ev.PhaseSkipped(1, "its `when` does not hold: params.year > 2024")
    assert started(case.step()) == [2] and case.status(1) == "skipped"


def test_a_condition_is_asked_again_when_what_it_asks_for_came_out_otherwise():
    keys = {1: FILES, 2: {"when": "result(1)['n'] > 1"}, 3: {"when": "result(1)['n'] == 1"}}
    case = done_once({1: (), 2: (1,), 3: (1,)}, keys)
    assert (case.status(2), case.status(3)) == ("skipped", "completed")
    assert told(goes_on(case, {})) == []
    goes_on(case, {1: CHANGED})
    assert (case.status(2), case.status(3)) == ("pending", "pending")
    ended = case.step(obs.Ended(an(1, 2), DONE.replace(result={"n": 2})))
    assert told(ended) == ["PhaseCompleted 1", "PhaseSkipped 3", "AttemptIntended 2"]


def test_of_a_condition_that_cannot_be_told_its_attempt_says_so():
    case = Case({1: (), 2: (1,)}, keys={2: {"when": "result(1)['no']"}}).live(1)
    decision = case.step(obs.Ended(an(1), FINE))
    assert decision.actions[-1].order.broken == ("its `when` asks for result(1)['no'], which is not there (KeyError)")


def test_what_came_out_is_its_result_and_its_outputs():
    case = Case({1: ()}, keys={1: FILES}).live(1)
    completed = case.step(obs.Ended(an(1), DONE)).events[0]
    assert (completed.files, completed.yields) == ("out", digest([{"n": 1}, "out"]))


def test_a_long_chain_that_is_unchanged_is_kept_in_one_decision():
    chain = {number: (number - 1,) if number else () for number in range(300)}
    case = done_once(chain, {number: {"cache": True} for number in chain})
    decision = goes_on(case, dict.fromkeys(chain, NO_FILES), new=True)
    assert len(decision.events) == 301 and decision.events[-1].kind == "RunEnded"


def steps(case: Case, materials: dict[int, Material], **how: Any) -> dict[int, tuple[str, str]]:
    found = preview(case.plan, case.state, case.state.run.scope, materials, **how)
    return {step.number: (step.what, step.why) for step in found}


def test_the_plan_says_what_is_kept_what_runs_and_why_and_what_depends():
    case = done_once({1: (), 2: (1,), 3: (2,), 4: ()})
    every = dict.fromkeys(range(1, 5), SEEN)
    assert set(steps(case, every).values()) == {("keep", "completed in this run")}
    assert steps(case, every, new=True)[1] == ("keep", "unchanged since run r1")
    assert steps(case, every, new=True, force=True)[1] == ("run", "a new run")
    changed = steps(case, {**every, 2: CHANGED})
    assert changed[1][0] == changed[4][0] == "keep" and changed[2] == ("run", WHY)
    assert changed[3] == ("depends", "kept if phase 2 comes out as before")
    [step] = [
        step for step in preview(case.plan, case.state, case.state.run.scope, {**every, 2: CHANGED}) if step.changed
    ]
    assert step.changed == CHANGED.of_inputs


def test_the_plan_says_what_is_skipped_and_what_cannot_be_told_yet():
    keys = {1: WHEN, 2: {"when": "result(3)['n'] > 1"}}
    case = Case({1: (), 3: (), 2: (3,)}, keys=keys, params={"year": 2024})
    assert steps(case, {})[1] == ("skip", "its `when` does not hold: params.year > 2024")
    assert steps(case, {}, params={"year": 2025})[1] == ("run", "not run yet")
    assert steps(case, {})[2] == ("depends", "run if result(3)['n'] > 1")


LOOSE: dict[str, Any] = {"cache": False}


def test_what_lies_behind_one_that_is_never_compared_waits_for_what_is_above_it():
    """3 reads what 1 makes, and needs it through 2."""
    case = done_once({1: (), 2: (1,), 3: (2,), 4: (3,)}, {1: FILES, 2: LOOSE, 3: FILES, 4: FILES})
    steps = preview(case.plan, case.state, Scope(), {1: CHANGED, 3: SEEN, 4: SEEN})
    assert [step.what for step in steps] == ["run", "keep", "depends", "depends"]
    assert steps[2].why == "kept if phase 1 comes out as before"
    first = goes_on(case, {1: CHANGED})
    assert told(first) == ["PhaseReset 1", "PhaseReset 3", "PhaseReset 4", "AttemptIntended 1"]
    assert case.status(2) == "completed" and case.step().is_empty and case.wake() > 0, "nothing is judged, or spins"
    assert asked_for(case.step(obs.Ended(an(1, 2), DONE))) == [3]
    assert told(case.step(measured(3, CHANGED))) == ["PhaseReset 3", "AttemptIntended 3"]


def test_of_a_chain_of_those_the_first_that_is_done_again_is_waited_for():
    needs = {number: (number - 1,) if number > 1 else () for number in range(1, 3000)}
    case = Case(needs, keys={number: LOOSE if 1 < number < 2999 else FILES for number in needs}, jobs=9)
    for number in needs:
        made = Made("2:x", {"run": digest("x"), "inputs": "in"}, files="out", yields="y")
        case.state._put(number, PhaseState("completed", attempts=1, attempt=1, made=made))
    case.given()
    assert "PhaseReset 2999" in told(goes_on(case, {1: CHANGED}))


def test_one_that_has_not_run_yet_waits_for_it_as_well():
    case = done_once({1: (), 2: (1,), 3: (2,)}, {1: FILES, 2: LOOSE, 3: LOOSE})
    decision = case.step(obs.Asked("k1", "reset", "ann", 3), obs.Asked("k2", "reset", "ann", 1))
    assert told(decision)[:2] == ["PhaseReset 3", "PhaseReset 1"]
    goes_on(case, {})
    case.step(measured(1))
    assert sorted(case.state.live) == [1]
    assert started(case.step(obs.Ended(an(1, 2), DONE))) == [3]


def test_of_what_lies_outside_of_the_range_nobody_waits():
    case = done_once({1: (), 2: (1,), 3: (2,)}, {1: FILES, 2: LOOSE, 3: LOOSE})
    case.step(obs.Asked("k1", "reset", "ann", 3), obs.Asked("k2", "reset", "ann", 1))
    assert started(goes_on(case, {}, scope=Scope(only=(3,)))) == [3]
