"""orch cancel: end a run or one phase. Returns only after the process trees are gone; 1 if one had to be killed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator import clock
from orchestrator.cli.asking import ask
from orchestrator.cli.frame import root_of, settings_of, show, tell
from orchestrator.cli.options import OnlyArgument, ProjectOption
from orchestrator.core.item import phase_of
from orchestrator.core.names import span
from orchestrator.core.table import CANCELLED
from orchestrator.look import Look

EXAMPLE = "Example: orch cancel 3"
LOOK_EVERY = 0.05
TOLD_AFTER = 1.0  # seconds of waiting, after which it is said for what
KILLED = 1


def command(
    number: Annotated[int | None, OnlyArgument] = None,
    project: ProjectOption = None,
) -> None:
    """End the run, or phase N, and all that it started; returns when that is gone (1: it had to be killed)."""
    root = root_of(project)
    settings = settings_of(root)
    were_live = _live(Look(root, reads_files=False), number)
    text = ask(root, settings, "cancel", number)
    look = _await_end(root, number, settings.kill_grace)
    show(f"{text}{_how(look, number, were_live)}" if were_live else text)
    killed = [f"phase {one}" for one in sorted(were_live) if look.state.phase(one).killed]
    if killed:
        tell(f"{', '.join(killed)}: did not heed SIGTERM, and had to be killed")
        raise typer.Exit(KILLED)


def _await_end(root: Path, number: int | None, grace: float) -> Look:
    """Until nothing of it is in progress."""
    since, is_told = clock.ticking(), False
    while True:
        look = Look(root, reads_files=False)
        live = _live(look, number)
        if not live and (number is not None or not look.is_alive):
            return look
        if live and not is_told and clock.ticking() - since > TOLD_AFTER:
            who = ", ".join(map(str, sorted(live)))
            tell(f"being cancelled: {who}; what does not end is killed after {span(grace)}")
            is_told = True
        clock.pause(LOOK_EVERY)


def _how(look: Look, number: int | None, were_live: set[int]) -> str:
    if number is not None and look.state.phase(number).is_done:
        return f"; but phase {number} had come to its end: {look.state.phase(number).status}"
    is_cancelled = any(look.state.phase(one).status == CANCELLED for one in were_live)
    return "; gone" if number is not None or is_cancelled else ""


def _live(look: Look, number: int | None) -> set[int]:
    return {one for one in look.state.live if number is None or number in (one, phase_of(one))}
