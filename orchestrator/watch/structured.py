"""system/logs/structured_execution.jsonl: what happened, for machines; one object a line, the same keys for ever.

Opened anew for every batch of lines, so that it may be rotated, moved or deleted from outside at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator import disk
from orchestrator.core import events as ev
from orchestrator.core.agenda import Agenda
from orchestrator.core.draft import Decision
from orchestrator.core.item import Item, phase_of
from orchestrator.core.names import Moment, iso
from orchestrator.core.observations import Observation
from orchestrator.core.outcome import Failure
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.watch.archive import rotate


class StructuredLog:
    def __init__(
        self, path: Path, most_bytes: int, complain: Callable[[str], None],
        rotated: Callable[[Path], None] = lambda path: None,
    ) -> None:  # fmt: skip
        """`rotated` is told of a file that nobody writes to any more."""
        self._path, self._most, self._complain, self._rotated = path, most_bytes, complain, rotated
        self._failing = False

    def tell(
        self, batch: Sequence[Observation], decision: Decision, state: State, agenda: Agenda, plan: Plan, moment: Moment
    ) -> None:
        lines = [
            _written(record)
            for event, reason in zip(decision.events, decision.reasons, strict=True)
            if (record := record_of(event, reason, state, iso(moment.now))) is not None
        ]
        if lines:
            self._write("\n".join(lines).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        """The journal is the truth: a log that cannot be written is said once, and tried again with the next line."""
        try:
            fd = self._opened()
            try:
                os.write(fd, data)
                is_full = os.fstat(fd).st_size >= self._most
            finally:
                os.close(fd)
            if is_full:
                self._rotated(rotate(self._path))
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._complain(f"{self._path} could not be written: {error.strerror}; the run goes on")
            self._failing = True

    def _opened(self) -> int:
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return os.open(self._path, how, disk.PRIVATE_FILE)
        except FileNotFoundError:  # somebody took the folder away
            disk.make_folder(self._path.parent)
            return os.open(self._path, how, disk.PRIVATE_FILE)


def record_of(event: ev.Event, reason: str, state: State, at: str) -> dict[str, Any] | None:
    """The line for an event; None where it says nothing about the run or a phase."""
    name = _NAMES.get(type(event))
    if name is None:
        return None
    number = getattr(event, "number", None)
    failure: Failure | None = getattr(event, "failure", None)
    return {
        "timestamp": at, "event": name, "run": state.run.id,
        "phase": phase_of(number) if number is not None else None,
        "name": state.name_of(number) if number is not None else None, "attempt": getattr(event, "attempt", None),
        "duration_seconds": getattr(event, "duration_seconds", None), "outputs": _outputs(event),
        "error_type": failure.type or failure.code if failure else None,
        "error_message": failure.message if failure else None, "error_code": failure.code if failure else None,
        "context": {"because": reason, **_context(event)},
    }  # fmt: skip


def _outputs(event: ev.Event) -> dict[str, Any] | None:
    return {"result": event.result} if isinstance(event, (ev.PhaseCompleted, ev.Gathered)) else None


def _context(event: ev.Event) -> dict[str, Any]:
    """What this kind of event knows besides the common keys."""
    told, number = event.given(_COMMON), getattr(event, "number", None)
    if isinstance(number, Item):
        told["item"] = number.index
    return told


_written = json.JSONEncoder(default=str).encode  # `dumps` would build it each time
_COMMON = frozenset({"number", "attempt", "duration_seconds", "result", "failure", "run", "owner", "phases"})
_NAMES: dict[type[ev.Event], str] = {
    ev.RunStarted: "run_start",
    ev.RunContinued: "run_continue",
    ev.RunStopping: "run_stopping",
    ev.RunPaused: "run_paused",
    ev.RunResumed: "run_resumed",
    ev.RunEnded: "run_end",
    ev.AgentEngaged: "agent_engaged",
    ev.AgentLeft: "agent_left",
    ev.AskAnswered: "ask_answered",
    ev.InstantSettled: "instant_settled",
    ev.AttemptIntended: "phase_start",
    ev.AttemptWithdrawn: "phase_not_started",
    ev.StopRequested: "phase_stopping",
    ev.PhaseCompleted: "phase_complete",
    ev.PhaseKept: "phase_kept",
    ev.PhaseSkipped: "phase_skipped",
    ev.PhaseFailed: "phase_error",
    ev.RetryScheduled: "phase_retry",
    ev.PhaseRecovered: "phase_recovered",
    ev.PhaseMended: "phase_mended",
    ev.GateOpened: "gate_opened",
    ev.GatePassed: "gate_passed",
    ev.GateApproved: "gate_approved",
    ev.GateRejected: "gate_rejected",
    ev.PhaseCancelled: "phase_cancelled",
    ev.PhaseSkipped: "phase_skipped",
    ev.PhaseReset: "phase_reset",
    ev.FannedOut: "phase_fanned_out",
    ev.Gathered: "phase_complete",
    ev.GatherFailed: "phase_error",
    ev.CheckpointTaken: "checkpoint",
    ev.PhaseRestored: "phase_restored",
    ev.RolledBack: "rollback",
}
