"""One phase, or item: where it stands, what is remembered of it, and what each event changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.core import events as ev
from orchestrator.core import table
from orchestrator.core.cachekey import RECIPE, Made, digest
from orchestrator.core.events import Event, PhaseEvent
from orchestrator.core.gate import APPROVED, REJECTED, Approval, Gate, answered, leave
from orchestrator.core.outcome import Failure
from orchestrator.core.value import Value

ERRORS_KEPT = 10
DURATIONS_KEPT = 20


class PhaseState(Value):
    status: str = table.PENDING
    step: str | None = None  # of in_progress: starting, running, stopping
    started_at: str | None = None
    finished_at: str | None = None
    duration_seconds: float | None = None
    errors: tuple[dict[str, Any], ...] = ()
    retry_count: int = 0
    inputs_hash: str | None = None
    outputs: dict[str, Any] | None = None
    name: str = ""
    title: str = ""
    planned: bool = True  # still defined in phases/
    attempt: int = 0  # the number of its last attempt, through all runs
    attempts: int = 0  # in this run
    failures: int = 0  # tries used up since it was last reset
    interruptions: int = 0  # in a row
    retry_at: str | None = None
    retry_delay_seconds: float | None = None
    agent: str | None = None
    pid: int | None = None
    ticks: int | None = None
    why: str | None = None  # why it stands where it stands
    killed: bool = False  # its last attempt was cancelled, and had not heeded SIGTERM
    log: str | None = None
    leftovers: tuple[str, ...] = ()
    approval: Approval | None = None  # what the attempt in progress has to pass when it is done
    gate: Gate | None = None  # the last asking: what waits, or how it was decided
    durations: tuple[float, ...] = ()  # of the attempts that succeeded, through all runs, the newest last
    items: tuple[Any, ...] | None = None  # what it fans out to, from when that is known
    keys: tuple[str, ...] = ()  # one for each of them, where they may be kept each by itself
    checkpoint: str | None = None  # was made before these tries began
    restore: str | None = None  # the checkpoint that its outputs are to go back to, until they have
    made: Made | None = None  # what its last attempt was made of; of a pending phase: what may be kept

    @property
    def place(self) -> str:
        """Where it stands in the table."""
        return self.step or self.status

    @property
    def is_live(self) -> bool:
        return self.status == table.IN_PROGRESS

    @property
    def is_done(self) -> bool:
        return self.status in table.DONE

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PhaseState:
        fields = dict(data)
        for name in ("errors", "leftovers", "durations", "keys"):
            fields[name] = tuple(fields.get(name) or ())
        if fields.get("items") is not None:
            fields["items"] = tuple(fields["items"])
        for name, kind in (("approval", Approval), ("gate", Gate)):
            fields[name] = kind.from_dict(fields[name]) if fields.get(name) is not None else None
        fields["made"] = Made.from_dict(fields["made"]) if fields.get("made") else None
        return cls(**fields)


def anew(phase: PhaseState, run: str) -> PhaseState:
    """What the run after `run` knows of a phase: its name, where its attempts are counted, what its success was."""
    made = may_be_kept(phase)
    return bare(phase).replace(made=made.replace(run=made.run or run) if made else None)


def bare(phase: PhaseState) -> PhaseState:
    """What it is called, and where its attempts are counted."""
    return PhaseState(
        name=phase.name, title=phase.title, planned=phase.planned, attempt=phase.attempt, durations=phase.durations
    )  # fmt: skip


def phase_document(phase: PhaseState) -> dict[str, Any]:
    """One phase as it stands in state.json: every field, so that a reader need not know the defaults."""
    lists = {name: list(getattr(phase, name)) for name in ("errors", "leftovers", "durations", "keys")}
    gate = {**phase.gate.__dict__, "who": [*phase.gate.who]} if phase.gate else None
    approval = {**phase.approval.__dict__, "who": [*phase.approval.who]} if phase.approval else None
    items = None if phase.items is None else list(phase.items)
    made = phase.made.as_dict() if phase.made else None
    return {**phase.__dict__, **lists, "gate": gate, "approval": approval, "items": items, "made": made}


def fold_phase(phase: PhaseState, event: PhaseEvent, at: str) -> PhaseState:
    """The phase after `event`: the table says where it stands, the branch what is remembered."""
    place = table.move(event.kind, phase.place)
    step = place if place in table.STEPS else None
    changes = _PHASE_FOLD[type(event)](phase, event, at)
    return phase.replace(status=table.IN_PROGRESS if step else place, step=step, **changes)


# ---- the branches about one phase: what each event changes besides the place

_AT_REST: dict[str, Any] = {"agent": None, "pid": None, "ticks": None}


def _intended(phase: PhaseState, event: ev.AttemptIntended, at: str) -> dict[str, Any]:
    return {
        "attempt": event.attempt, "attempts": phase.attempts + 1, "agent": event.agent, "inputs_hash": event.key,
        "started_at": at, "finished_at": None, "duration_seconds": None, "retry_at": None, "retry_delay_seconds": None,
        "retry_count": phase.retry_count + (phase.status == table.RETRY_WAIT), "why": None, "outputs": None,
        "leftovers": (), "log": None, "approval": event.approval, "made": Made(event.key, event.of), "killed": False,
    }  # fmt: skip


def _started(phase: PhaseState, event: ev.AttemptStarted, at: str) -> dict[str, Any]:
    return {"pid": event.pid, "ticks": event.ticks}


def _stop_requested(phase: PhaseState, event: ev.StopRequested, at: str) -> dict[str, Any]:
    return {"why": event.why}


def _withdrawn(phase: PhaseState, event: ev.AttemptWithdrawn, at: str) -> dict[str, Any]:
    return {**_AT_REST, "attempts": phase.attempts - 1, "started_at": None, "why": event.why}


def _completed(phase: PhaseState, event: ev.PhaseCompleted, at: str) -> dict[str, Any]:
    return {
        **_AT_REST, "finished_at": at, "duration_seconds": event.duration_seconds, "outputs": {"result": event.result},
        "failures": 0, "interruptions": 0, "log": event.log, "leftovers": event.leftovers, "why": None,
        "durations": (*phase.durations, event.duration_seconds)[-DURATIONS_KEPT:],
        "made": phase.made.replace(files=event.files, yields=event.yields) if phase.made else None,
    }  # fmt: skip


def _kept(phase: PhaseState, event: ev.PhaseKept, at: str) -> dict[str, Any]:
    made = phase.made or Made("", {})
    return {
        "finished_at": at, "outputs": {"result": made.result}, "inputs_hash": made.key,
        "made": made.replace(result=None), "failures": 0, "why": f"unchanged since run {event.since}",
    }  # fmt: skip


def _failing(phase: PhaseState, event: ev.PhaseFailed | ev.RetryScheduled, at: str) -> dict[str, Any]:
    interrupted = event.failure.code == "INTERRUPTED"
    return {
        **_AT_REST, "finished_at": at, "duration_seconds": event.duration_seconds,
        "log": event.failure.log or phase.log,
        "errors": (*phase.errors, _error(event.attempt, event.failure, at))[-ERRORS_KEPT:],
        "failures": phase.failures + (0 if interrupted else 1),
        "interruptions": phase.interruptions + 1 if interrupted else 0,
    }  # fmt: skip


def _error(attempt: int, failure: Failure, at: str) -> dict[str, Any]:
    return {**failure.as_dict(), "remedy": failure.remedy, "at": at, "attempt": attempt}


def _failed(phase: PhaseState, event: ev.PhaseFailed, at: str) -> dict[str, Any]:
    return {**_failing(phase, event, at), "why": event.why_final, "restore": event.restore or None}


def _retry_scheduled(phase: PhaseState, event: ev.RetryScheduled, at: str) -> dict[str, Any]:
    waiting = {"retry_at": event.due_at, "retry_delay_seconds": event.delay_seconds, "why": event.failure.message}
    return {**_failing(phase, event, at), **waiting}


def _found(phase: PhaseState, event: Any, at: str) -> dict[str, Any]:
    return {**_failing(phase, event, at), "why": event.failure.message}


def _cancelled(phase: PhaseState, event: ev.PhaseCancelled, at: str) -> dict[str, Any]:
    return {
        **_AT_REST,
        "finished_at": at,
        "duration_seconds": event.duration_seconds,
        "retry_at": None,
        "why": f"{event.why}; it had to be killed" if event.killed else event.why,
        "killed": event.killed,
        "gate": answered(phase.gate),
    }


def _gate_opened(phase: PhaseState, event: ev.GateOpened, at: str) -> dict[str, Any]:
    return {"gate": event.gate, "why": f"waits for {event.gate.told()}"}


def _decided(phase: PhaseState, event: ev.GatePassed | ev.GateApproved, at: str) -> dict[str, Any]:
    gate = phase.gate and phase.gate.replace(verdict=APPROVED, by=event.by, why=event.why, decided_at=at)
    return {"gate": gate, "why": gate and gate.decided()}


def _rejected(phase: PhaseState, event: ev.GateRejected, at: str) -> dict[str, Any]:
    gate = phase.gate and phase.gate.replace(verdict=REJECTED, by=event.by, why=event.why, decided_at=at)
    return {
        "gate": gate, "why": gate and gate.decided(), "finished_at": at, "outputs": None,
        "errors": (*phase.errors, _error(phase.attempt, event.failure, at))[-ERRORS_KEPT:],
    }  # fmt: skip


def _skipped(phase: PhaseState, event: ev.PhaseSkipped, at: str) -> dict[str, Any]:
    return {
        "finished_at": at, "duration_seconds": None, "retry_at": None, "retry_delay_seconds": None, "outputs": None,
        "why": f"skipped by {event.by}: {event.why}" if event.by else event.why, "gate": answered(phase.gate),
    }  # fmt: skip


def _reset(phase: PhaseState, event: ev.PhaseReset, at: str) -> dict[str, Any]:
    if event.forgotten:
        blank = {name: value for name, value in bare(phase).__dict__.items() if name not in ("status", "step")}
        return {**blank, "why": event.why}
    return {
        "items": None if event.items is None or event.relists else phase.items,
        "keys": () if event.items is None else phase.keys,
        "failures": 0, "retry_count": 0, "interruptions": event.interruptions, "retry_at": None,
        "retry_delay_seconds": None, "outputs": None, "why": event.why,
        "gate": None if phase.is_done else leave(phase.gate),
        # cut off by others, it goes on with the tries that it had: what they left is nothing to go back to
        "checkpoint": phase.checkpoint if event.interruptions else None,
        "made": may_be_kept(phase) if event.keeps else _what_it_left(phase) if event.items is not None else None,
    }  # fmt: skip


def _what_it_left(phase: PhaseState) -> Made | None:
    """Of its items some are run again, so it does not stand as a whole; what it was made of stays."""
    return phase.made.replace(yields="", result=None) if phase.made else None


def may_be_kept(phase: PhaseState) -> Made | None:
    """What came out of its last success, ready to be judged; None after an attempt that did not succeed."""
    if phase.made is None or not phase.made.yields:
        return None
    return phase.made.replace(result=phase.outputs["result"]) if phase.outputs else phase.made


def _fanned_out(phase: PhaseState, event: ev.FannedOut, at: str) -> dict[str, Any]:
    return {
        "items": event.items, "keys": event.keys, "started_at": at, "finished_at": None, "duration_seconds": None,
        "why": event.kept or None, "made": Made(event.key, event.of) if event.key else None,
    }  # fmt: skip


def _gathered(phase: PhaseState, event: ev.Gathered, at: str) -> dict[str, Any]:
    took = event.duration_seconds
    made = phase.made or Made(f"{RECIPE}:", {})  # an older orch did not say: then it is compared with nothing
    yields = event.yields or digest([event.result, ""])
    return {
        "finished_at": at, "duration_seconds": took or None, "outputs": {"result": event.result}, "failures": 0,
        "why": f"{len(event.failed)} of its items failed" if event.failed else phase.why if event.kept else None,
        "made": made.replace(files=event.files, yields=yields, failed=len(event.failed)),
        "durations": (*phase.durations, took)[-DURATIONS_KEPT:] if took and not event.kept else phase.durations,
    }  # fmt: skip


def _gather_failed(phase: PhaseState, event: ev.GatherFailed, at: str) -> dict[str, Any]:
    error = _error(phase.attempt, event.failure, at)
    return {"finished_at": at, "errors": (*phase.errors, error)[-ERRORS_KEPT:], "why": event.failure.message}


def _checkpoint_taken(phase: PhaseState, event: ev.CheckpointTaken, at: str) -> dict[str, Any]:
    return {"checkpoint": event.checkpoint}


def _restored(phase: PhaseState, event: ev.PhaseRestored, at: str) -> dict[str, Any]:
    return {"restore": None}


_PHASE_FOLD: dict[type[Event], Callable[[PhaseState, Any, str], dict[str, Any]]] = {
    ev.AttemptIntended: _intended,
    ev.AttemptStarted: _started,
    ev.StopRequested: _stop_requested,
    ev.AttemptWithdrawn: _withdrawn,
    ev.PhaseCompleted: _completed,
    ev.PhaseKept: _kept,
    ev.RetryScheduled: _retry_scheduled,
    ev.PhaseFailed: _failed,
    ev.PhaseRecovered: _found,
    ev.PhaseMended: _found,
    ev.GateOpened: _gate_opened,
    ev.GatePassed: _decided,
    ev.GateApproved: _decided,
    ev.GateRejected: _rejected,
    ev.PhaseCancelled: _cancelled,
    ev.PhaseSkipped: _skipped,
    ev.PhaseReset: _reset,
    ev.FannedOut: _fanned_out,
    ev.Gathered: _gathered,
    ev.GatherFailed: _gather_failed,
    ev.CheckpointTaken: _checkpoint_taken,
    ev.PhaseRestored: _restored,
}
