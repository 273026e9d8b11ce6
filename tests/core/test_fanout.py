"""Phases that fan out, decided step by step: which items, when they start, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.cachekey import digest
from orchestrator.core.draft import Decision
from orchestrator.core.fanout import may_fail
from orchestrator.core.item import Item, item, number_of, phase_of
from orchestrator.core.phase import phase_document
from orchestrator.core.preview import preview
from orchestrator.core.spec import Foreach
from orchestrator.core.state import State, from_document, run_document
from tests.core.given import FINE, Case, an, asked, failing, run_asked, spec_of

ABC = Foreach(("a", "b", "c"))


def fanned(foreach: Foreach = ABC, *, jobs: int = 9, **keys: Any) -> Case:
    """Phase 2 of three in a row fans out; phase 1 is about to end."""
    keys = {"retries": 0, **keys, "foreach": foreach}
    return Case({1: (), 2: (1,), 3: (2,)}, jobs=jobs, keys={2: keys}).live(1)


def spread(foreach: Foreach = ABC, **keys: Any) -> Case:
    """It has just done so."""
    case = fanned(foreach, **keys)
    case.step(obs.Ended(an(1), FINE))
    case.step()
    return case


def begun(decision: Decision) -> list[str]:
    return [str(event.number) for event in decision.events if isinstance(event, ev.AttemptIntended)]


def ended(*indexes: int, of: int = 2, attempt: int = 1, how: Any = FINE) -> list[obs.Observation]:
    return [obs.Ended(an(item(of, index), attempt), how) for index in indexes]


def answered(decision: Decision) -> ev.AskAnswered:
    return next(event for event in decision.events if isinstance(event, ev.AskAnswered))


def fans_out_to(decision: Decision) -> tuple[Any, ...]:
    """That, and nothing else, is decided."""
    (event,) = decision.events
    assert isinstance(event, ev.FannedOut) and event.number == 2
    return event.items


def kinds(decision: Decision) -> list[str]:
    return [event.kind for event in decision.events]


@pytest.mark.parametrize("text", ["4[17]", "-8[0]", "999999999[999999]"])
def test_an_item_is_written_as_people_ask_for_it(text):
    number = number_of(text)
    assert isinstance(number, Item) and str(number) == f"{number}" == text
    assert phase_of(number) == int(text.partition("[")[0]) and number > 999_999_999
    assert number_of(4) == number_of("4") == phase_of(4) == 4 and not isinstance(number_of("4"), Item)


@pytest.mark.parametrize("text", ["", "4[]", "4[-1]", "4[1", "[1]", "4[1000000]", "four"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="invalid literal"):
        number_of(text)


def test_it_fans_out_when_its_needs_are_done_and_its_items_start_where_slots_are():
    case = fanned(jobs=2)
    assert kinds(case.step(obs.Ended(an(1), FINE))) == ["PhaseCompleted"]
    assert case.wake() == 0.0
    assert fans_out_to(case.step()) == ("a", "b", "c")
    decision = case.step()
    assert begun(decision) == ["2[0]", "2[1]"]
    orders = [action.order for action in decision.actions if isinstance(action, act.StartAttempt)]
    assert [order.item for order in orders] == [("a",), ("b",)]
    assert orders[0].log == "system/logs/phases/2[0]/1.log" and orders[0].results == {"1": {"n": 1}}
    assert begun(case.step(*ended(1))) == ["2[2]"]


def test_its_result_is_the_list_of_theirs_in_order():
    case = spread()
    case.step()
    for index, name in ((2, "C"), (0, "A"), (1, "B")):
        last = case.step(*ended(index, how=FINE.replace(result=name)), after=1.0)
    assert kinds(last) == ["PhaseCompleted"] and case.wake() == 0.0
    following = case.step()
    assert following.events[0] == ev.Gathered(2, ["A", "B", "C"], (), 3.0, yields=digest([["A", "B", "C"], ""]))
    assert begun(following) == ["3"] and following.actions[0].order.results == {"2": ["A", "B", "C"]}


def test_none_at_all_is_a_list_too():
    case = fanned(Foreach(()))
    case.step(obs.Ended(an(1), FINE))
    case.step()
    assert (decision := case.step()).events[0] == ev.Gathered(2, [], (), 0.0, yields=digest([[], ""]))
    assert begun(decision) == ["3"]


@pytest.mark.parametrize(
    ("result", "keys", "items"),
    [(["x"], (), ("x",)), ({"files": {"new": [1, 2]}}, ("files", "new"), (1, 2)), ([[7]], (0,), (7,)), ([], (), ())],
)
def test_items_from_a_result(result, keys, items):
    case = fanned(Foreach(result=1, keys=keys))
    case.step(obs.Ended(an(1), FINE.replace(result=result)))
    assert fans_out_to(case.step()) == items


@pytest.mark.parametrize(
    ("result", "keys", "why"),
    [
        ({"file": []}, ("files",), "result(1) has no 'files': it is {'file': []}"),
        (None, ("files",), "result(1) has no 'files': it is None"),
        ({"files": "a"}, ("files",), "result(1)['files'] is no list: it is 'a'"),
        ([], (3,), "result(1) has no 3: it is []"),
    ],
)
def test_what_is_no_list_fails_it_and_says_what_it_is(result, keys, why):
    case = fanned(Foreach(result=1, keys=keys))
    case.step(obs.Ended(an(1), FINE.replace(result=result)))
    failed = case.step().events[0]
    assert isinstance(failed, ev.GatherFailed) and failed.failure.code == "VALIDATION"
    assert failed.failure.message == f"it cannot fan out: {why}"
    assert case.step().events == (ev.RunEnded("failed", 1),)


def test_files_are_listed_by_a_hand():
    case = fanned(Foreach(files="data/*.csv"))
    case.step(obs.Ended(an(1), FINE))
    assert case.step().actions == (act.ListFiles(2, "data/*.csv"),)
    found = obs.FilesListed(2, ("data/a.csv",))
    assert fans_out_to(case.step(found, found)) == ("data/a.csv",), "news that come twice"
    assert case.step(found).events[0].kind == "AttemptIntended", "and late"


def test_files_that_were_listed_before_what_it_needs_was_reset_count_no_more():
    case = fanned(Foreach(files="data/*.csv"))
    case.step(obs.Ended(an(1), FINE))
    case.step()
    together = case.step(asked("reset", 1), obs.FilesListed(2, ("data/a.csv",)))
    assert not case.state.phase(1).is_done and "FannedOut" not in kinds(together)
    assert "FannedOut" not in kinds(case.step(obs.FilesListed(2, ("data/a.csv",))))
    case.step(obs.Ended(an(1, 2), FINE))
    assert case.step().actions == (act.ListFiles(2, "data/*.csv"),)


def test_files_that_cannot_be_listed_fail_it():
    case = fanned(Foreach(files="data/*.csv"))
    case.step(obs.Ended(an(1), FINE))
    failed = case.step(obs.FilesListed(2, why_not="the disk is gone")).events[0]
    assert failed.failure.message == "it cannot fan out: the disk is gone"


def test_no_more_at_once_than_it_says():
    case = spread(max_parallel=2)
    assert begun(case.step()) == ["2[0]", "2[1]"]
    assert begun(case.step(*ended(0))) == ["2[2]"]


def test_each_item_has_its_own_tries():
    case = spread(retries=1)
    case.step()
    case.step(*ended(0, 2), *ended(1, how=failing()))
    assert case.status(item(2, 1)) == "retry_wait" and case.status(2) == "pending"
    assert begun(case.step(after=100.0)) == ["2[1]"]
    case.step(*ended(1, attempt=2))
    assert case.step().events[0].kind == "Gathered"


def test_one_that_fails_fails_the_phase_when_the_others_have_ended():
    case = spread()
    case.step()
    assert kinds(case.step(*ended(1, how=failing("FAILED")))) == ["PhaseFailed"]
    assert not case.step().events, "the others go on"
    case.step(*ended(0, 2))
    failed = case.step()
    assert failed.events[0].failure.message == "1 of 3 items failed, the first is 2[1]: FAILED: no"
    assert case.step().events == (ev.RunEnded("failed", 1),)


def test_fail_fast_ends_the_others_and_begins_no_more():
    case = spread(fail_fast=True, max_parallel=2)
    case.step()
    decision = case.step(*ended(0, how=failing("FAILED")))
    assert kinds(decision) == ["PhaseFailed", "GatherFailed", "StopRequested"]
    assert decision.events[1].failure.message.endswith("; 1 were not begun")
    assert kinds(case.step(*ended(1, how=FINE.replace(kind="stopped", exit_status=None)))) == ["PhaseCancelled"]
    assert case.step().events == (ev.RunEnded("failed", 1),)


@pytest.mark.parametrize(
    ("after", "many", "most"), [(None, 10, 0), (0.05, 19, 0), (0.05, 20, 1), (0.29, 100, 29), (3.0, 9, 3)]
)
def test_how_many_may_fail(after, many, most):
    assert may_fail(spec_of(1, fail_after=after), many) == most


def test_as_many_as_may_fail_are_borne_and_named():
    case = spread(fail_after=1.0)
    case.step()
    case.step(*ended(1, how=failing("FAILED")), *ended(0, 2))
    gathered = case.step().events[0]
    assert (gathered.kind, gathered.result, gathered.failed) == ("Gathered", [{"n": 1}, None, {"n": 1}], (1,))
    assert case.state.phase(2).why == "1 of its items failed"
    case.step(obs.Ended(an(3), FINE))
    assert case.state.run.verdict == "completed"


def test_a_run_that_fails_fast_ends_at_the_first_item_that_is_not_borne():
    case = spread(fail_after=1.0)
    case.mode = case.mode.replace(fail_fast=True)
    case.step()
    assert kinds(case.step(*ended(0, how=failing("FAILED")))) == ["PhaseFailed"]
    case.step(*ended(1, how=failing("FAILED")))
    assert case.state.run.stopping == "phase 2 failed, and --fail-fast was asked for"


def test_another_call_runs_what_failed_again_and_keeps_the_rest():
    case = spread()
    case.step()
    case.step(*ended(1, how=failing("FAILED")), *ended(0, 2))
    case.step()
    case.step()
    assert case.state.run.verdict == "failed"
    again = case.step(run_asked())
    assert ev.PhaseReset(2, "it was failed", items=(1,)) in again.events
    assert begun(case.step()) == ["2[1]"]
    case.step(*ended(1, attempt=2))
    assert case.step().events[0].result == [{"n": 1}] * 3


def test_a_run_that_was_cut_off_finds_its_items_where_they_were():
    case = spread()
    case.step()
    case.step(*ended(0))
    document = {**run_document(case.state), "phases": {}, "items": {}}
    document["phases"] = {str(number): phase_document(phase) for number, phase in case.state.phases.items()}
    document["items"] = {str(number): phase.as_dict() for number, phase in case.state.items.items()}
    case.state = from_document(document)
    case.given()
    assert {str(number) for number in case.state.live} == {"2[1]", "2[2]"}
    case.step(*ended(1, 2))
    assert case.step().events[0].kind == "Gathered"


def test_force_and_a_new_run_fan_out_anew():
    for again in (run_asked(force=True), run_asked(new=True, run="r2")):
        case = spread()
        case.step()
        case.step(*ended(0, 1, 2))
        case.step()
        case.step(obs.Ended(an(3), FINE))
        case.step(again)
        assert case.state.phase(2).items is None and not case.plan.items
        case.step(obs.Ended(an(1, 2, case.state.run.id), FINE)) if begun(case.step()) else None
        case.step()
        assert case.state.phase(2).items == ("a", "b", "c")
        attempts = [event.attempt for event in case.step().events if isinstance(event, ev.AttemptIntended)]
        assert attempts == [2, 2, 2], "their attempts are counted through all runs"


def test_cancel_of_the_phase_ends_its_items_and_retry_takes_it_back():
    case = spread(max_parallel=2)
    case.step()
    decision = case.step(asked("cancel", 2))
    assert kinds(decision) == ["PhaseCancelled", "StopRequested", "StopRequested", "AskAnswered"]
    assert not begun(case.step(*ended(0, 1, how=FINE.replace(kind="stopped", exit_status=None))))
    assert answered(case.step(asked("retry", 2, ask="k2"))).accepted and case.state.phase(2).status == "pending"
    assert begun(case.step()) == ["2[0]", "2[1]"]


def test_one_item_is_cancelled_and_sent_again_by_its_number():
    case = spread(fail_after=2.0)
    case.step()
    case.step(*ended(0, 1))
    assert answered(case.step(asked("cancel", item(2, 2)))).text == "ending attempt 2[2].1"
    case.step(*ended(2, how=FINE.replace(kind="stopped", exit_status=None)))
    gathered = case.step().events[0]
    assert (gathered.kind, gathered.failed) == ("Gathered", (2,))
    answer = case.step(asked("retry", item(2, 2), ask="k2"))
    assert answered(answer).text == "phase 2[2] is pending, with fresh tries"
    assert begun(answer) == ["2[2]"]
    refused = answered(case.step(asked("retry", item(2, 0), ask="k3")))
    again = "`orch reset '2[0]'` has it run again"
    assert not refused.accepted and refused.text == f"phase 2[0] is completed; {again}"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (item(2, 3), "there is no 2[3]: it has 2[0] to 2[2]"),
        (item(3, 0), "there is no 3[0]: it has not fanned out"),
        (item(9, 0), "there is no phase 9; the nearest is 3 of 1 to 3"),
    ],
)
def test_an_item_that_is_not_there_is_named(number, text):
    answer = answered(spread().step(asked("retry", number)))
    assert (answer.accepted, answer.text) == (False, text)


def test_an_item_whose_agent_died_costs_no_try_and_is_run_again():
    case = spread()
    case.step()
    case.step(obs.OwnerDead(an(item(2, 1)), "agent a1", "since", "gone"))
    assert case.status(item(2, 1)) == "failed" and case.state.phase(item(2, 1)).failures == 0


def test_the_plan_says_what_it_fans_out_over():
    case = fanned(Foreach(result=1, keys=("files",)))
    assert preview(case.plan, State(), case.agenda.scope)[1].why == "not run yet; for each of result(1)['files']"


def test_ten_thousand_items_are_decided_in_proportion():
    """The decisions of a run, counted in lookups of phases: no decision walks all items."""
    looks = {}
    for many in (200, 2000):
        case = spread(Foreach(tuple(range(many))), jobs=4)
        count, plain = 0, State.phase

        def counting(state: State, number: int, plain: Any = plain) -> Any:
            nonlocal count
            count += 1
            return plain(state, number)

        State.phase = counting  # type: ignore[method-assign]
        try:
            live = begun(case.step())
            while live:
                decision = case.step(*(obs.Ended(an(number_of(one)), FINE) for one in live))
                live = begun(decision)
            assert case.step().events[0].kind == "Gathered"
        finally:
            State.phase = plain  # type: ignore[method-assign]
        looks[many] = count / many
    assert looks[2000] < 1.5 * looks[200], looks


def test_what_is_waited_for_is_not_waited_for_longer_because_something_fans_out():
    """The clock was set back meanwhile: only the delay itself is left to go by."""
    case = Case({1: (), 2: (1,), 3: (), 4: ()}, jobs=9, keys={2: {"foreach": ABC}}).live(1, 3, 4)
    case.step(obs.Ended(an(3), failing()))
    due = case.agenda.waiting[0][0]
    nets = case.agenda.watches[4].strikes_at
    case.clock -= 500_000
    case.step(obs.Ended(an(1), FINE), after=10.0)
    case.step()
    assert case.plan.items and case.agenda.waiting[0] == (due, 3)
    assert case.agenda.watches[4].strikes_at == nets


def test_an_item_whose_retry_is_due_is_not_begun_when_its_phase_is_reset():
    case = spread(retries=3)
    case.step()
    case.step(*ended(0, of=2, how=failing()))
    due = case.state.phase(item(2, 0)).retry_delay_seconds or 0.0
    case.step(*ended(1, 2, of=2))
    together = case.step(asked("reset", 2), after=due + 1.0)
    assert "PhaseReset" in kinds(together) and not begun(together)


def test_what_is_reset_when_its_last_item_has_ended_is_not_gathered_but_done_again():
    case = spread()
    case.step()
    case.step(*ended(0, 1, 2))
    assert case.agenda.to_gather == {2}
    together = case.step(asked("reset", 2))
    assert "PhaseReset" in kinds(together) and "Gathered" not in kinds(together)
    case.step()
    assert begun(case.step()) == ["2[0]", "2[1]", "2[2]"]
