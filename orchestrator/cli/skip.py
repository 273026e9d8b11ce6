"""orch skip: a person says that a phase counts as done."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.asking import ask
from orchestrator.cli.frame import root_of, settings_of, show
from orchestrator.cli.options import NumberArgument, ProjectOption

EXAMPLE = 'Example: orch skip 3 --why "loaded by hand"'


def command(
    number: Annotated[int, NumberArgument],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; it is recorded with your name.")],
    project: ProjectOption = None,
) -> None:
    """Count phase N as done in this run, so that what needs it may run; it has no result."""
    root = root_of(project)
    show(ask(root, settings_of(root), "skip", number, why))
