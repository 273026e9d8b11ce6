"""orch config: the settings in force, where each comes from, and whether they are right."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Annotated

import typer

from orchestrator.cli.frame import root_of, settings_of, show, show_json, tell
from orchestrator.cli.options import Command, Group, JsonOption, ProjectOption
from orchestrator.config import describe
from orchestrator.errors import UsageError
from orchestrator.layers import strange_variables
from orchestrator.secret import resolve_all
from orchestrator.services.extras import lacking

EXAMPLE = "Example: orch config show"

app = typer.Typer(
    cls=Group, help="The settings: what holds, and where it comes from.", epilog=EXAMPLE, rich_markup_mode=None
)


@app.command("show", cls=Command, epilog="Example: orch config show --json")
def show_settings(as_json: JsonOption = False, project: ProjectOption = None) -> None:
    """Every setting: its value, where that comes from, what it means."""
    rows = describe(settings_of(root_of(project)))
    _warn()
    if as_json:
        show_json([row._asdict() for row in rows])
        return
    widths = [max(len(str(row[column])) for row in rows) for column in range(3)]
    for row in rows:
        show(f"{row.name:<{widths[0]}}  {row.value:<{widths[1]}}  {row.origin:<{widths[2]}}  {row.meaning}")


@app.command("check", cls=Command, epilog="Example: orch config check --commands")
def check(
    commands: Annotated[bool, typer.Option("--commands", help="Also run the commands that print secrets.")] = False,
    project: ProjectOption = None,
) -> None:
    """Exit with 0 if all settings are right and the secrets are there, with 2 and every fault if not."""
    root = root_of(project)
    found = settings_of(root)
    _warn()
    if faults := lacking(found):
        raise UsageError("; ".join(faults), "install it where orch is, then again")
    tried = {name: source for name, source in found.secrets.items() if commands or not source.command}
    resolve_all(tried, root, os.environ)
    show(f"the settings of {root} are right")
    if tried:
        show(f"there: {_named(tried)}")
    if left := [name for name in found.secrets if name not in tried]:
        show(f"not looked at, because a command prints it: {_named(left)}; --commands runs it")


def _named(names: Collection[str]) -> str:
    return f"the secret{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _warn() -> None:
    for text in strange_variables(os.environ):
        tell(text)
