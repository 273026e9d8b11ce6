"""Numbers of phases for the shell's completion: from state.json and the text of the files, never by running them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import typer

from orchestrator import disk, project
from orchestrator.config import settings
from orchestrator.core.formats import MALFORMED
from orchestrator.errors import OrchError
from orchestrator.load.folder import read
from orchestrator.load.static import numbers_in
from orchestrator.services.outbox import Outbox
from orchestrator.store.checkpoints import Vault
from orchestrator.store.schedules import names

MOST = 1000  # more are no help to whoever chooses from them


def phases(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """What may stand where a command takes the number of a phase, with its name; after a comma, one more."""
    before, comma, begun = incomplete.rpartition(",")
    chosen = set(before.split(","))
    return [
        (f"{before}{comma}{number}", name)
        for number, name in sorted(_known(ctx.params.get("project")).items())[:MOST]
        if str(number).startswith(begun) and str(number) not in chosen
    ]


def checkpoints(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Their names, the newest first."""
    try:
        vault = Vault(project.find(ctx.params.get("project"), os.environ, Path.cwd()))
        return [(name, "") for name in vault.ids()[:MOST] if name.startswith(incomplete)]
    except (OSError, OrchError):
        return []


def schedules(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Their names."""
    try:
        root = project.find(ctx.params.get("project"), os.environ, Path.cwd())
        return [(name, "") for name in names(root / "system") if name.startswith(incomplete)]
    except (OSError, OrchError):
        return []


def params(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """What may stand behind `--set`: each parameter, and what it is where nothing is said."""
    try:
        known = settings(project.find(ctx.params.get("project"), os.environ, Path.cwd()), {}, os.environ).params
    except (OSError, OrchError):
        return []
    return [(f"{name}=", json.dumps(value)) for name, value in sorted(known.items()) if name.startswith(incomplete)]


def targets(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Who is to be told."""
    try:
        known = settings(project.find(ctx.params.get("project"), os.environ, Path.cwd()), {}, os.environ).notify
    except (OSError, OrchError):
        return []
    return [(name, "") for name in known if name.startswith(incomplete)]


def messages(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """What waits to be told, and what was refused."""
    try:
        outbox = Outbox(project.find(ctx.params.get("project"), os.environ, Path.cwd()))
        waiting = [letter.message for target in outbox.targets() for letter in outbox.letters(target)]
    except (OSError, OrchError):
        return []
    found = [*waiting, *(letter.message for letter in outbox.refused())]
    return [(one.id, one.text) for one in found[:MOST] if one.id.startswith(incomplete)]


def _known(option: Path | None) -> dict[int, str]:
    """Nothing where there is no project: whoever presses a key is not told of faults."""
    try:
        root = project.find(option, os.environ, Path.cwd())
        return {**_in_files(root), **_in_state(root)}
    except (OSError, OrchError):
        return {}


def _in_files(root: Path) -> dict[int, str]:
    """Those that no run has seen yet; a name is the file's."""
    found = read(root, trust=True)
    return {number: Path(file).stem for file, data in found.sources.items() for number in numbers_in(data)}


def _in_state(root: Path) -> dict[int, str]:
    try:
        known = json.loads(disk.read(root / "system" / "state.json"))["phases"]
        return {int(number): str(phase["name"]) for number, phase in known.items() if phase["planned"]}
    except (OSError, *MALFORMED):
        return {}
