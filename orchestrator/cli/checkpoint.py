"""orch checkpoint: keep how all stands now; what is kept, and what is in it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator import rollback
from orchestrator.cli.completing import checkpoints, phases
from orchestrator.cli.frame import root_of, settings_of, show, show_json, tell
from orchestrator.cli.options import Command, Group, JsonOption, ProjectOption
from orchestrator.core.checkpoint import Checkpoint
from orchestrator.core.item import number_of
from orchestrator.errors import StateDamaged
from orchestrator.store.checkpoints import Vault

EXAMPLE = "Example: orch checkpoint create 3"
NameArgument = typer.Argument(metavar="ID", help="The checkpoint.", show_default=False, autocompletion=checkpoints)

app = typer.Typer(cls=Group, help="Keep how all stands now, to go back to it.", epilog=EXAMPLE, rich_markup_mode=None)


@app.command("create", cls=Command, epilog=EXAMPLE)
def create(
    number: Annotated[
        int | None, typer.Argument(metavar="N", help="Before which phase; left out: the next.", autocompletion=phases)
    ] = None,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Keep the state, the results and the outputs that phases declare, as they are now."""
    root = root_of(project)
    made = rollback.create(root, settings_of(root), number)
    if as_json:
        show_json(brief(made))
    else:
        show(f"{made.id}: {_files(made)}; `orch rollback {made.id}` goes back to it")


@app.command("list", cls=Command, epilog="Example: orch checkpoint list --json")
def list_all(as_json: JsonOption = False, project: ProjectOption = None) -> None:
    """Every checkpoint, the newest first."""
    vault = Vault(root_of(project))
    found = list[Checkpoint]()
    for name in vault.ids():
        try:
            found.append(vault.read(name))
        except StateDamaged as error:
            tell(f"{error.message}; {error.remedy}")
    if as_json:
        show_json([brief(one) for one in found])
    else:
        width = max((len(one.id) for one in found), default=0)
        show("\n".join(f"{one.id:<{width}}  {_files(one)}, {one.why}" for one in found) or "no checkpoints yet")


@app.command("show", cls=Command, epilog="Example: orch checkpoint show phase_3_20261120_094107")
def show_one(name: Annotated[str, NameArgument], as_json: JsonOption = False, project: ProjectOption = None) -> None:
    """What is in one: how each phase stood, what it had returned, the files; and whether their copies are whole."""
    vault = Vault(root_of(project))
    found = vault.read(name)
    damaged = [fault for entry in found.entries.values() if entry.is_file and (fault := vault.fault_of(name, entry))]
    if as_json:
        show_json({**found.as_dict(), "faults": damaged})
    else:
        show("\n".join(lines(found)))
        for fault in damaged:
            tell(fault)
    raise typer.Exit(1 if damaged else 0)


def brief(one: Checkpoint) -> dict[str, Any]:
    return {
        "id": one.id, "phase": one.phase, "timestamp": one.timestamp, "why": one.why, "run": one.state["run"].get("id"),
        "files": len(one.entries), "bytes": one.size, "left_out": list(one.left_out),
    }  # fmt: skip


def _files(one: Checkpoint) -> str:
    many = len(one.entries)
    return f"{many} {'file' if many == 1 else 'files'}, {one.size:,} bytes"


def lines(one: Checkpoint) -> list[str]:
    told = [f"{one.id}: before phase {one.phase}, at {one.timestamp} ({one.why})"]
    told += [
        f"{number:>5}  {phase.get('status', 'pending')}"
        + ("  (has a result)" if number in one.context["results"] else "")
        for number, phase in sorted(one.state["phases"].items(), key=lambda each: number_of(each[0]))
    ]
    told += [f"       {entry.path}  {_told_of(entry)}" for entry in one.entries.values()]
    told += [f"       phase {number} was in progress: its files are not in it" for number in one.left_out]
    return told


def _told_of(entry: Any) -> str:
    return f"{entry.size:,} bytes, {entry.digest[:12]}" if entry.is_file else f"leads to {entry.leads}"
