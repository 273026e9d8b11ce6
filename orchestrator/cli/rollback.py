"""orch rollback: all as it was at a checkpoint, or nothing changes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator import rollback
from orchestrator.cli.checkpoint import NameArgument
from orchestrator.cli.frame import root_of, settings_of, show, show_json
from orchestrator.cli.options import JsonOption, ProjectOption

EXAMPLE = "Example: orch rollback phase_3_20261120_094107"


def command(
    name: Annotated[str, NameArgument],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Have the state, the results and the outputs of phases as they were; what is now is kept as a checkpoint, too."""
    root = root_of(project)
    way = rollback.look(root, name) if dry_run else rollback.go_back(root, settings_of(root), name)
    if as_json:
        show_json(document(way, dry=dry_run))
    else:
        show("\n".join(lines(way, dry=dry_run)))
    if way.refusal is not None:
        raise way.refusal


def document(way: rollback.Way, *, dry: bool) -> dict[str, Any]:
    return {
        "checkpoint": way.checkpoint.id, "changed": not dry and not way.is_empty,
        "blocked": way.refusal.message if way.refusal else None,
        "phases": {number: phase.get("status", "pending") for number, phase in way.phases.items()},
        "files": [entry.path for entry in way.changes.put], "removed": list(way.changes.remove),
        "undo": way.undo or None,
    }  # fmt: skip


def lines(way: rollback.Way, *, dry: bool) -> list[str]:
    if way.is_empty and not way.refusal:
        return [f"nothing to do: all is as in {way.checkpoint.id}"]
    verbs = ("would be put back", "would be removed", "would be") if dry else ("put back", "removed", "is")
    told = [f"{verbs[0]}: {entry.path}" for entry in way.changes.put]
    told += [f"{verbs[1]}: {path}" for path in way.changes.remove]
    told += [f"phase {number} {verbs[2]} {phase.get('status', 'pending')}" for number, phase in way.phases.items()]
    if not dry:
        told.append(f"all is as in {way.checkpoint.id}; `orch rollback {way.undo}` takes that back")
    return told
