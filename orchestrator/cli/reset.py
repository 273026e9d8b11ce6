"""orch reset: phases as if they had never run in this run. Of all of them it asks first."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.asking import ask
from orchestrator.cli.frame import INTERRUPTED, root_of, settings_of, show, tell
from orchestrator.cli.options import OnlyArgument, ProjectOption
from orchestrator.errors import UsageError
from orchestrator.look import Look

EXAMPLE = "Example: orch reset 3 --with-dependents"
LEFT_ALONE = 1


def command(
    number: Annotated[int | None, OnlyArgument] = None,
    dependents: Annotated[bool, typer.Option("--with-dependents", help="Also all that need it, and so on.")] = False,
    lost: Annotated[
        bool, typer.Option("--lost", help="Only what was lost: its owner is gone, or cannot be asked from here.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    project: ProjectOption = None,
) -> None:
    """Forget what this run knows of phase N, or of all: pending, as if never run. Logs and durations are kept."""
    if dependents and number is None:
        raise UsageError("--with-dependents needs a phase", "`orch reset N --with-dependents`")
    root = root_of(project)
    settings = settings_of(root)
    if number is None and not lost and not yes and not _is_meant(root):
        tell("nothing was changed")
        raise typer.Exit(LEFT_ALONE)
    options = [name for name, wanted in (("with-dependents", dependents), ("lost", lost)) if wanted]
    show(ask(root, settings, "reset", number, "", options))


def _is_meant(root: Path) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("this forgets all that the run has done, and nobody can be asked here", "`orch reset --yes`")
    look = Look(root, reads_files=False)
    done, total = look.counts()
    question = f"Forget all of run {look.state.run.id or '(none)'}: {done} of {total} phases are done. Really?"
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C, or the end of the input
        sys.stderr.write("\n")
        raise typer.Exit(INTERRUPTED) from None
