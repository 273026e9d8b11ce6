from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core import stuck
from orchestrator.core.agenda import Agenda
from orchestrator.core.decide import is_over
from orchestrator.core.draft import Decision
from orchestrator.core.events import Scope
from orchestrator.core.names import Identity, iso
from orchestrator.core.outcome import Failure, Outcome, failure_of
from orchestrator.core.state import ANSWERS_KEPT
from tests.core.given import (
    AGENT,
    FINE,
    ME,
    NOW,
    Case,
    an,
    asked,
    completed,
    failed,
    failing,
    intended,
    retrying,
    run_asked,
)

CHAIN = {1: (), 2: (1,), 3: (2,)}
LOST = Failure("INTERRUPTED", "its agent is gone: its connection broke")
SIGINT, SIGTERM = obs.Interrupt("SIGINT", 130), obs.Interrupt("SIGTERM", 143)
ENDED_COMPLETED = ev.RunEnded("completed", 0)
NOBODY_WAITS = "nobody waits for this attempt any more"


def told(decision: Decision) -> tuple[tuple[ev.Event, ...], tuple[act.Action, ...]]:
    return decision.events, decision.actions


def take(*numbers: int, attempt: int = 1) -> tuple[act.TakeOutcome, ...]:
    return tuple(act.TakeOutcome(an(number, attempt)) for number in numbers)


def ended(number: int, outcome: Outcome = FINE, attempt: int = 1) -> obs.Ended:
    return obs.Ended(an(number, attempt), outcome)


# ---- starts


def test_what_is_ready_starts_smallest_first_on_the_slots_there_are():
    case = Case({3: (), 1: (), 2: ()}, jobs=2)
    assert told(case.decide()) == ((case.intends(1), case.intends(2)), (case.start(1), case.start(2)))


def test_a_slot_that_becomes_free_is_used_by_the_same_decision():
    case = Case(CHAIN, jobs=1).live(1)
    decision = case.step(ended(1))
    assert told(decision) == ((completed(1), case.intends(2)), (*take(1), case.start(2)))
    assert decision.actions[1].order.results == {"1": {"n": 1}}


def test_nothing_starts_without_an_agent_and_the_run_waits_for_one():
    case = Case(CHAIN, agent="")
    assert case.decide().is_empty and case.wake() == 3600.0
    case.mode = case.mode.replace(agent="a1")
    assert case.wake() == 0.0


def test_never_more_than_jobs_whoever_has_them_in_hand():
    case = Case(dict.fromkeys(range(1, 6), ()), jobs=2).live(1, 2, 3)
    assert case.decide().is_empty
    assert told(case.step(ended(1))) == ((completed(1),), take(1))
    assert told(case.step(ended(2))) == ((completed(2), case.intends(4)), (*take(2), case.start(4)))


def test_only_the_range_is_run():
    case = Case(CHAIN, scope=Scope(only=(1,)))
    case.step()
    assert case.step(ended(1)).events == (completed(1), ENDED_COMPLETED)
    assert case.status(2) == "pending"


def test_a_turn_starts_nothing_and_ends_no_run():
    case = Case(CHAIN, starts=False)
    assert case.decide().is_empty and is_over(case.state, case.mode)
    case.live(1)
    assert told(case.step(ended(1))) == ((completed(1),), take(1))


# ---- ends


@pytest.mark.parametrize("news", [*permutations((obs.Tick(), obs.Started(an(2), 32, 3), ended(1), ended(2)))])
def test_an_end_beats_its_deadline_in_any_order_of_the_batch(news):
    case = Case({1: (), 2: ()}, timeout=10.0).given(intended(1), intended(2))
    case.tick = 1000.0
    decision = case.decide(*news)
    first, second = (1, 2) if news.index(ended(1)) < news.index(ended(2)) else (2, 1)
    assert decision.events == (completed(first), completed(second), ENDED_COMPLETED) and not decision.pressed
    assert decision.actions == take(first, second), "news of a start whose end is known is nothing to act on"


def test_an_end_beats_the_loss_of_its_agent():
    case = Case({1: ()}).live(1)
    decision = case.decide(obs.AgentGone("a1", "it left"), ended(1))
    assert decision.events == (completed(1), ev.AgentLeft("a1", "it left"), ENDED_COMPLETED)


def test_a_success_that_arrives_while_stopping_is_a_success():
    case = Case({1: ()}).live(1).given(ev.StopRequested(1, 1, "cancelled by ann"))
    assert told(case.step(ended(1)))[0] == (completed(1), ENDED_COMPLETED)


FAILED_BY_ITSELF = failing("RESOURCE")
IN_TIME = Outcome("lost", failure=LOST)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome("stopped", duration_seconds=2.0), "cancelled"),
        (Outcome("signalled", signal=15, duration_seconds=2.0), "cancelled"),
        (Outcome("exited", 1, duration_seconds=2.0), "cancelled"),
        (Outcome("never_started", duration_seconds=2.0), "cancelled"),
        (FAILED_BY_ITSELF, "failed"),
        (IN_TIME.replace(duration_seconds=2.0), "failed"),
    ],
    ids=lambda value: value.kind if isinstance(value, Outcome) else value,
)
def test_however_it_ends_while_stopping_it_is_not_tried_again(outcome, status):
    case = Case({1: (), 2: ()}, jobs=1).live(1).given(ev.StopRequested(1, 1, "cancelled by ann"))
    event = case.decide(ended(1, outcome)).events[0]
    if status == "cancelled":
        assert event == ev.PhaseCancelled(1, "cancelled by ann", 1, 2.0)
    else:
        assert event == ev.PhaseFailed(1, 1, failure_of(outcome), 2.0)


def test_a_failure_waits_for_its_next_try_and_says_until_when():
    case = Case({1: ()}).live(1)
    decision = case.step(ended(1, failing()))
    delay = decision.events[0].delay_seconds
    scheduled = ev.RetryScheduled(1, 1, Failure("TRANSIENT", "no"), 2.0, case.after(delay), delay)
    assert told(decision) == ((scheduled,), take(1))
    assert 0.9 * 60 <= delay <= 1.1 * 60 and case.wake() == pytest.approx(delay, abs=0.002)
    assert case.step(after=delay - 0.1).is_empty
    assert told(case.step(after=0.2)) == ((case.intends(1, 2),), (case.start(1, 2),))


@pytest.mark.parametrize(
    ("code", "keys", "tries"),
    [("TRANSIENT", {}, 4), ("FAILED", {}, 2), ("NOT_FOUND", {}, 1), ("TIMEOUT", {}, 1), ("TRANSIENT", {"retries": 0}, 1),
     ("TIMEOUT", {"retries": 2}, 3), ("NOT_FOUND", {"retries": 2}, 1)],
)  # fmt: skip
def test_a_phase_is_tried_as_often_as_its_class_and_its_author_say(code, keys, tries):
    case = Case({1: ()}, keys={1: keys})
    case.step()
    for attempt in range(1, tries):
        assert [event.kind for event in case.step(ended(1, failing(code), attempt)).events] == ["RetryScheduled"]
        case.step(after=3 * 3600)
        assert case.status(1) == "starting"
    last = case.step(ended(1, failing(code), tries)).events
    assert [event.kind for event in last] == ["PhaseFailed", "RunEnded"] and last[0].why_final
    assert (case.state.phase(1).attempts, case.state.phase(1).retry_count) == (tries, tries - 1)


def test_an_attempt_that_never_started_costs_no_try_and_is_made_again_at_once():
    case = Case({1: ()}).given(intended(1))
    assert told(case.step(ended(1, Outcome("never_started")))) == (
        (ev.AttemptWithdrawn(1, 1, "it was never started"), case.intends(1, 2)), (*take(1), case.start(1, 2)),
    )  # fmt: skip
    phase = case.state.phase(1)
    assert (phase.attempt, phase.attempts, phase.failures, phase.retry_count, phase.errors) == (2, 1, 0, 0, ())


def test_one_that_could_not_be_started_is_a_failure_with_its_reason():
    case = Case({1: ()}).given(intended(1))
    outcome = Outcome("never_started", failure=Failure("CONFIGURATION", "no such program: foo"))
    assert case.step(ended(1, outcome)).events[0] == ev.PhaseFailed(
        1, 1, outcome.failure, 0.0, "CONFIGURATION is never retried"
    )


def test_found_at_start_up_never_started_costs_no_try_either():
    case = Case({1: ()}, starts=False).given(intended(1))
    decision = case.step(obs.NeverStarted(an(1)))
    assert decision.events == (ev.AttemptWithdrawn(1, 1, "intended, but never started"),) and decision.recovered == (1,)
    assert case.state.phase(1).attempts == 0


def test_what_the_journal_says_has_started_is_not_forgotten_when_nobody_knows_of_it():
    case = Case({1: ()}, starts=False).live(1)
    (event,) = case.step(obs.NeverStarted(an(1))).events
    assert isinstance(event, ev.PhaseRecovered) and event.failure.code == "INTERRUPTED"
    assert case.state.phase(1).failures == 0


def test_what_was_told_to_end_and_is_nowhere_has_ended():
    case = Case({1: ()}, starts=False).given(intended(1), ev.StopRequested(1, 1, "cancelled by ann"))
    assert case.step(obs.NeverStarted(an(1))).events == (ev.PhaseCancelled(1, "cancelled by ann", 1),)


def test_an_agent_that_takes_no_work_says_all_that_it_has_in_hand():
    """One that did not answer when the lock was taken may join later: what it does not name, it never had."""
    case = Case({1: (), 2: (), 3: ()}, starts=False).live(1).given(intended(2))
    joined = obs.AgentJoined("a1", AGENT, (an(1),), takes_work=False)
    assert case.step(joined).events == (ev.AttemptWithdrawn(2, 1, "intended, but never started"),)
    case.given(intended(3))
    assert case.step(obs.AgentJoined("a1", AGENT, (an(1),))).is_empty, "an order may be on its way to our own"


@pytest.mark.parametrize("attempt", [an(1, 1), an(1, 3), an(1, 2, run="r0"), an(2), an(99)])
def test_news_of_an_unknown_or_older_attempt_changes_nothing_and_is_answered(attempt):
    case = Case({1: (), 2: ()}, starts=False).live(1, attempt=2)
    stop = act.StopAttempt(attempt, NOBODY_WAITS, True)
    assert told(case.decide(obs.Ended(attempt, FINE))) == ((), (act.TakeOutcome(attempt),))
    assert told(case.decide(obs.Started(attempt, 9, 9))) == ((), (stop,))
    assert told(case.decide(obs.AgentJoined("a1", AGENT, (attempt,)))) == ((), (stop,))
    assert case.decide(obs.NeverStarted(attempt)).is_empty
    assert case.decide(obs.OwnerDead(attempt, "a1", "", "")).is_empty


def test_news_that_comes_twice_counts_once():
    case = Case({1: ()}, jobs=1).live(1)
    assert told(case.step(ended(1), ended(1, failing()))) == ((completed(1), ENDED_COMPLETED), take(1, 1))
    assert told(case.step(ended(1))) == ((), take(1))
    started = obs.Started(an(1), 31, 3)
    case = Case({1: ()}).given(intended(1))
    assert case.step(started, started).events == (ev.AttemptStarted(1, 1, 31, 3),) and case.step(started).is_empty


# ---- agents


def test_an_agent_is_engaged_once_and_told_again_what_it_is_to_stop():
    case = Case({1: (), 2: ()}).live(1, 2).given(ev.StopRequested(2, 1, "cancelled by ann"))
    new = Identity(77, 7, "boot", "host/1")
    seen = obs.AgentJoined("a1", new, (an(1), an(2)))
    assert told(case.step(seen)) == ((ev.AgentEngaged("a1", new),), (act.StopAttempt(an(2), "cancelled by ann"),))
    assert case.step(seen).events == ()


def test_the_loss_of_an_agent_is_the_loss_of_its_attempts_and_they_are_made_again_at_once():
    case = Case({1: (), 2: ()}).live(1)
    case.given(ev.AttemptIntended(2, 1, "a2", "key"))
    case.mode = case.mode.replace(agent="a3")
    decision = case.step(obs.AgentGone("a1", "its connection broke"))
    assert decision.events[:2] == (
        ev.AgentLeft("a1", "its connection broke"), ev.RetryScheduled(1, 1, LOST, 0.0, case.after(0), 0.0),
    )  # fmt: skip
    assert case.status(2) == "starting" and case.wake() == 0.0
    assert case.step().events == (case.intends(1, 2).replace(agent="a3"),)


def test_the_loss_of_an_agent_while_stopping_is_the_end_that_was_asked_for():
    case = Case({1: ()}).live(1).given(ev.StopRequested(1, 1, "cancelled by ann"))
    assert case.decide(obs.AgentGone("a1", "it left")).events[1] == ev.PhaseCancelled(1, "cancelled by ann", 1, 0.0)


def test_three_interruptions_in_a_row_are_forgiven_and_the_fourth_says_so():
    case = Case({1: ()}, keys={1: {"retries": 0}})
    case.step()
    for attempt in range(1, 4):
        case.step(ended(1, Outcome("lost", failure=LOST), attempt))
        case.step()
        assert (case.status(1), case.state.phase(1).failures) == ("starting", 0)
    assert case.step(ended(1, Outcome("lost", failure=LOST), 4)).events == (
        ev.PhaseFailed(1, 4, LOST, 0.0, "interrupted 4 times in a row"), ev.RunEnded("failed", 1),
    )  # fmt: skip
    assert case.step(run_asked()).events == (ev.RunContinued("r1", Scope(), ME, "orch run", 2, 120.0, 7200.0),)
    assert case.step().events == (ev.RunEnded("failed", 1),), "not even the next run tries it by itself"
    case.step(run_asked(force=True))
    assert case.status(1) == "pending" and case.state.phase(1).interruptions == 0


def test_a_dead_owner_is_a_failure_that_costs_no_try_and_the_next_run_makes_it_good():
    case = Case({1: ()}).live(1)
    case.mode = case.mode.replace(starts=False)
    for attempt in range(1, 4):
        decision = case.step(obs.OwnerDead(an(1, attempt), "agent a1", "yesterday", "killed"))
        sentence = "agent a1 is gone (killed); it was in progress since yesterday"
        found = Failure("INTERRUPTED", sentence)
        assert decision.events == (ev.PhaseRecovered(1, attempt, found, 0.0, "agent a1", "yesterday"),)
        assert decision.recovered == (1,) and case.state.phase(1).errors[-1]["message"] == sentence
        assert case.step(run_asked()).events[-1] == ev.PhaseReset(1, "it was failed", attempt)
        assert (case.state.phase(1).failures, case.state.phase(1).interruptions) == (0, attempt)
        case.live(1, attempt=attempt + 1)
    case.step(obs.OwnerDead(an(1, 4), "agent a1", "yesterday", "killed"))
    assert case.step(run_asked()).events[1:] == () and case.status(1) == "failed"


def test_a_success_ends_the_row_of_interruptions():
    case = Case({1: ()}).live(1)
    case.step(ended(1, Outcome("lost", failure=LOST)))
    case.step()
    case.step(ended(1, FINE, 2))
    assert case.state.phase(1).interruptions == 0


def test_without_agents_the_run_ends_and_says_why():
    case = Case({1: ()}, agent="")
    assert case.step(obs.NoAgents("no agent could be started")).events == (
        ev.RunStopping("no agent could be started", 70), ev.RunEnded("cancelled", 70),
    )  # fmt: skip


# ---- stopping


@pytest.mark.parametrize("signal", [SIGINT, SIGTERM])
def test_a_signal_ends_the_work_properly_a_second_one_insists_and_then_the_run_is_over(signal):
    case = Case({1: (), 2: (), 3: ()}).live(1, 2)
    why = f"ended by {signal.name}"
    assert told(case.step(signal)) == (
        (ev.RunStopping(signal.name, signal.exit_code), ev.StopRequested(1, 1, why), ev.StopRequested(2, 1, why)),
        (act.StopAttempt(an(1), why), act.StopAttempt(an(2), why)),
    )
    assert told(case.step(signal)) == (
        (ev.StopRequested(1, 1, why, True), ev.StopRequested(2, 1, why, True)),
        (act.StopAttempt(an(1), why, True), act.StopAttempt(an(2), why, True)),
    )
    stopped = Outcome("stopped")
    assert told(case.step(ended(1, stopped))) == ((ev.PhaseCancelled(1, why, 1, 0.0),), take(1)), (
        "nothing new is started"
    )
    assert case.step(ended(2, stopped)).events[1:] == (ev.RunEnded("cancelled", signal.exit_code),)
    assert (case.state.phase(1).failures, case.status(3)) == (0, "pending") and is_over(case.state, case.mode)


def test_two_signals_at_once_insist_too():
    case = Case({1: ()}).live(1)
    assert [action.insist for action in case.decide(SIGINT, SIGINT).actions] == [False, True]


def test_a_signal_with_nothing_in_hand_ends_the_run_at_once():
    case = Case({1: ()}).given(intended(1), retrying(1))
    assert case.step(SIGINT).events == (ev.RunStopping("SIGINT", 130), ev.RunEnded("cancelled", 130))


def test_no_attempt_is_made_while_the_run_is_stopping_not_even_a_withdrawn_one():
    case = Case({1: (), 2: ()}).given(intended(1), ev.RunStopping("SIGINT", 130))
    assert case.step(ended(1, Outcome("never_started"))).events == (
        ev.AttemptWithdrawn(1, 1, "it was never started"), ev.RunEnded("cancelled", 130),
    )  # fmt: skip


# ---- what people ask


def test_an_ask_is_answered_and_its_answer_kept():
    case = Case({1: (), 2: ()}, jobs=1).live(1)
    answered = ev.AskAnswered("k1", "cancel", "ann", True, "ending attempt 1.1", 1)
    assert told(case.step(asked("cancel", 1))) == (
        (ev.StopRequested(1, 1, "cancelled by ann"), answered),
        (act.StopAttempt(an(1), "cancelled by ann"), act.AnswerAsk("k1", True, "ending attempt 1.1")),
    )
    assert case.step(ended(1, Outcome("stopped"))).events[0] == ev.PhaseCancelled(1, "cancelled by ann", 1, 0.0)
    replayed = case.step(asked("cancel", 1))
    assert told(replayed) == ((), (act.AnswerAsk("k1", True, "ending attempt 1.1"),)), "answered alike, and done once"


def test_an_ask_that_comes_twice_at_once_is_answered_once():
    case = Case({1: ()}).given(intended(1), failed(1))
    decision = case.step(asked("retry", 1), asked("retry", 1))
    assert decision.events[:2] == (
        ev.PhaseReset(1, "retry asked by ann"),
        ev.AskAnswered("k1", "retry", "ann", True, "phase 1 is pending, with fresh tries", 1),
    )
    assert [action for action in decision.actions if isinstance(action, act.AnswerAsk)] == [
        act.AnswerAsk("k1", True, "phase 1 is pending, with fresh tries")
    ]


def test_a_refusal_is_kept_and_replayed_too():
    case = Case({1: ()}, agent="")
    refused = act.AnswerAsk("k1", False, "there is no phase 7; the nearest is 1 of 1 to 1")
    assert case.step(asked("cancel", 7)).actions == (refused,)
    assert told(case.step(asked("cancel", 7))) == ((), (refused,))


def test_an_ask_of_a_thousand_asks_ago_is_forgotten():
    case = Case({1: ()}, agent="")
    for index in range(ANSWERS_KEPT + 1):
        case.state.apply(ev.AskAnswered(f"k{index}", "retry", "ann", True, "yes"), 0.0)
    assert case.decide(asked("cancel", 7, "k1")).events == () and case.decide(asked("cancel", 7, "k0")).events != ()


def test_a_retry_asked_for_starts_in_the_same_decision():
    case = Case({1: ()}).given(intended(1), retrying(1, 3000))
    decision = case.step(asked("retry", 1))
    assert decision.events[0] == ev.PhaseReset(1, "retry asked by ann") and decision.events[2] == case.intends(1, 2)


def test_a_turn_cancels_what_was_left_and_is_over_when_it_has_ended():
    case = Case({1: ()}, starts=False).live(1)
    case.step(asked("cancel"))
    assert case.status(1) == "stopping" and not is_over(case.state, case.mode)
    assert case.step(ended(1, Outcome("stopped"))).events == (ev.PhaseCancelled(1, "cancelled by ann", 1, 0.0),)
    assert is_over(case.state, case.mode)


def test_after_an_interrupted_run_a_turn_may_retry():
    case = Case({1: (), 2: ()}).given(intended(1), failed(1))
    case.step(SIGINT)
    case.mode = case.mode.replace(starts=False)
    assert case.step(asked("retry", 1)).actions == (
        act.AnswerAsk("k1", True, "phase 1 is pending, with fresh tries; `orch run` runs it"),
    )


# ---- a run begins, goes on, is over


def test_what_comes_after_the_end_of_the_run_ends_and_starts_nothing():
    case = Case({1: (), 2: ()})
    case.given(intended(1), failed(1), intended(2), failed(2))
    assert case.step().events == (ev.RunEnded("failed", 1),)
    assert case.step(SIGINT).is_empty
    assert not case.step(asked("cancel")).actions[0].accepted
    answered = case.step(asked("retry", 1, "k2"))
    assert answered.actions == (act.AnswerAsk("k2", True, "phase 1 is pending, with fresh tries; `orch run` runs it"),)
    assert case.step().is_empty, "the next run starts it"


def test_the_first_run_begins_and_adopts_the_plan():
    case = Case({1: ()})
    case.state.__init__()  # type: ignore[misc]  # before everything
    case.given()
    opened = ev.RunStarted("r2", Scope(), ME, "orch run", 2, 120.0, 7200.0, "later")
    assert told(case.step(run_asked())) == ((opened, ev.PlanAdopted("digest", {"1": ["p1", ""]})), ())
    assert case.step().events == (case.intends(1),) and case.state.run.id == "r2"


def test_a_run_goes_on_under_its_id_and_what_failed_has_fresh_tries():
    case = Case(dict.fromkeys(range(1, 6), ()), agent="")
    case.given(intended(1), completed(1), intended(2), failed(2), ev.PhaseCancelled(3, "ann"), intended(4), retrying(4))
    case.given(ev.RunEnded("failed", 1))
    decision = case.step(run_asked())
    assert decision.events == (
        ev.RunContinued("r1", Scope(), ME, "orch run", 2, 120.0, 7200.0),
        ev.PhaseReset(2, "it was failed"),
        ev.PhaseReset(3, "it was cancelled"),
    )
    assert [case.status(number) for number in range(1, 6)] == [
        "completed",
        "pending",
        "pending",
        "retry_wait",
        "pending",
    ]
    assert case.state.phase(4).failures == 1, "it waits for its time, with the tries it has left"


def test_force_resets_what_is_in_the_range_and_leaves_what_is_live():
    case = Case(dict.fromkeys(range(1, 6), ()), agent="")
    case.given(intended(1), completed(1), intended(2), retrying(2), intended(3), intended(4), completed(4))
    decision = case.step(run_asked(force=True, scope=Scope(last=3)))
    assert decision.events[1:] == (ev.PhaseReset(1, "--force"), ev.PhaseReset(2, "--force"))
    assert (case.status(3), case.status(4)) == ("starting", "completed")


def test_new_begins_anew_and_attempts_are_numbered_on():
    case = Case({1: ()}).given(intended(1, 4), completed(1, 4))
    assert [event.kind for event in case.step(run_asked(new=True)).events] == ["RunStarted", "PlanAdopted"]
    assert case.state.run.id == "r2"
    assert case.step().actions[0].order.attempt == an(1, 5, run="r2")


def test_an_unchanged_plan_is_not_adopted_again_and_a_changed_one_is():
    case = Case({1: ()}, agent="")
    assert [event.kind for event in case.step(run_asked()).events] == ["RunContinued"]
    case.plan.digest = "another"
    assert [event.kind for event in case.step(run_asked()).events] == ["RunContinued", "PlanAdopted"]


@pytest.mark.parametrize(
    ("events", "no_wait", "ending"),
    [
        ((intended(1), completed(1), intended(2), completed(2)), False, ("completed", 0)),
        ((intended(1), failed(1)), False, ("failed", 1)),
        ((intended(1), completed(1), intended(2), failed(2)), False, ("failed", 1)),
        ((ev.PhaseCancelled(1, "by ann"),), False, ("cancelled", 1)),
        ((intended(1), retrying(1)), True, ("waiting", 3, iso(NOW + 60))),
        ((ev.RunStopping("SIGINT", 130),), False, ("cancelled", 130)),
        ((ev.RunStopping("SIGTERM", 143),), False, ("cancelled", 143)),
        ((ev.RunStopping("cancelled by ann", 1),), False, ("cancelled", 1)),
    ],
)
def test_how_a_run_ends_and_with_which_exit_code(events, no_wait, ending):
    case = Case({1: (), 2: (1,)}, no_wait=no_wait).given(*events)
    assert case.step().events == (ev.RunEnded(*ending),)
    assert is_over(case.state, case.mode) and case.step().is_empty
    assert (case.state.run.verdict, case.state.run.exit_code) == ending[:2]


def test_what_is_blocked_by_a_failure_does_not_run_and_the_rest_goes_on():
    case = Case({1: (), 2: (1,), 3: ()}, jobs=1).live(1)
    assert case.step(ended(1, failing("NOT_FOUND"))).events[1:] == (case.intends(3),)
    assert case.step(ended(3)).events[1:] == (ev.RunEnded("failed", 1),) and case.status(2) == "pending"


def test_a_run_whose_retry_waits_waits_with_it():
    case = Case({1: ()}).live(1)
    assert [event.kind for event in case.step(ended(1, failing())).events] == ["RetryScheduled"]
    assert case.step().is_empty and not is_over(case.state, case.mode)


def test_a_retry_waits_for_a_need_that_is_run_again_and_the_run_waits_with_both():
    case = Case({1: (), 2: (1,)}).given(
        intended(1), completed(1), intended(2), retrying(2, 0), ev.PhaseReset(1, "--force")
    )
    assert case.step().events == (case.intends(1, 2),), "2 is due, but what it needs is not there"
    assert case.step(ended(1, FINE, 2)).events == (completed(1, 2),)
    assert case.wake() == 0.0 and case.step().events == (case.intends(2, 2),)


def test_a_retry_whose_need_has_failed_ends_the_run_as_failed():
    case = Case({1: (), 2: (1,)}).given(
        intended(1), completed(1), intended(2), retrying(2, 0), ev.PhaseReset(1, "--force")
    )
    case.step()
    assert case.step(ended(1, failing("NOT_FOUND"), 2)).events[1:] == (ev.RunEnded("failed", 1),)


def test_nothing_in_the_range_is_all_done():
    assert Case({1: ()}, scope=Scope(first=5)).step().events == (ENDED_COMPLETED,)


# ---- the net, and when to look again


def test_the_net_insists_then_ends_the_agent_then_marks_it_itself():
    case = Case({1: ()}, timeout=60.0, kill_grace=5.0).live(1)
    assert case.wake() == 95.0 and case.step(after=94.9).is_empty
    why = stuck.WHY
    decision = case.step(after=0.2)
    assert told(decision) == ((ev.StopRequested(1, 1, why, True),), (act.StopAttempt(an(1), why, True),))
    assert decision.pressed == (1,) and case.wake() == 15.0
    assert told(case.step(after=15.0)) == ((), (act.EndAgent("a1", "it did not end an attempt when told to"),))
    mended = Failure("INTERNAL", "nobody could say how it ended; the loop's own net marks it as failed")
    assert case.step(after=15.0).events == (ev.PhaseMended(1, 1, mended), ev.RunEnded("failed", 1))


def test_what_the_net_ended_has_missed_its_deadline_and_was_not_cancelled():
    case = Case({1: ()}, timeout=60.0, kill_grace=5.0).live(1)
    case.step(after=96.0)
    failed, over = case.step(ended(1, Outcome("stopped", duration_seconds=97.0))).events
    assert isinstance(failed, ev.PhaseFailed) and failed.failure == Failure("TIMEOUT", stuck.WHY)
    assert over == ev.RunEnded("failed", 1)


def test_a_first_signal_during_a_cancel_from_elsewhere_does_not_insist():
    case = (
        Case({1: ()}).live(1).given(ev.RunStopping("cancelled by ann", 1), ev.StopRequested(1, 1, "cancelled by ann"))
    )
    assert case.step(SIGINT).actions == (act.StopAttempt(an(1), "ended by SIGINT"),)
    assert case.step(SIGINT).actions == (act.StopAttempt(an(1), "ended by SIGINT", True),)


def test_the_net_keeps_the_reason_of_a_stop_that_was_asked_for():
    case = Case({1: ()}, timeout=60.0).live(1).given(ev.StopRequested(1, 1, "cancelled by ann"))
    assert case.step(after=1000.0).events == (ev.StopRequested(1, 1, "cancelled by ann", True),)


def test_a_due_retry_without_a_free_slot_wakes_nobody():
    case = Case({1: (), 2: ()}, jobs=1, timeout=1000.0, kill_grace=0.0).given(intended(1), retrying(1, 10)).live(2)
    assert case.wake() == 1030.0
    case.tick = 50.0
    assert case.decide().is_empty and case.wake() == 980.0
    assert case.step(ended(2)).events[1:] == (case.intends(1, 2),)


def test_who_does_not_want_to_wait_is_not_woken_for_it_but_a_due_retry_is_run():
    case = Case({1: ()}, no_wait=True).given(intended(1), retrying(1, 0))
    assert case.wake() == 3600.0 and case.step().events == (case.intends(1, 2),)


def test_a_run_that_is_over_or_ending_wakes_nobody():
    assert Case({1: ()}).given(ev.RunStopping("SIGINT", 130)).wake() == 3600.0
    assert Case({1: ()}).given(ev.RunEnded("failed", 1)).wake() == 3600.0
    assert Case({1: ()}, starts=False).wake() == 3600.0


def test_every_event_says_what_it_follows_from():
    case = Case({1: (), 2: (), 3: ()}, jobs=1).live(1)
    case.given(intended(3), retrying(3, 0))
    decision = case.step(ended(1), asked("cancel", 2))
    assert decision.reasons == (
        "attempt 1.1 has ended: exit status 0", "ann asked: cancel 2", "ann asked: cancel 2", "its retry is due, and a slot is free",
    )  # fmt: skip
    assert len(decision.reasons) == len(decision.events)


# ---- whatever happens


def ends_told(case: Case, batch: list[obs.Observation]) -> set[int]:
    """The phases whose attempts are over by these news, whatever the loop makes of them."""
    over = {seen.attempt for seen in batch if isinstance(seen, obs.Ended | obs.OwnerDead | obs.NeverStarted)}
    if any(isinstance(seen, obs.AgentGone) for seen in batch):
        over |= {case.state.attempt_id(number) for number in case.state.live}
    return {number for number in case.state.live if case.state.attempt_id(number) in over}


def check_starts(case: Case, decision: Decision, owned: set[int]) -> None:
    for action in decision.actions:
        if isinstance(action, act.StartAttempt):
            phase = action.order.attempt.phase
            assert case.mode.starts and not case.state.run.stopping
            assert phase not in owned, f"{action.order.attempt} starts while another attempt lives"
            owned.add(phase)


def check_state(case: Case, owned: set[int]) -> None:
    """`owned`: the attempts that were started and whose end nobody has told."""
    assert case.state.live == {number for number, phase in case.state.phases.items() if phase.is_live} == owned
    assert len(case.state.live) <= case.mode.jobs
    agenda, fresh = case.agenda, Agenda(case.plan, case.state, case.moment)
    assert (agenda.ready, agenda.unmet) == (fresh.ready, fresh.unmet)
    assert {number for _, number in agenda.waiting} == {number for _, number in fresh.waiting}
    attempts = [{number: watch.attempt for number, watch in one.watches.items()} for one in (agenda, fresh)]
    assert attempts[0] == attempts[1]


KINDS = ("fine", "fails", "lost", "stopped", "never", "started", "old", "gone", "dead", "withdrawn", "cancel", "retry",
         "interrupt", "run", "force", "new", "tick", "turn")  # fmt: skip
ENDINGS = {
    "fine": FINE, "fails": failing(), "lost": Outcome("lost", failure=LOST), "stopped": Outcome("stopped"),
    "never": Outcome("never_started"),
}  # fmt: skip


def news(case: Case, kind: str, number: int, serial: int) -> obs.Observation:
    attempt = case.state.attempt_id(number)
    if kind in ENDINGS:
        return obs.Ended(attempt, ENDINGS[kind])
    if kind in ("cancel", "retry"):
        return asked(kind, number if number else None, f"k{serial}")
    choices: dict[str, obs.Observation] = {
        "started": obs.Started(attempt, 9, 9),
        "old": obs.Ended(attempt.replace(number=attempt.number - 1), failing()),
        "gone": obs.AgentGone("a1", "it left"),
        "dead": obs.OwnerDead(attempt, "agent a1", "", ""),
        "withdrawn": obs.NeverStarted(attempt),
        "interrupt": SIGINT,
        "run": run_asked(run=f"r{serial}"),
        "force": run_asked(run=f"r{serial}", force=True),
        "new": run_asked(run=f"r{serial}", new=not case.state.live),
    }
    return choices.get(kind, obs.Tick())


GRAPHS = st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=6).map(
    lambda needs: {number: tuple({need for need in of if need < number}) for number, of in enumerate(needs)}
)
BATCHES = st.lists(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5)), max_size=4), max_size=25)


@settings(max_examples=25)
@given(GRAPHS, st.integers(1, 3), BATCHES)
def test_whatever_happens_the_rules_hold(graph, jobs, batches):
    case = Case(graph, jobs=jobs, timeout=100.0)
    owned: set[int] = set()
    for serial, kinds in enumerate(batches):
        batch = [news(case, kind, number, serial) for kind, number in kinds if number in graph]
        case.mode = case.mode.replace(starts=("turn", 0) not in kinds)
        case.tick += 40.0 * (serial % 3)
        owned -= ends_told(case, batch)
        decision = case.step(*batch)
        owned -= {event.number for event in decision.events if isinstance(event, ev.PhaseMended)}
        check_starts(case, decision, owned)
        check_state(case, owned)
        assert len(decision.reasons) == len(decision.events)


def test_a_new_run_over_living_attempts_forgets_them_and_ends_them_as_strangers():
    case = Case({1: ()}, agent="").live(1)
    case.step(run_asked(new=True))
    assert case.state.live == set()
    assert case.step(obs.Started(an(1), 31, 3)).actions == (act.StopAttempt(an(1), NOBODY_WAITS, True),)
