from __future__ import annotations

import pytest

from orchestrator.core import events as ev
from orchestrator.core.agenda import Agenda
from orchestrator.core.events import Scope
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import Plan, Rules
from orchestrator.core.stuck import Watch
from tests.core.given import NOW, Case, completed, failed, intended, retrying, spec_of

DIAMOND = {1: (), 2: (1,), 3: (1,), 4: (2, 3)}


def waiting(case: Case) -> list[tuple[float, int]]:
    return [(round(tick, 3), number) for tick, number in case.agenda.waiting]


def follow(case: Case, *events: ev.PhaseEvent) -> None:
    for event in events:
        before: PhaseState = case.state.phase(event.number)
        case.state.apply(event, case.moment.now)
        case.agenda.follow(event.number, before, case.state.phase(event.number), case.state, case.moment)


def test_ready_is_what_is_pending_with_every_need_done():
    case = Case(DIAMOND)
    assert case.agenda.ready == [1] and case.agenda.unmet == {1: 0, 2: 1, 3: 1, 4: 2}
    follow(case, intended(1))
    assert case.agenda.ready == []
    follow(case, completed(1))
    assert case.agenda.ready == [2, 3] and case.agenda.unmet == {1: 0, 2: 0, 3: 0, 4: 2}
    follow(case, intended(2), completed(2), intended(3), completed(3))
    assert case.agenda.ready == [4]


def test_whoever_needs_what_is_done_no_more_is_not_ready_any_more():
    case = Case(DIAMOND)
    follow(case, intended(1), completed(1), ev.PhaseReset(1, "--force"))
    assert case.agenda.ready == [1] and case.agenda.unmet[2] == 1


def test_a_need_named_twice_is_one_need():
    case = Case({})
    case.plan = Plan([spec_of(1), spec_of(2, (1, 1))], Rules(), "d")
    case.given()
    follow(case, intended(1), completed(1))
    assert case.agenda.ready == [2]


def test_a_failure_frees_nobody_and_leaves_the_list():
    case = Case({1: (), 2: (1,)})
    follow(case, intended(1), failed(1))
    assert case.agenda.ready == [] and case.agenda.watches == {}
    follow(case, ev.PhaseReset(1, "again"))
    assert case.agenda.ready == [1]


def test_nothing_outside_the_range_is_ready_or_waits_but_what_is_live_is_watched():
    case = Case({1: (), 2: (), 3: ()}, scope=Scope(first=3))
    case.given(intended(2), retrying(2), intended(1))
    assert (case.agenda.ready, case.agenda.waiting, set(case.agenda.watches)) == ([3], [], {1})


def test_retries_stand_in_the_order_in_which_they_are_due():
    case = Case({1: (), 2: (), 3: ()}).given(
        intended(1), retrying(1, 90), intended(2), retrying(2, 30), intended(3), retrying(3, 30)
    )
    assert waiting(case) == [(30, 2), (30, 3), (90, 1)]
    follow(case, intended(3, 2))
    assert waiting(case) == [(30, 2), (90, 1)]
    follow(case, ev.PhaseReset(2, "now"))
    assert waiting(case) == [(90, 1)] and case.agenda.ready == [2]


def test_a_retry_whose_need_is_done_no_more_waits_for_the_need():
    """As after `orch run --only 1 --force` between two tries of 2."""
    case = Case({1: (), 2: (1,)}).given(
        intended(1), completed(1), intended(2), retrying(2), ev.PhaseReset(1, "--force")
    )
    assert case.agenda.waiting == [] and case.agenda.ready == [1]
    follow(case, intended(1, 2), completed(1, 2))
    assert waiting(case) == [(60, 2)]


@pytest.mark.parametrize("clock", [0, -100_000, 100_000])
def test_whoever_sets_the_clock_while_it_waits_moves_it_no_more(clock):
    case = Case({1: (), 2: (1,)}).given(intended(1), completed(1), intended(2), retrying(2))
    assert waiting(case) == [(60, 2)]
    case.clock, case.tick = NOW + clock, 20.0
    follow(case, ev.PhaseReset(1, "--force"))
    assert waiting(case) == []
    follow(case, intended(1, 2), completed(1, 2))
    assert waiting(case) == [(60, 2)]


@pytest.mark.parametrize(
    ("clock", "due_in"),
    [(0, 60), (45, 15), (60, 0), (99999, 0), (-10, 60), (-1e6, 60)],
    ids=["at once", "later", "due", "long due", "set back a little", "set back far"],
)
def test_a_due_time_survives_and_is_never_later_than_its_delay(clock, due_in):
    case = Case({1: ()}).given(intended(1), retrying(1, 60))
    case.clock, case.tick = NOW + clock - 7, 7.0
    again = Agenda(case.plan, case.state, case.moment)
    assert [round(tick - 7, 2) for tick, _ in again.waiting] == [due_in]


def test_every_live_attempt_is_watched_until_its_end_also_one_that_is_not_in_the_plan():
    case = Case({1: ()}, timeout=60.0, kill_grace=5.0).given(intended(7))
    assert case.agenda.watches == {7: Watch(1, 95.0)}
    case.tick = 10.0
    follow(case, intended(1), ev.AttemptStarted(1, 1, 30, 3))
    assert case.agenda.watches[1] == Watch(1, 105.0)
    case.agenda.press(1, 105.0)
    assert case.agenda.watches[1] == Watch(1, 120.0, 1)
    case.tick = 110.0
    follow(case, completed(1), failed(7))
    assert case.agenda.watches == {}


def test_the_next_attempt_is_watched_anew():
    case = Case({1: ()}, timeout=60.0, kill_grace=5.0)
    follow(case, intended(1))
    case.tick = 50.0
    follow(case, retrying(1), intended(1, 2))
    assert case.agenda.watches == {1: Watch(2, 145.0)}
