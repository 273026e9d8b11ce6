"""The table of an agent's states: all that may follow, and nothing else."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.core import slot
from orchestrator.core.slot import FOLLOWS, Slot, can_transition

STATES = (
    slot.IDLE,
    slot.VALIDATING,
    slot.READY,
    slot.PREPARING,
    slot.RUNNING,
    slot.COMPLETED,
    slot.FAILED,
    slot.ABORTING,
)
ALLOWED = {
    "Idle": {"Validating"},
    "Validating": {"Ready", "Failed", "Aborting"},
    "Ready": {"Preparing", "Failed", "Aborting"},
    "Preparing": {"Running", "Failed", "Aborting"},
    "Running": {"Completed", "Failed", "Aborting"},
    "Aborting": {"Failed", "Idle"},
    "Completed": {"Idle"},
    "Failed": {"Idle"},
}


def test_the_states_are_these_eight() -> None:
    assert set(FOLLOWS) == set(STATES) == set(ALLOWED)
    assert len(set(STATES)) == 8


@pytest.mark.parametrize(("current", "following"), list(itertools.product(STATES, STATES)))
def test_every_pair(current: str, following: str) -> None:
    assert can_transition(current, following) == (following in ALLOWED[current])
    lines: list[str] = []
    one = Slot("3.1", lines.append)
    one.state = current
    if following in ALLOWED[current]:
        one.transition_to(following, "because")
        assert (one.state, one.error) == (following, "because")
        assert lines == [f"slot 3.1: {current} -> {following}: because"]
    else:
        with pytest.raises(ValueError, match=f"{following} cannot follow {current}"):
            one.transition_to(following)
        assert one.state == current
        assert lines == []


def test_from_every_state_there_is_a_way_back_to_idle() -> None:
    for state in STATES:
        reached, waiting = {state}, [state]
        while waiting:
            for following in FOLLOWS[waiting.pop()] - reached:
                reached.add(following)
                waiting.append(following)
        assert slot.IDLE in reached


def test_a_slot_begins_idle_without_an_error_and_forgets_the_last() -> None:
    one = Slot("3.1", lambda line: None)
    assert (one.state, one.error) == (slot.IDLE, "")
    one.transition_to(slot.VALIDATING)
    one.transition_to(slot.FAILED, "no such folder")
    one.transition_to(slot.IDLE)
    assert one.error == ""
