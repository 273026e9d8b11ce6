"""The loop, cut before and after every commit and every action, once and twice, and started again."""

from __future__ import annotations

import pytest

from orchestrator.core.draft import Mode
from tests.core.model import Script, World, live_on, live_once, plan_of

DIAMOND = {1: (), 2: (1,), 3: (1,), 4: (2, 3)}
SCRIPTS = {1: Script(5), 2: Script(5, failures=1), 3: Script(8), 4: Script(2)}


def uncut() -> World:
    world = World(SCRIPTS, set())
    live_on(world, plan_of(DIAMOND))
    return world


POINTS = uncut().points


def told(world: World, event: str) -> int:
    return sum(f" {event}(" in line for line in world.story)


def check(world: World) -> None:
    """What holds wherever it was cut: the net was not needed, and no try was charged for what never started."""
    assert told(world, "PhaseMended") == 0 and told(world, "StopRequested") == 0, world.story
    assert told(world, "RetryScheduled") == 1 and told(world, "PhaseFailed") == 0, world.story
    assert dict(world.executions) == {1: 1, 2: 2, 3: 1, 4: 1}, world.story
    assert not any(agent.untaken or agent.live for agent in world.agents.values()), world.story


def test_uncut_run_executes_each_phase_as_often_as_its_script_says():
    check(uncut())


@pytest.mark.parametrize("first", range(1, POINTS + 1))
def test_cut_anywhere_and_cut_again_gives_what_the_uncut_run_gives(first):
    """Orchestrators die, agents live on: nothing is executed twice, nothing is lost, no try is charged."""
    plan = plan_of(DIAMOND)
    for second in [0, *range(first + 1 + first % 9, POINTS + 12, 9)]:
        world = World(SCRIPTS, {first, second})
        state = live_on(world, plan)
        check(world)
        assert {number: state.phase(number).outputs for number in DIAMOND} == {
            number: {"result": {"n": number}} for number in DIAMOND
        }


@pytest.mark.parametrize("first", range(1, POINTS + 1, 2))
def test_everything_killed_at_once_costs_no_try(first):
    """Agents die with the orchestrator: what was running runs again, and ends as it would have."""
    plan = plan_of(DIAMOND)
    for second in [0, *range(first + 1 + first % 19, POINTS + 12, 19)]:
        world = World(SCRIPTS, {first, second}, kills_agents=True)
        state = live_on(world, plan)
        assert all(state.phase(number).is_done for number in DIAMOND), world.story
        assert state.phase(2).failures == 0 and state.phase(2).interruptions == 0


def test_a_phase_that_never_ends_is_failed_by_its_deadline_and_not_before():
    world = World({1: Script(never_ends=True), 2: Script(59)}, set())
    state = live_once(world, plan_of({1: (), 2: ()}), Mode(starts=True, jobs=2))
    assert state is not None
    assert state.phase(1).errors[-1]["code"] == "TIMEOUT" and state.phase(1).status == "failed"
    assert state.phase(2).status == "completed"
    assert state.run.exit_code == 1


def test_a_due_retry_without_a_free_slot_does_not_make_the_loop_spin():
    scripts = {1: Script(1, failures=1), 2: Script(900), 3: Script(900)}
    world = World(scripts, set())
    plan = plan_of({1: (), 2: (), 3: ()})
    live_on(world, plan.__class__(plan.specs.values(), plan.rules.replace(timeout=1000.0), "digest"))
    assert dict(world.executions) == {1: 2, 2: 1, 3: 1}
