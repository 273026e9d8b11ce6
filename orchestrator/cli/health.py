"""orch health: whether all is well, for people and for monitors: points, reasons, and an exit code."""

from __future__ import annotations

import os
from typing import Any

import typer

from orchestrator.checkup import findings
from orchestrator.cli.frame import root_of, show, show_json
from orchestrator.cli.options import JsonOption, ProjectOption
from orchestrator.core.health import WEIGHTS, Health, judge
from orchestrator.watch.printing import printable

EXAMPLE = "Example: orch health || echo 'look at it'"


def command(as_json: JsonOption = False, project: ProjectOption = None) -> None:
    """Say how well the project is, and why: exits with 0 (healthy), 1 (degraded) or 6 (bad)."""
    health = judge(findings(root_of(project), os.environ))
    if as_json:
        show_json(document(health))
    else:
        show("\n".join(lines(health)))
    raise typer.Exit(health.exit_code)


def lines(health: Health) -> list[str]:
    parts = ", ".join(f"{part} {left}/{WEIGHTS[part]}" for part, left in health.parts.items())
    told = [f"{health.verdict}: {health.score} of 100 ({parts})"]
    for one in health.findings:
        told.append(printable(f"  {'BAD ' if one.critical else ''}{one.part} -{one.cost}: {one.what}"))
        told.append(printable(f"      {one.remedy}"))
    return told


def document(health: Health) -> dict[str, Any]:
    return {
        "verdict": health.verdict,
        "score": health.score,
        "parts": {part: {"points": left, "of": WEIGHTS[part]} for part, left in health.parts.items()},
        "findings": [dict(vars(one)) for one in health.findings],
    }
