"""The steps of a run that has not begun, for people and as JSON: `orch plan`, and `orch run --dry-run`."""

from __future__ import annotations

from typing import Any

from orchestrator.core.plan import Plan
from orchestrator.core.preview import Step


def steps_document(steps: list[Step], plan: Plan | None = None) -> list[dict[str, Any]]:
    return [
        {"number": step.number, "name": step.name, "what": step.what, "why": step.why}
        | {"changed": {"what": "", "how": "", "old": "", "new": "", **step.changed.as_dict()} if step.changed else None}
        | ({"needs": list(plan.needs[step.number]), "timeout_seconds": plan.timeout(step.number)} if plan else {})
        for step in steps
    ]


def steps_lines(steps: list[Step], plan: Plan | None = None) -> list[str]:
    width = max((len(step.name) for step in steps), default=0)
    lines = []
    for step in steps:
        needs = f"  needs {', '.join(map(str, plan.needs[step.number])) or 'nothing'}" if plan else ""
        lines.append(f"{step.number:>5}  {step.name:<{width}}  {step.what:<7}  {step.why}{needs}")
    return lines
