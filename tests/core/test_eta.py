"""The end of a run is foretold from what phases took before: exact where they do not vary, honest where they do."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bench.eta_check import Chance, Graph, score, told
from orchestrator.core import eta as module
from orchestrator.core.eta import Eta, Forecast, estimate
from orchestrator.core.events import Scope
from orchestrator.core.names import iso
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import Plan, Rules
from orchestrator.core.priority import places
from orchestrator.core.state import State
from tests.core.given import NOW, spec_of

Needs = dict[int, tuple[int, ...]]
STEADY = (10.0,) * 20  # so often the same that nothing is left to chance


def plan_of(needs: Needs, **rules: Any) -> Plan:
    return Plan([spec_of(number, of) for number, of in needs.items()], Rules(**rules), "digest")


def state_of(phases: dict[int, PhaseState]) -> State:
    state = State()
    state.run = state.run.replace(id="r1", jobs=2)
    for number, phase in phases.items():
        state._put(number, phase)
    return state


def pending(*durations: float) -> PhaseState:
    return PhaseState(durations=durations)


def running(since: float, *durations: float, step: str = "running") -> PhaseState:
    return PhaseState("in_progress", step, iso(NOW - since), durations=durations)


def done(took: float, *before: float) -> PhaseState:
    return PhaseState("completed", None, iso(NOW - took), iso(NOW), took, durations=(*before, took))


def asked(
    needs: Needs,
    phases: dict[int, PhaseState],
    jobs: int = 2,
    scope: Scope | None = None,
    progress: Any = None,
    **rules: Any,
) -> Eta | None:
    return estimate(plan_of(needs, **rules), state_of(phases), scope or Scope(), jobs, NOW, progress)


def likely(*given: Any, **more: Any) -> float:
    eta = asked(*given, **more)
    assert eta is not None and 0 <= eta.low <= eta.likely <= eta.high
    return eta.likely


def near(seconds: float) -> Any:
    return pytest.approx(seconds, rel=0.1)


# ---- what is left, on the free slots


def test_a_chain_takes_the_sum_and_independent_phases_share_the_slots() -> None:
    steady = {number: pending(*STEADY) for number in range(1, 5)}
    assert likely({1: (), 2: (1,), 3: (2,), 4: (3,)}, steady) == near(40)
    apart: Needs = dict.fromkeys(range(1, 5), ())
    assert likely(apart, steady, jobs=2) == near(20)
    assert likely(apart, steady, jobs=4) == near(10)
    assert likely(apart, steady, jobs=3) == near(20)


def test_the_longest_path_starts_first_as_decide_has_it() -> None:
    phases = {1: pending(*[10.0] * 20), 2: pending(*[10.0] * 20), 3: pending(*[30.0] * 20)}
    assert likely({1: (), 2: (), 3: ()}, phases, jobs=2) == near(30)  # by number it would take 40


def test_what_is_done_or_outside_the_range_or_blocked_takes_nothing() -> None:
    needs: Needs = {1: (), 2: (1,), 3: (2,), 4: ()}
    phases = {1: done(10, *STEADY), 2: pending(*STEADY), 3: pending(*STEADY), 4: pending(*STEADY)}
    assert likely(needs, phases, scope=Scope(only=(2,))) == near(10)
    phases[2] = PhaseState("failed", durations=STEADY)
    assert likely(needs, phases) == near(10)  # 4 alone: 3 waits for ever
    assert asked(needs, dict.fromkeys(needs, done(10))) == Eta(0, 0, 0)


def test_a_retry_waits_for_its_time_but_never_longer_than_its_delay() -> None:
    retry = PhaseState("retry_wait", retry_at=iso(NOW + 100), retry_delay_seconds=120.0, durations=STEADY)
    assert likely({1: ()}, {1: retry}) == near(110)
    assert likely({1: (), 2: (1,)}, {1: retry, 2: pending(*STEADY)}) == near(120)
    set_back = retry.replace(retry_at=iso(NOW + 9000), retry_delay_seconds=50.0)
    assert likely({1: ()}, {1: set_back}) == near(60)


def test_a_retry_that_becomes_due_takes_its_turn_between_the_others() -> None:
    phases = {number: pending(*STEADY) for number in (2, 3, 4)}
    phases[1] = PhaseState("retry_wait", retry_at=iso(NOW + 5), retry_delay_seconds=5.0, durations=STEADY)
    assert likely({1: (), 2: (), 3: (), 4: ()}, phases, jobs=1) == near(40)


def test_a_run_that_is_being_ended_starts_nothing_more() -> None:
    plan, state = (
        plan_of({1: (), 2: ()}, kill_grace=5.0),
        state_of({1: running(3, *STEADY, step="stopping"), 2: pending(*STEADY)}),
    )
    state.run = state.run.replace(stopping="SIGTERM")
    eta = Forecast(plan, places(plan, state, Scope()), Scope(), 1).eta(state, NOW)
    assert eta is not None and eta.high <= 5


def test_attempts_of_phases_that_are_gone_hold_their_slots() -> None:
    phases = {1: pending(*STEADY), 9: running(0, *STEADY)}
    assert likely({1: ()}, phases, jobs=1) == near(20)


# ---- what a running phase still takes


def test_what_has_passed_of_a_running_phase_is_taken_off() -> None:
    assert likely({1: ()}, {1: running(4, *STEADY)}) == near(6)


def test_who_has_outlived_some_of_the_durations_is_held_against_the_others() -> None:
    assert likely({1: ()}, {1: running(50, *([10.0, 100.0] * 10))}) == near(50)


def test_who_has_outlived_them_all_takes_a_while_yet_and_ends_by_its_deadline() -> None:
    eta = asked({1: ()}, {1: running(100, *STEADY)})
    assert eta is not None and 1 < eta.likely < 50 and eta.high > eta.likely
    late = asked({1: ()}, {1: running(100, *STEADY)}, timeout=101.0, kill_grace=0.5)
    assert late is not None and late.likely <= 1.5


def test_progress_counts_the_more_the_further_it_is() -> None:
    assert likely({1: ()}, {1: running(30)}, progress={1: (3, 10)}) == near(70)
    nearly = likely({1: ()}, {1: running(80, *[1000.0] * 20)}, progress={1: (8, 10)})
    hardly = likely({1: ()}, {1: running(80, *[1000.0] * 20)}, progress={1: (0.1, 10)})
    assert nearly < 80 < 600 < hardly < 2000


def test_progress_that_makes_no_sense_is_no_progress() -> None:
    for nonsense in ((0, 0), (0, 10), (-5, 10), (1, -3)):
        assert likely({1: ()}, {1: running(4, *STEADY)}, progress={1: nonsense}) == near(6)
    assert likely({1: ()}, {1: running(4)}, progress={1: (20, 10)}) == 0


# ---- without a history


def test_nothing_is_told_until_the_first_phase_of_a_first_run_has_ended() -> None:
    needs: Needs = {1: (), 2: (), 3: ()}
    assert asked(needs, {}) is None
    assert asked(needs, {1: running(5), 2: running(5), 3: PhaseState()}) is None
    assert asked(needs, {1: running(5), 2: running(5)}, progress={1: (1, 2)}) is None
    assert likely(needs, {1: done(10), 2: PhaseState(), 3: PhaseState()}, jobs=1) == near(20)


def test_a_phase_that_is_new_is_taken_to_be_like_the_others_were() -> None:
    assert likely({1: (), 2: ()}, {1: pending(*STEADY)}, jobs=1) == near(20)


# ---- what a run teaches


def test_a_slow_day_makes_the_rest_slow() -> None:
    needs: Needs = dict.fromkeys(range(1, 61), ())
    phases = {number: done(15, *STEADY) if number <= 40 else pending(*STEADY) for number in needs}
    assert likely(needs, phases, jobs=1) > 1.25 * 200


def test_what_passes_around_an_attempt_counts() -> None:
    slow = PhaseState(
        "completed", None, iso(NOW - 3), iso(NOW), 1.0, durations=(*[1.0] * 20,)
    )  # 2 s beside its own one
    needs: Needs = {1: (), 2: (), 3: ()}
    assert likely(needs, {1: slow, 2: pending(*[1.0] * 20), 3: pending(*[1.0] * 20)}, jobs=1) == near(6)


def test_the_band_is_as_wide_as_the_past_was() -> None:
    def width(*durations: float) -> float:
        needs: Needs = {number: ((number - 1,) if number else ()) for number in range(20)}
        eta = asked(needs, dict.fromkeys(needs, pending(*durations)))
        assert eta is not None
        return (eta.high - eta.low) / eta.likely

    assert width(*[5.0, 10.0, 20.0] * 6) > 1.5 * width(*STEADY)
    assert width(10.0) > 1.3 * width(*STEADY)


# ---- asked again and again


def test_whoever_follows_knows_what_whoever_comes_anew_does() -> None:
    plan = plan_of({number: ((number - 1,) if number % 3 else ()) for number in range(1, 31)})
    state = state_of({number: pending(5.0 + number % 7, 6.0) for number in range(1, 31)})
    place = places(plan, state, Scope())
    forecast = Forecast(plan, place, Scope(), 3)
    for number in range(1, 31):
        forecast.eta(state, NOW)
        state._put(number, done(5.0 + number % 5, 5.0 + number % 7, 6.0))
        if number % 4 == 0:
            state._put(number, PhaseState("failed", durations=(5.0,)))
        if number % 8 == 0:
            state._put(number, pending(5.0))
    forecast.eta(state, NOW)
    fresh = Forecast(plan, place, Scope(), 3)
    fresh.eta(state, NOW)
    assert forecast._unmet == fresh._unmet and forecast._startable == fresh._startable
    assert forecast._history == fresh._history


def test_it_moves_only_with_the_time_while_nothing_happens() -> None:
    plan, state = plan_of({1: (), 2: (1,)}), state_of({1: running(0, *STEADY), 2: pending(8.0, 12.0, 10.0)})
    forecast = Forecast(plan, places(plan, state, Scope()), Scope(), 2)
    first, second = forecast.eta(state, NOW), forecast.eta(state, NOW + 2)
    assert first is not None and second is not None
    assert first.after(2).likely == pytest.approx(second.likely, abs=0.5)
    assert Eta(1, 2, 3).after(2) == Eta(0, 0, 1)


def test_a_failure_makes_it_forget_the_scenarios_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUDGET", 10)  # one scenario at each asking
    plan = plan_of({number: ((number - 1,) if number > 1 else ()) for number in range(1, 11)})
    state = state_of({number: pending(*STEADY) for number in range(1, 11)})
    forecast = Forecast(plan, places(plan, state, Scope()), Scope(), 2)
    for _ in range(20):
        before = forecast.eta(state, NOW)
    state._put(2, PhaseState("failed", durations=STEADY))
    after = forecast.eta(state, NOW)
    assert before is not None and before.likely == near(100)
    assert after is not None and 5 < after.likely < 15


def test_ten_thousand_phases_are_asked_about_each_second() -> None:
    needs: Needs = {number: (number - 7, number - 13) if number > 20 else () for number in range(1, 10_001)}
    plan, state = plan_of(needs), state_of({number: pending(1.0, 2.0, 1.5, 3.0) for number in needs})
    forecast = Forecast(plan, places(plan, state, Scope()), Scope(), 16)
    first, took = forecast.eta(state, NOW), []
    for _ in range(3):
        begun = time.process_time()
        eta = forecast.eta(state, NOW)
        took.append(time.process_time() - begun)
    assert first is not None and eta is not None
    assert first.likely == pytest.approx(eta.likely, rel=0.15)
    assert min(took) < 0.25  # some 0.03 on a quiet machine


# ---- against the truth


def test_on_graphs_that_are_made_up_it_is_right_often_enough() -> None:
    layers: Needs = {number: tuple(range(number - 12, number - 6)) if number > 12 else () for number in range(1, 61)}
    result = score(
        Graph("made up", layers, {number: 5.0 + number % 11 for number in layers}), 4, range(5), 10, Chance()
    )
    assert result.within >= 0.5 and result.held >= 0.8, told(Graph("made up", {}, {}), 4, Chance(), result)
