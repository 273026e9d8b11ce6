"""Who goes first where several may start; and how close a run comes to what no order can beat, through the real loop."""

from __future__ import annotations

import random
from heapq import heapify, heappop, heappush

import pytest

from bench.eta_check import folder, graphs
from orchestrator.core import observations as obs
from orchestrator.core.actions import StartAttempt
from orchestrator.core.draft import Decision
from orchestrator.core.events import Scope
from orchestrator.core.graph import dependents, order
from orchestrator.core.phase import PhaseState
from orchestrator.core.priority import places
from tests.core.given import FINE, Case, an


def in_turn(case: Case, scope: Scope | None = None) -> list[int]:
    place = places(case.plan, case.state, scope or Scope())
    return sorted(place, key=place.__getitem__)


def took(case: Case, seconds: dict[int, float]) -> Case:
    for number, usual in seconds.items():
        case.state._put(number, case.state.phase(number).replace(durations=(usual, usual * 10, usual / 10)))
    return case


def begun(decision: Decision) -> list[int]:
    return [action.order.attempt.phase for action in decision.actions if isinstance(action, StartAttempt)]


def test_where_nothing_is_known_the_longest_chain_goes_first_then_the_smallest_number():
    case = Case({1: (), 2: (), 3: (2,), 4: (3,), 5: ()})
    assert in_turn(case) == [2, 3, 1, 4, 5]


def test_what_it_usually_takes_counts_and_its_outliers_do_not():
    case = took(Case({1: (), 2: (), 3: (2,), 4: (3,)}), {1: 9.0, 2: 1.0, 3: 2.0, 4: 3.0})
    assert in_turn(case) == [1, 2, 3, 4]
    assert in_turn(took(case, {1: 5.5})) == [2, 1, 3, 4]


def test_what_has_no_history_takes_what_others_take():
    case = took(Case({1: (), 2: (), 3: (), 4: ()}), {1: 3.0, 2: 30.0, 3: 300.0})
    assert in_turn(case) == [3, 2, 4, 1]


def test_what_lies_outside_the_range_is_not_waited_for():
    case = took(Case({1: (), 2: (), 3: (1,)}), {1: 1.0, 2: 2.0, 3: 99.0})
    assert in_turn(case) == [1, 3, 2]
    assert in_turn(case, Scope(only=(1, 2))) == [2, 1, 3]


def test_a_need_that_is_named_twice_is_one():
    assert in_turn(Case({1: (), 2: (1, 1)})) == [1, 2]


def test_decide_starts_them_in_that_order_whatever_becomes_ready_when():
    case = took(Case({1: (), 2: (), 3: (), 4: (1,), 5: (4,)}, jobs=1), {n: float(n) for n in range(1, 6)})
    case.given()
    started = begun(case.step())
    while case.state.live:
        started += begun(case.step(obs.Ended(an(started[-1]), FINE)))
    assert started == [1, 4, 5, 3, 2]


def test_a_retry_that_is_due_has_its_place_between_the_others():
    case = took(Case({1: (), 2: (), 3: ()}, jobs=1), {1: 1.0, 2: 2.0, 3: 3.0})
    case.state._put(2, PhaseState("retry_wait", retry_delay_seconds=0.0, durations=(2.0,), attempt=1))
    case.given()
    assert begun(case.step()) == [3]
    assert begun(case.step(obs.Ended(an(3), FINE))) == [2]


# ---- what it is good for


def played(case: Case, seconds: dict[int, float]) -> float:
    """The run through the real decisions, on a clock that jumps to whoever ends next; when the last one has ended."""
    busy = [(seconds[number], number) for number in begun(case.step())]
    heapify(busy)
    while busy:
        now, number = heappop(busy)
        for following in begun(case.step(obs.Ended(case.state.attempt_id(number), FINE))):
            heappush(busy, (now + seconds[following], following))
    assert all(case.state.phase(number).is_done for number in seconds)
    return now


def random_graph(dice: random.Random, many: int) -> dict[int, tuple[int, ...]]:
    """Layers, as workflows have them: wide, then narrow; numbers say nothing of what is urgent."""
    numbers = dice.sample(range(1, many + 1), many)
    needs: dict[int, tuple[int, ...]] = {}
    layers = [numbers[at : at + 1 + at % 9] for at in range(0, many, 5)]
    for above, layer in zip([[], *layers], layers, strict=False):
        for number in layer:
            known = [one for one in above if one != number and one in needs]
            needs.setdefault(number, tuple(dice.sample(known, min(len(known), dice.randint(0, 2)))))
    return needs


@pytest.mark.parametrize("slots", [4, 8, 16])
def test_a_run_takes_hardly_longer_than_any_order_must(slots):
    over = []
    for seed in range(12):
        dice = random.Random(seed)
        needs = random_graph(dice, 60)
        seconds = {number: dice.lognormvariate(1, 0.8) for number in needs}
        over.append(times_the_least(needs, seconds, slots))
    print(f"{slots} slots: {sorted(over)[6]:.3f} times the least at the median, at most {max(over):.3f}")
    assert max(over) <= 1.05


def times_the_least(needs: dict[int, tuple[int, ...]], seconds: dict[int, float], slots: int) -> float:
    return played(took(Case(needs, jobs=slots), seconds).given(), seconds) / least(needs, seconds, slots)


def least(needs: dict[int, tuple[int, ...]], seconds: dict[int, float], slots: int) -> float:
    """No order is quicker: of phases with so much before and so much behind them, all the work is shared by the slots."""
    before: dict[int, float] = {}
    behind: dict[int, float] = {}
    in_order, after = order(needs), dependents(needs)
    for number in in_order:
        before[number] = max((before[need] + seconds[need] for need in needs[number]), default=0.0)
    for number in reversed(in_order):
        behind[number] = max((behind[one] + seconds[one] for one in after[number]), default=0.0)
    found = max(before[number] + seconds[number] for number in needs)
    by_behind = sorted(needs, key=lambda number: -behind[number])
    for head in sorted({*before.values()})[:200]:
        work = 0.0
        for number in by_behind:
            if before[number] >= head:
                work += seconds[number]
                found = max(found, head + work / slots + behind[number])
    return found


@pytest.mark.parametrize("slots", [4, 8, 16])
def test_recorded_workflows_take_hardly_longer_than_any_order_must(slots):
    found = graphs(folder())
    if not found:
        pytest.skip(f"there are no recorded graphs in {folder()}: name their folder in $ORCH_WF")
    over = {graph.name: times_the_least(graph.needs, graph.seconds, slots) for graph in found}
    print(f"{slots} slots: {', '.join(f'{name} {value:.3f}' for name, value in over.items())}")
    assert max(over.values()) <= 1.05
