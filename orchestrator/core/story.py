"""story: every decision about one phase as a sentence, with what caused it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.core import events as ev
from orchestrator.core.gate import Gate
from orchestrator.core.item import Item
from orchestrator.core.names import span
from orchestrator.core.value import Value


class Chapter(Value):
    seq: int  # of the journal line
    at: str
    event: ev.Event
    because: str

    def sentence(self) -> str:
        return _SENTENCES[type(self.event)](self.event)

    def as_dict(self) -> dict[str, Any]:
        return {
            "seq": self.seq,
            "at": self.at,
            "told": self.sentence(),
            "because": self.because,
            **self.event.as_dict(),
        }


def concerns(event: ev.Event, number: int) -> bool:
    """About this phase, or the frame that its story stands in: runs that begin, go on and end.

    Of an item, of which there may be thousands, the frame is only which run it was.
    """
    if isinstance(event, ev.AskAnswered):
        return event.number == number
    if isinstance(event, ev.RolledBack):
        return str(number) in event.phases
    frame = (ev.RunStarted,) if isinstance(number, Item) else _FRAME
    return getattr(event, "number", None) == number or isinstance(event, frame)


def is_about(chapters: list[Chapter], number: int) -> bool:
    return any(getattr(chapter.event, "number", None) == number for chapter in chapters)


_FRAME = (ev.RunStarted, ev.RunContinued, ev.RunStopping, ev.RunPaused, ev.RunResumed, ev.RunEnded)


def counted_files(event: Any) -> str:
    files = "1 file" if event.files == 1 else f"{event.files} files"
    return f"{files} put back, {event.removed} removed"


def _attempt(event: Any) -> str:
    return f"attempt {event.number}.{event.attempt}"


def _failing(event: Any) -> str:
    return f"{_attempt(event)} failed: {event.failure.code}: {event.failure.message}"


def _final(event: ev.PhaseFailed) -> str:
    return _failing(event) + (f"; final: {event.why_final}" if event.why_final else "")


def _completed(event: ev.PhaseCompleted) -> str:
    left = f", and left behind: {', '.join(event.leftovers)}" if event.leftovers else ""
    return f"{_attempt(event)} completed after {span(event.duration_seconds)}{left}"


def _because(event: Any) -> str:
    return f": {event.why}" if event.why else ""


def _shown(gate: Gate) -> str:
    return f": {gate.shown}" if gate.shown else ""


def _seen(event: Any) -> str:
    return f" (plan {event.plan[:8]}, gate {event.gate})"


_SENTENCES: dict[type[ev.Event], Callable[[Any], str]] = {
    ev.RunStarted: lambda event: f"run {event.run} began: {event.scope}",
    ev.RunContinued: lambda event: f"run {event.run} went on: {event.scope}",
    ev.RunStopping: lambda event: f"the run was told to end: {event.why}",
    ev.RunPaused: lambda event: f"the run was paused by {event.by}" + (f": {event.why}" if event.why else ""),
    ev.RunResumed: lambda event: f"the run was resumed by {event.by}",
    ev.RunEnded: lambda event: (
        f"this call of the run ended: {event.verdict}, exit code {event.exit_code}"
        + (f"; the next retry is due {event.due_at}" if event.due_at else "")
    ),
    ev.AskAnswered: lambda event: f"{event.verb} was {'accepted' if event.accepted else 'refused'}: {event.text}",
    ev.AttemptIntended: lambda event: f"{_attempt(event)} was given to agent {event.agent}",
    ev.AttemptStarted: lambda event: f"{_attempt(event)} runs, pid {event.pid}",
    ev.StopRequested: lambda event: (
        f"{_attempt(event)} is being ended{' at once' if event.insist else ''}: {event.why}"
    ),
    ev.AttemptWithdrawn: lambda event: f"{_attempt(event)} never started, which costs no try: {event.why}",
    ev.PhaseCompleted: _completed,
    ev.PhaseKept: lambda event: f"kept: unchanged since run {event.since}",
    ev.RetryScheduled: lambda event: (
        f"{_failing(event)}; tried again in {span(event.delay_seconds)}, at {event.due_at}"
    ),
    ev.PhaseFailed: _final,
    ev.PhaseRecovered: lambda event: f"recovered as failed: {event.failure.message}",
    ev.PhaseMended: lambda event: f"marked as failed by the loop's own net: {event.failure.message}",
    ev.GateOpened: lambda event: f"waits for {event.gate.told()}{_shown(event.gate)}",
    ev.GatePassed: lambda event: f"approved by {event.by}, so it may run{_because(event)}{_seen(event)}",
    ev.GateApproved: lambda event: f"approved by {event.by}, so it is done{_because(event)}{_seen(event)}",
    ev.GateRejected: lambda event: f"rejected by {event.by}{_because(event)}{_seen(event)}",
    ev.PhaseCancelled: lambda event: f"cancelled: {event.why}" + ("; it had to be killed" if event.killed else ""),
    ev.PhaseSkipped: lambda event: f"skipped{f' by {event.by}' if event.by else ''}, so it counts as done: {event.why}",
    ev.FannedOut: lambda event: (
        f"it fans out to {len(event.items)} {'item' if len(event.items) == 1 else 'items'}"
        + (f": {event.kept}" if event.kept else "")
    ),
    ev.Gathered: lambda event: (
        f"all its items have ended: {len(event.result) - len(event.failed)} of {len(event.result)} are done"
    ),
    ev.GatherFailed: lambda event: f"failed: {event.failure.code}: {event.failure.message}",
    ev.CheckpointTaken: lambda event: f"checkpoint {event.checkpoint} was made before {_attempt(event)}",
    ev.PhaseRestored: lambda event: (
        f"its outputs could not go back to checkpoint {event.checkpoint}: {event.fault}"
        if event.fault
        else f"its outputs are as in checkpoint {event.checkpoint}: {counted_files(event)}"
    ),
    ev.RolledBack: lambda event: f"rolled back to {event.checkpoint} by {event.by}: {counted_files(event)}",
    ev.PhaseReset: lambda event: (
        f"{'as if it had never run' if event.forgotten else 'to be run again, with fresh tries'}: {event.why}"
    ),
}
