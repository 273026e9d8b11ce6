"""orch approve: yes to a phase that waits for a person, bound to the run and the plan that were seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.asking import ask
from orchestrator.cli.frame import root_of, settings_of, show
from orchestrator.cli.options import NumberArgument, ProjectOption
from orchestrator.look import Look

EXAMPLE = 'Example: orch approve 3 --why "figures checked"'
GateOption = Annotated[
    str, typer.Option("--gate", metavar="ID", help="Only if it is still this asking, as in `orch status --json`.")
]


def command(
    number: Annotated[int, NumberArgument],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Recorded with your name and the plan.")] = "",
    gate: GateOption = "",
    project: ProjectOption = None,
) -> None:
    """Approve phase N, which waits for it: before its body it may run, after it it is done."""
    show(decide(root_of(project), "approve", number, why, gate))


def decide(root: Path, verb: str, number: int, why: str, gate: str) -> str:
    """About what is seen now, unless it is said what was seen."""
    settings = settings_of(root)
    seen = Look(root, reads_files=False).state.phase(number).gate
    meant = gate or (seen.id if seen else "")
    return ask(root, settings, verb, number, why, [f"gate={meant}"] if meant else [])
