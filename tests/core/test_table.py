from __future__ import annotations

import pytest

from orchestrator.core import events as ev
from orchestrator.core.table import DONE, STATUSES, STEPS, TABLE, diagram, move

LIVE = {"starting", "running", "stopping"}
PLACES = {
    "pending",
    "retry_wait",
    "awaiting_approval",
    "completed",
    "approved",
    "skipped",
    "failed",
    "cancelled",
} | LIVE

MOVES = {
    "AttemptIntended": ({"pending", "retry_wait"}, "starting"),
    "AttemptStarted": ({"starting"}, "running"),
    "StopRequested": (LIVE, "stopping"),
    "AttemptWithdrawn": (LIVE, "pending"),
    "PhaseCompleted": (LIVE, "completed"),
    "PhaseKept": ({"pending"}, "completed"),
    "RetryScheduled": (LIVE, "retry_wait"),
    "PhaseFailed": (LIVE, "failed"),
    "PhaseRecovered": (LIVE, "failed"),
    "PhaseMended": (LIVE, "failed"),
    "GateOpened": ({"pending", "completed", "awaiting_approval"}, "awaiting_approval"),
    "GatePassed": ({"awaiting_approval"}, "pending"),
    "GateApproved": ({"awaiting_approval"}, "approved"),
    "GateRejected": ({"awaiting_approval"}, "failed"),
    "PhaseCancelled": (LIVE | {"pending", "retry_wait", "awaiting_approval"}, "cancelled"),
    "PhaseSkipped": ({"pending", "retry_wait", "awaiting_approval", "failed", "cancelled"}, "skipped"),
    "PhaseReset": (PLACES - LIVE, "pending"),
    "FannedOut": ({"pending"}, "pending"),
    "Gathered": ({"pending"}, "completed"),
    "GatherFailed": ({"pending"}, "failed"),
    "CheckpointTaken": ({"starting"}, "starting"),
}
STAYS = {"PhaseRestored": PLACES - LIVE}  # wherever it stands by then


@pytest.mark.parametrize("event", MOVES)
def test_every_event_moves_from_where_it_may_and_nowhere_else(event):
    """All pairs of event and place: a move as listed, or a KeyError that names both."""
    may, following = MOVES[event]
    for place in PLACES:
        if place in may:
            assert move(event, place) == following
        else:
            with pytest.raises(KeyError, match=f"{event} cannot happen to a phase that is {place}"):
                move(event, place)


def test_the_table_lists_the_events_about_phases_and_no_others():
    about_phases = {name for name, kind in ev.Event.kinds.items() if issubclass(kind, ev.PhaseEvent) and name[0] != "_"}
    assert set(TABLE) == set(MOVES) | set(STAYS) == about_phases - {"PhaseEvent"}


@pytest.mark.parametrize("event", STAYS)
def test_some_move_nothing(event):
    assert TABLE[event] == {place: place for place in STAYS[event]}


def test_what_happened_to_nobody_is_no_move():
    with pytest.raises(KeyError):
        move("PhaseExploded", "pending")
    with pytest.raises(KeyError):
        move("PhaseFailed", "on holiday")


def test_what_counts_as_done_and_that_steps_are_no_statuses():
    assert {"completed", "approved", "skipped"} == DONE and STEPS == LIVE
    assert set(STATUSES) == (PLACES - LIVE) | {"in_progress"}


def test_no_attempt_begins_before_the_end_of_the_last_one_was_seen():
    assert not {place for place in TABLE["AttemptIntended"] if place in LIVE}


def test_the_diagram_shows_every_move_once():
    head, start, *lines = diagram().splitlines()
    assert (head, start) == ("stateDiagram-v2", "    [*] --> pending")
    assert sorted(lines) == sorted(
        [f"    {place} --> {following}: {event}" for event, (may, following) in MOVES.items() for place in may]
        + [f"    {place} --> {place}: {event}" for event, places in STAYS.items() for place in places]
    )
