"""orch retry: run a phase again now, with fresh tries."""

from __future__ import annotations

from typing import Annotated

from orchestrator.cli.asking import ask
from orchestrator.cli.frame import root_of, settings_of, show
from orchestrator.cli.options import NumberArgument, ProjectOption

EXAMPLE = "Example: orch retry -8"


def command(
    number: Annotated[int, NumberArgument],
    project: ProjectOption = None,
) -> None:
    """Have a phase that failed, was cancelled or waits for its retry run again, with fresh tries."""
    root = root_of(project)
    show(ask(root, settings_of(root), "retry", number))
