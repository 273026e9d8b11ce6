from __future__ import annotations

import json

import pytest

from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core.asking import answer
from orchestrator.core.draft import Draft
from orchestrator.core.observations import Asked
from orchestrator.core.state import State
from tests.core.given import Case, an, asked, completed, failed, intended, retrying


def given(starts: bool = True) -> Case:
    """1 completed, 2 failed, 3 in retry_wait, 4 cancelled, 5 running, 6 pending."""
    case = Case(dict.fromkeys(range(1, 7), ()), starts=starts)
    case.given(intended(1), completed(1), intended(2), failed(2), intended(3), retrying(3), ev.PhaseCancelled(4, "bob"))
    return case.live(5)


def ask(
    case: Case, verb: str, number: int | None = None
) -> tuple[bool, str, tuple[ev.Event, ...], tuple[act.Action, ...]]:
    draft = Draft(case.plan, case.state, case.agenda, case.moment, case.mode)
    accepted, text = answer(draft, asked(verb, number))
    decision = draft.decision()
    return accepted, text, decision.events, decision.actions


def told(case: Case, verb: str, number: int | None = None) -> tuple[bool, str]:
    return ask(case, verb, number)[:2]


CANCELLED = "cancelled by ann"
STOP_5 = ((ev.StopRequested(5, 1, CANCELLED),), (act.StopAttempt(an(5), CANCELLED),))


@pytest.mark.parametrize(
    ("number", "accepted", "text", "events", "actions"),
    [
        (1, False, "phase 1 is completed already", (), ()),
        (2, False, "phase 2 is failed already", (), ()),
        (3, True, "phase 3 will not run; `orch retry 3` takes that back", (ev.PhaseCancelled(3, CANCELLED),), ()),
        (4, True, "phase 4 is cancelled already", (), ()),
        (5, True, "ending attempt 5.1", *STOP_5),
        (6, True, "phase 6 will not run; `orch retry 6` takes that back", (ev.PhaseCancelled(6, CANCELLED),), ()),
        (9, False, "there is no phase 9; the nearest is 6 of 1 to 6", (), ()),
    ],
)
@pytest.mark.parametrize("starts", [True, False])
def test_cancel_one(number, accepted, text, events, actions, starts):
    assert ask(given(starts), "cancel", number) == (accepted, text, events, actions)


RESET = "retry asked by ann"


@pytest.mark.parametrize(
    ("number", "accepted", "text", "events"),
    [
        (1, False, "phase 1 is completed; `orch run --only 1 --force` runs it again", ()),
        (2, True, "phase 2 is pending, with fresh tries", (ev.PhaseReset(2, RESET),)),
        (3, True, "phase 3 is pending, with fresh tries", (ev.PhaseReset(3, RESET),)),
        (4, True, "phase 4 is pending, with fresh tries", (ev.PhaseReset(4, RESET),)),
        (5, False, "phase 5 is in progress; `orch cancel 5` ends it", ()),
        (6, True, "phase 6 is pending already", ()),
        (None, False, "which phase? `orch retry N`", ()),
    ],
)
@pytest.mark.parametrize("starts", [True, False])
def test_retry(number, accepted, text, events, starts):
    later = "" if starts or not accepted else "; `orch run` runs it"
    assert ask(given(starts), "retry", number) == (accepted, text + later, events, ())


def test_cancel_all_ends_the_run_and_its_attempts():
    assert ask(given(), "cancel") == (
        True, "ending 1 attempt", (ev.RunStopping(CANCELLED, 1), *STOP_5[0]), STOP_5[1],
    )  # fmt: skip
    assert told(given().live(6), "cancel") == (True, "ending 2 attempts")


def test_cancel_all_of_a_run_with_nothing_in_hand_ends_the_run():
    assert ask(Case({1: ()}), "cancel") == (True, "ending 0 attempts", (ev.RunStopping(CANCELLED, 1),), ())


def test_cancel_all_in_a_turn_ends_what_is_left_over_or_says_that_there_is_nothing():
    assert ask(given(starts=False), "cancel") == (True, "ending 1 attempt", *STOP_5)
    assert ask(Case({1: ()}, starts=False), "cancel") == (False, "nothing is in progress", (), ())


def test_cancel_of_a_run_that_is_ending_does_not_insist_and_does_not_change_its_reason():
    case = given().given(ev.RunStopping("SIGTERM", 143), ev.StopRequested(5, 1, "ended by SIGTERM"))
    assert ask(case, "cancel") == (True, "ending 1 attempt", (), (act.StopAttempt(an(5), CANCELLED),))


def test_nothing_is_retried_while_the_run_is_being_ended():
    case = given().given(ev.RunStopping("SIGTERM", 143))
    assert told(case, "retry", 2) == (False, "the run is being ended; ask again when it is over")


def test_what_was_being_ended_is_over_for_a_turn():
    """After Ctrl-C, or a kill while it was ending: no run is there that could be in the way."""
    case = given(starts=False).given(ev.RunStopping("SIGINT", 130))
    assert told(case, "retry", 2)[0]
    assert told(case.given(ev.RunEnded("cancelled", 130)), "retry", 2)[0]


def test_a_phase_that_is_not_defined_any_more_can_still_be_asked_about():
    case = given().live(99)
    assert told(case, "cancel", 99) == (True, "ending attempt 99.1")
    assert told(Case({}), "cancel", 1) == (False, "there is no phase 1: no phase is known here yet")


@pytest.mark.parametrize("verb", ["cancel", "retry", "reset", "skip", "approve", "reject"])
def test_before_the_first_run_nothing_can_be_asked_of_a_phase_and_its_story_does_not_begin_with_it(verb):
    case = Case({1: ()}, starts=False)
    case.state = State()
    case.given()
    (event,) = case.decide(asked(verb, 1)).events
    assert (event.accepted, event.text, event.number) == (False, "no run yet: `orch run` begins one", None)


def test_an_unknown_ask_is_refused_by_name():
    assert told(given(), "explode", 1) == (False, "no such ask: explode")


def test_what_a_schedule_begins_nothing_at_is_noted_once() -> None:
    case = given()
    instant = ev.InstantSettled("nightly", "2026-11-20T02:00:00.000Z", "skipped", "run r1 was still going on")
    several = instant.replace(due="2026-11-20T01:00:00.000Z", last="2026-11-20T03:00:00.000Z", count=3)
    said = Asked("k1", "settle", "ann", options=(json.dumps(instant.as_dict()), json.dumps(several.as_dict())))
    draft = Draft(case.plan, case.state, case.agenda, case.moment, case.mode)
    assert answer(draft, said) == (True, "noted")
    assert draft.decision().events == (instant,), "the second is among those of the first"
    case.given(instant)
    again = Draft(case.plan, case.state, case.agenda, case.moment, case.mode)
    assert answer(again, said) == (True, "it was settled already")
    assert again.decision().events == ()
