"""orch reject: no to a phase that waits for a person; it counts as failed, and what needs it does not run."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.approve import GateOption, decide
from orchestrator.cli.frame import root_of, show
from orchestrator.cli.options import NumberArgument, ProjectOption

EXAMPLE = 'Example: orch reject 3 --why "the total is wrong"'


def command(
    number: Annotated[int, NumberArgument],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; it is recorded with your name.")],
    gate: GateOption = "",
    project: ProjectOption = None,
) -> None:
    """Reject phase N, which waits for approval: it fails as REJECTED, and is not tried again by itself."""
    show(decide(root_of(project), "reject", number, why, gate))
