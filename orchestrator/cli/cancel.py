"""orch cancel: end a run or one phase. Says 0 only after the process trees are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator import clock
from orchestrator.cli.asking import ask
from orchestrator.cli.completing import phases
from orchestrator.cli.frame import ProjectOption, root_of, settings_of, show
from orchestrator.cli.frame import number as as_number
from orchestrator.core.item import phase_of
from orchestrator.look import Look

EXAMPLE = "Example: orch cancel 3"
LOOK_EVERY = 0.05


def command(
    number: Annotated[
        int | None,
        typer.Argument(
            metavar="[N]",
            help="Only this phase, or 4[17], an item.",
            show_default=False,
            autocompletion=phases,
            parser=as_number,
        ),
    ] = None,
    project: ProjectOption = None,
) -> None:
    """End the run, or phase N, with everything that it started; returns when it is gone."""
    root = root_of(project)
    settings = settings_of(root)
    was_live = bool(_live(Look(root, reads_files=False), number))
    text = ask(root, settings, "cancel", number)
    how = _await_end(root, number)
    show(f"{text}{how}" if was_live else text)


def _await_end(root: Path, number: int | None) -> str:
    """Until nothing of it is in progress; says so if it ended otherwise."""
    while True:
        look = Look(root, reads_files=False)
        if not _live(look, number) and (number is not None or not look.is_alive):
            break
        clock.pause(LOOK_EVERY)
    if number is not None and look.state.phase(number).is_done:
        return f"; but phase {number} had come to its end: {look.state.phase(number).status}"
    return "; gone" if number is not None or look.state.run.stopping else ""


def _live(look: Look, number: int | None) -> set[int]:
    return {one for one in look.state.live if number is None or number in (one, phase_of(one))}
