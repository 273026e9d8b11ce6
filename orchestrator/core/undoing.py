"""undoing: what is decided about checkpoints: made before a phase begins, gone back to when it fails for good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.draft import Draft
from orchestrator.core.spec import ROLLBACK
from orchestrator.core.wire import Order


def first_step(draft: Draft, order: Order) -> act.Action:
    """Of an attempt. A retry keeps the checkpoint of the first try: what that left is nothing to go back to."""
    number = order.attempt.phase
    comes_first = (
        (spec := draft.plan.spec(number)) is not None and spec.checkpoint and draft.phase(number).checkpoint is None
    )
    return act.MakeCheckpoint(order) if comes_first else act.StartAttempt(order)


def goes_back_to(draft: Draft, number: int) -> str:
    """The checkpoint that a phase which failed for good goes back to; empty: it does not."""
    spec = draft.plan.specs.get(number)
    wants_to = spec is not None and spec.on_critical == ROLLBACK
    return (draft.phase(number).checkpoint or "") if wants_to else ""


def _made(draft: Draft, seen: obs.CheckpointMade) -> None:
    attempt = seen.order.attempt
    if draft.is_current(attempt) and draft.phase(attempt.phase).step == "starting":
        draft.note(ev.CheckpointTaken(attempt.phase, attempt.number, seen.checkpoint))
        draft.do(act.StartAttempt(seen.order))


def _unrestored(draft: Draft, seen: obs.Unrestored) -> None:
    if (checkpoint := draft.phase(seen.number).restore) is not None:
        draft.do(act.RestoreCheckpoint(seen.number, checkpoint))


def _restored(draft: Draft, seen: obs.Restored) -> None:
    if draft.phase(seen.number).restore == seen.checkpoint:
        draft.note(ev.PhaseRestored(seen.number, seen.checkpoint, seen.files, seen.removed, seen.fault))


def _went_back(draft: Draft, seen: obs.WentBack) -> None:
    draft.note_run(seen.event)


HANDLERS: dict[type[obs.Observation], Callable[[Draft, Any], None]] = {
    obs.CheckpointMade: _made,
    obs.Unrestored: _unrestored,
    obs.Restored: _restored,
    obs.WentBack: _went_back,
}
