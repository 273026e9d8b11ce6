"""orch recover: recovery by hand. Collects outcomes, fails what dead owners left in progress, and says what it did."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator import app
from orchestrator.beginning import Recovered
from orchestrator.cli.frame import root_of, settings_of, show, show_json, tell
from orchestrator.cli.options import JsonOption, ProjectOption
from orchestrator.core import events as ev

EXAMPLE = "Example: orch recover --json"


def command(
    takeover: Annotated[bool, typer.Option("--takeover", help="End a run that somebody stopped (state T).")] = False,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Recover what a dead run left behind; exits with 75 if a run is alive."""
    root = root_of(project)
    found = app.recover(root, settings_of(root), takeover=takeover)
    if as_json:
        show_json(
            {"recovered": [event.as_dict() for event in found.events if isinstance(event, ev.PhaseEvent)],
             "goes_on": found.left, "untold": [*found.untold], "ended": found.swept, "notes": found.notes}
        )  # fmt: skip
        return
    for note in found.notes:
        tell(note)
    show("\n".join(lines(found)))


def lines(found: Recovered) -> list[str]:
    told = [line for event in found.events if (line := _line(event))]
    told += [f"ended what was left running: {name}" for name in found.swept]
    told += [f"phase {number}: its agent is alive and goes on with it" for number in found.left]
    told += found.of_the_hidden()
    return told or ["nothing to recover"]


def _line(event: ev.Event) -> str:
    if isinstance(event, ev.PhaseRecovered):
        return f"phase {event.number}: failed, {event.failure.code}: {event.failure.message}; `orch run` runs it again"
    if isinstance(event, ev.PhaseCompleted):
        return f"phase {event.number}: completed while nobody looked; its outcome was collected"
    if isinstance(event, ev.RetryScheduled | ev.PhaseFailed):
        return f"phase {event.number}: {event.failure.code}: {event.failure.message}; its outcome was collected"
    if isinstance(event, ev.AttemptWithdrawn):
        return f"phase {event.number}: {event.why}; pending, at no cost of a try"
    if isinstance(event, ev.PhaseCancelled):
        return f"phase {event.number}: cancelled, {event.why}"
    if isinstance(event, ev.GatePassed | ev.GateApproved):
        return f"phase {event.number}: approved by {event.by}"
    if isinstance(event, ev.GateRejected):
        return f"phase {event.number}: {event.failure.message}; `orch retry {event.number}` asks again"
    return ""
