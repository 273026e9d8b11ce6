"""orch cron: runs that begin by themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.firing import Firing
from orchestrator.cli.frame import Command, Group, ProjectOption, root_of, settings_of
from orchestrator.cli.run import parsed
from orchestrator.store import schedules

EXAMPLE = 'Example: orch cron add --at "0 3 * * *"'

app = typer.Typer(cls=Group, help="Runs that begin by themselves.", epilog=EXAMPLE, rich_markup_mode=None)


@app.command("fire", cls=Command, hidden=True, epilog="Example: orch cron fire default")
def fire(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")], project: ProjectOption = None
) -> None:
    """What cron starts: begin what is due of this schedule, and note what became of each instant."""
    root = root_of(project)
    schedule = schedules.read(root / "system", name)
    given = parsed(schedule.options)
    raise typer.Exit(Firing(root, settings_of(root, {"jobs": given["jobs"]}), schedule, given).fire())
