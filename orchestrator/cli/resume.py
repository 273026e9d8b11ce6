"""orch resume: what was paused goes on."""

from __future__ import annotations

from orchestrator.cli.asking import ask
from orchestrator.cli.frame import root_of, settings_of, show
from orchestrator.cli.options import ProjectOption

EXAMPLE = "Example: orch resume"


def command(project: ProjectOption = None) -> None:
    """Let a paused run start phases again."""
    root = root_of(project)
    show(ask(root, settings_of(root), "resume", None))
