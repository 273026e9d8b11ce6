"""orch status: where everything stands, from any shell, at any time."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import JsonOption, ProjectOption
from orchestrator.cli.showing import status

EXAMPLE = "Example: orch status --json"


def command(
    everything: Annotated[bool, typer.Option("--all", help="Every phase, however many there are.")] = False,
    watched: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again each second until the run is over.")
    ] = False,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Show the run, its agents and every phase; what recovery would write is shown as such."""
    raise typer.Exit(status(everything=everything, watched=watched, as_json=as_json, project=project))
