"""Tokens of pools: who may start, who lets others pass, what is said, and that nothing is ever counted wrongly."""

from __future__ import annotations

import random

import pytest

from orchestrator.core import observations as obs
from orchestrator.core.actions import StartAttempt
from orchestrator.core.draft import Decision
from orchestrator.core.eta import estimate
from orchestrator.core.events import Scope
from orchestrator.core.phase import PhaseState
from orchestrator.core.pools import free, misfit, waits_for, wants_of
from tests.core.given import FINE, NOW, Case, an, spec_of

GPU = {"pools": {"gpu": 1}}
BOTH = {"pools": {"gpu": 1, "disk": 2}}


def begun(decision: Decision) -> list[int]:
    return [action.order.attempt.phase for action in decision.actions if isinstance(action, StartAttempt)]


def test_what_is_left_follows_from_who_is_live():
    specs = {1: spec_of(1, (), **GPU), 2: spec_of(2, (), **BOTH), 3: spec_of(3, ())}
    assert wants_of(specs[2]) == (("disk", 2), ("gpu", 1)) and wants_of(specs[3]) == wants_of(None) == ()
    wants = {number: wants_of(spec) for number, spec in specs.items()}
    assert free({"gpu": 2, "disk": 3}, wants, [1, 2, 3, 99]) == {"gpu": 0, "disk": 1}
    assert free({"gpu": 1, "disk": 3}, wants, [1, 2])["gpu"] == -1, "a pool that was made smaller meanwhile"


def test_who_finds_no_token_lets_others_pass():
    case = Case({1: (), 2: (), 3: (), 4: ()}, jobs=3, keys={1: GPU, 2: GPU}, pools={"gpu": 1})
    assert begun(case.step()) == [1, 3, 4]
    assert begun(case.step(obs.Ended(an(3), FINE))) == []
    assert begun(case.step(obs.Ended(an(1), FINE))) == [2]


def test_several_of_several_pools_are_taken_together_or_not_at_all():
    case = Case(
        {1: (), 2: (), 3: ()}, jobs=3, keys={1: GPU, 2: BOTH, 3: {"pools": {"disk": 2}}}, pools={"gpu": 2, "disk": 3}
    )
    assert begun(case.step()) == [1, 2]
    assert begun(case.step(obs.Ended(an(1), FINE))) == []
    assert begun(case.step(obs.Ended(an(2), FINE))) == [3]


def test_what_goes_on_from_an_earlier_orchestrator_holds_its_tokens():
    case = Case({1: (), 2: (), 3: ()}, keys={1: GPU, 2: GPU}, pools={"gpu": 1}).live(1)
    case.mode = case.mode.replace(agent="a2")
    assert begun(case.step()) == [3]


def test_a_retry_that_is_due_waits_for_its_token_without_spinning():
    case = Case({1: (), 2: ()}, keys={1: GPU, 2: GPU}, pools={"gpu": 1}).live(1)
    case.state._put(2, PhaseState("retry_wait", retry_delay_seconds=0.0, attempt=1))
    case.given()
    assert begun(case.step()) == [] and case.wake() > 1, "an end will wake it"
    assert begun(case.step(obs.Ended(an(1), FINE))) == [2]


def test_the_loop_sleeps_while_only_tokens_are_missing_and_not_longer():
    case = Case({1: (), 2: ()}, keys={1: GPU, 2: GPU}, pools={"gpu": 1}).live(1)
    assert case.wake() > 1
    case.step(obs.Ended(an(1), FINE))
    assert case.status(2) == "starting"
    other = Case({1: (), 2: (), 3: ()}, keys={1: GPU, 2: GPU}, pools={"gpu": 1}).live(1)
    assert other.wake() == 0, "3 wants no token, and a slot is free"


def test_ready_ones_are_counted_by_what_they_lack():
    case = Case({1: (), 2: (), 3: (), 4: ()}, keys={1: GPU, 2: BOTH, 3: GPU}, pools={"gpu": 1, "disk": 1}).live(1)
    agenda = case.agenda
    assert agenda.ready == [2, 3, 4] and agenda.count_ready == 3
    assert agenda.short_of(agenda.free_tokens(case.state.live)) == {"disk": 1, "gpu": 1}


def test_who_waits_for_which_token_and_who_has_it():
    specs = {number: spec_of(number, (), **keys) for number, keys in {1: GPU, 2: GPU, 3: BOTH, 4: {}}.items()}
    pools = {"gpu": 2, "disk": 2}
    assert waits_for(3, pools, specs, [1, 2]) == "gpu, held by 1 and 2"
    assert waits_for(3, {"gpu": 3, "disk": 1}, specs, [1]) == "2 of disk, held by nobody"
    assert waits_for(3, pools, specs, [1]) == waits_for(4, pools, specs, [1, 2]) == ""


@pytest.mark.parametrize(
    ("pools", "said"),
    [
        ({}, ("there is no pool gpu", "write gpu = 1 under [pools]")),
        ({"gpus": 1}, ("there is no pool gpu", "did you mean gpus?")),
        ({"gpu": 2}, ("it wants 3 of gpu, there are 2", "write gpu = 3 under [pools]")),
        ({"gpu": 3}, None),
    ],
)
def test_what_could_never_start_is_said(pools, said):
    assert misfit(spec_of(1, (), pools={"gpu": 3}), pools) == said


def test_the_forecast_knows_of_tokens():
    needs = {1: (), 2: (), 3: ()}
    steady = PhaseState("pending", durations=(10.0,) * 20)

    def likely(keys):
        case = Case(needs, jobs=3, keys=keys, pools={"gpu": 1})
        for number in needs:
            case.state._put(number, steady)
        told = estimate(case.plan, case.state, Scope(), 3, NOW)
        assert told is not None
        return told.likely

    assert likely({}) == pytest.approx(10, rel=0.1)
    assert likely({1: GPU, 2: GPU}) == pytest.approx(20, rel=0.1)
    assert likely({1: GPU, 2: GPU, 3: GPU}) == pytest.approx(30, rel=0.1)


def test_whatever_comes_no_more_tokens_are_held_than_there_are_and_all_is_done():
    for seed in range(30):
        dice = random.Random(seed)
        pools = {name: dice.randint(1, 3) for name in "abc"}
        keys = {n: {"pools": {name: dice.randint(1, pools[name]) for name in dice.sample("abc", dice.randint(0, 2))}}
                for n in range(1, 40)}  # fmt: skip
        needs = {n: tuple(dice.sample(range(1, n), min(n - 1, dice.randint(0, 2)))) for n in keys}
        case = Case(needs, jobs=dice.randint(1, 6), keys=keys, pools=pools)
        case.step()
        while case.state.live:
            assert min(case.agenda.free_tokens(case.state.live).values()) >= 0
            startable = [n for n in case.agenda.ready if not waits_for(n, pools, case.plan.specs, [*case.state.live])]
            assert not startable or len(case.state.live) == case.mode.jobs, "somebody could start, and does not"
            case.step(obs.Ended(case.state.attempt_id(dice.choice(sorted(case.state.live))), FINE))
        assert all(case.state.phase(n).is_done for n in needs)
