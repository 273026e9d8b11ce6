"""orch pause: nothing new starts, what runs goes on; until `orch resume`, over any number of calls of `orch run`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.asking import ask
from orchestrator.cli.frame import root_of, settings_of, show
from orchestrator.cli.options import ProjectOption

EXAMPLE = 'Example: orch pause --why "the disk is being moved"'


def command(
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="What for; it is shown and recorded.")] = "",
    project: ProjectOption = None,
) -> None:
    """Start no new attempts in this run before `orch resume`; those that run go on to their end."""
    root = root_of(project)
    show(ask(root, settings_of(root), "pause", None, why))
