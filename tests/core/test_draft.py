from __future__ import annotations

from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core.draft import Decision, Draft
from tests.core.given import Case, an, completed, failed, intended, retrying

CHAIN = {1: (), 2: (1,), 3: (2,)}


def draft(case: Case) -> Draft:
    return Draft(case.plan, case.state, case.agenda, case.moment, case.mode)


def test_a_draft_sees_its_own_events_and_the_state_stays_as_it_is():
    case = Case(CHAIN)
    one = draft(case)
    one.note(intended(1))
    assert one.phase(1).step == "starting" and one.live() == {1}
    assert case.state.phase(1).status == "pending" and case.state.live == set()
    one.note(completed(1))
    assert one.live() == set() and one.decision().events == (intended(1), completed(1))


def test_current_is_the_attempt_that_its_phase_waits_for():
    one = draft(Case(CHAIN).live(1, attempt=3))
    assert one.is_current(an(1, 3))
    assert not any(map(one.is_current, (an(1, 2), an(1, 4), an(2, 1), an(1, 3, run="r0"), an(99))))
    one.note(completed(1, 3))
    assert not one.is_current(an(1, 3))


def test_what_becomes_ready_by_this_very_decision_may_start_in_it():
    one = draft(Case(CHAIN).live(1))
    assert one.startable(9) == []
    one.note(completed(1))
    assert one.startable(9) == [2]
    one.note(intended(2))
    assert one.startable(9) == []


def test_what_ceases_to_be_ready_by_this_decision_may_not():
    one = draft(Case(CHAIN).given(intended(1), completed(1)))
    assert one.startable(9) == [2]
    one.note(ev.PhaseReset(1, "--force"))
    assert one.startable(9) == [1]
    one.note(ev.PhaseCancelled(1, "by ann"))
    assert one.startable(9) == []


def test_the_smallest_numbers_come_first_whether_ready_or_due_again():
    case = Case(dict.fromkeys(range(1, 8), ()))
    case.given(intended(6), retrying(6, 0), intended(7), retrying(7, 0))
    assert draft(case).startable(2) == [1, 2]
    assert draft(case).startable(9) == [1, 2, 3, 4, 5, 6, 7]


def test_a_retry_may_start_when_it_is_due_and_not_before():
    case = Case({1: ()}).given(intended(1), retrying(1, 60))
    case.tick = 59.9
    assert draft(case).startable(1) == [] and draft(case).has_waiting()
    case.tick = 60.1
    assert draft(case).startable(1) == [1]


def test_a_retry_that_this_decision_made_waits_or_is_free_to_wait_for():
    case = Case(CHAIN).live(1)
    one = draft(case)
    assert not one.has_waiting()
    one.note(retrying(1))
    assert one.has_waiting() and one.startable(1) == []
    one.note(ev.PhaseCancelled(1, "by ann"))
    assert not one.has_waiting()


def test_a_retry_counts_as_waiting_once_its_need_is_done_again_and_not_before():
    case = Case({1: (), 2: (1,)}).given(
        intended(1), completed(1), intended(2), retrying(2), ev.PhaseReset(1, "--force")
    )
    case.live(1, attempt=2)
    one, other = draft(case), draft(case)
    assert not one.has_waiting()
    one.note(completed(1, 2))
    assert one.has_waiting()
    other.note(failed(1, 2))
    assert not other.has_waiting()


def test_to_stop_twice_is_told_twice_and_written_once_unless_it_insists():
    one = draft(Case(CHAIN).live(1))
    one.stop(1, "why")
    one.stop(1, "why")
    one.stop(1, "why", insist=True)
    asked, insisted = act.StopAttempt(an(1), "why"), act.StopAttempt(an(1), "why", True)
    assert one.decision().events == (ev.StopRequested(1, 1, "why"), ev.StopRequested(1, 1, "why", True))
    assert one.decision().actions == (asked, asked, insisted)


def test_every_event_has_the_reason_that_held_when_it_was_noted():
    one = draft(Case(CHAIN))
    one.reason = "its needs are done"
    one.note(intended(1))
    one.reason = "SIGINT to orch"
    one.stop_run("SIGINT", 130)
    one.stop_all("ended by SIGINT")
    assert one.decision().reasons == ("its needs are done", "SIGINT to orch", "SIGINT to orch")


def test_stopping_a_run_is_known_to_the_rest_of_the_decision():
    one = draft(Case(CHAIN))
    assert one.stopping is None
    one.stop_run("SIGINT", 130)
    assert (one.stopping, one.stopping_code) == ("SIGINT", 130) and one.decision().events == (
        ev.RunStopping("SIGINT", 130),
    )
    assert draft(Case(CHAIN).given(ev.RunStopping("SIGINT", 130))).stopping == "SIGINT"
    assert draft(Case(CHAIN, starts=False).given(ev.RunStopping("SIGINT", 130))).stopping is None


def test_a_decision_is_empty_when_nothing_follows():
    assert Decision((), ()).is_empty and Decision((), (), pressed=(1,)).is_empty
    assert not Decision((), (act.TakeOutcome(an(1)),)).is_empty and not Decision((intended(1),), ()).is_empty
