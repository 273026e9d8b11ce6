"""story: every decision about one phase as a sentence, with what caused it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.core import events as ev
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
    """About this phase, or the frame that its story stands in: runs that begin, go on and end."""
    if isinstance(event, ev.AskAnswered):
        return event.number == number
    return getattr(event, "number", None) == number or isinstance(event, _FRAME)


def is_about(chapters: list[Chapter], number: int) -> bool:
    return any(getattr(chapter.event, "number", None) == number for chapter in chapters)


_FRAME = (ev.RunStarted, ev.RunContinued, ev.RunStopping, ev.RunEnded)


def _attempt(event: Any) -> str:
    return f"attempt {event.number}.{event.attempt}"


def _failing(event: Any) -> str:
    return f"{_attempt(event)} failed: {event.failure.code}: {event.failure.message}"


def _final(event: ev.PhaseFailed) -> str:
    return _failing(event) + (f"; final: {event.why_final}" if event.why_final else "")


def _completed(event: ev.PhaseCompleted) -> str:
    left = f", and left behind: {', '.join(event.leftovers)}" if event.leftovers else ""
    return f"{_attempt(event)} completed after {span(event.duration_seconds)}{left}"


_SENTENCES: dict[type[ev.Event], Callable[[Any], str]] = {
    ev.RunStarted: lambda event: f"run {event.run} began: {event.scope}",
    ev.RunContinued: lambda event: f"run {event.run} went on: {event.scope}",
    ev.RunStopping: lambda event: f"the run was told to end: {event.why}",
    ev.RunEnded: lambda event: f"this call of the run ended: {event.verdict}, exit code {event.exit_code}",
    ev.AskAnswered: lambda event: f"{event.verb} was {'accepted' if event.accepted else 'refused'}: {event.text}",
    ev.AttemptIntended: lambda event: f"{_attempt(event)} was given to agent {event.agent}",
    ev.AttemptStarted: lambda event: f"{_attempt(event)} runs, pid {event.pid}",
    ev.StopRequested: lambda event: (
        f"{_attempt(event)} is being ended{' at once' if event.insist else ''}: {event.why}"
    ),
    ev.AttemptWithdrawn: lambda event: f"{_attempt(event)} never started, which costs no try: {event.why}",
    ev.PhaseCompleted: _completed,
    ev.PhaseKept: lambda event: f"kept: unchanged since run {event.since}",
    ev.PhaseSkipped: lambda event: f"skipped: {event.why}",
    ev.RetryScheduled: lambda event: (
        f"{_failing(event)}; tried again in {span(event.delay_seconds)}, at {event.due_at}"
    ),
    ev.PhaseFailed: _final,
    ev.PhaseRecovered: lambda event: f"recovered as failed: {event.failure.message}",
    ev.PhaseMended: lambda event: f"marked as failed by the loop's own net: {event.failure.message}",
    ev.PhaseCancelled: lambda event: f"cancelled: {event.why}",
    ev.PhaseReset: lambda event: f"to be run again, with fresh tries: {event.why}",
}
