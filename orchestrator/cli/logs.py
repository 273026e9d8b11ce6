"""orch logs: what an attempt printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import clock
from orchestrator.cli.frame import ProjectOption, root_of
from orchestrator.errors import UsageError
from orchestrator.look import Look

EXAMPLE = "Example: orch logs -8 -f"
LOOK_EVERY = 0.1


def command(
    number: Annotated[int, typer.Argument(metavar="N", help="The phase.", show_default=False)],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as long as the phase is in progress.")] = False,
    attempt: Annotated[int | None, typer.Option("--attempt", metavar="A", help="Not the last attempt but this.")] = None,
    project: ProjectOption = None,
) -> None:
    """Show what phase N printed in its last attempt."""
    root = root_of(project)
    path = _path(root, number, attempt)
    if not follow:
        _copy(_older(path), 0)
        _copy(path, 0)
        return
    _follow(root, number, path)


def _path(root: Path, number: int, attempt: int | None) -> Path:
    folder = root / "system" / "logs" / "phases" / str(number)
    there = sorted(int(path.stem) for path in folder.glob("*.log") if path.stem.isdigit())
    if not there:
        known = Look(root).state.phases
        if known and number not in known:
            raise UsageError(f"there is no phase {number}", "`orch status` lists them")
        raise UsageError(f"phase {number} has no log: it has not been started yet", "`orch status` shows where it stands")
    if attempt is not None and attempt not in there:
        raise UsageError(f"phase {number} has no log of attempt {attempt}", f"there are those of {there}")
    return folder / f"{there[-1] if attempt is None else attempt}.log"


def _older(path: Path) -> Path:
    """Where the log was rotated, the part before."""
    return path.with_name(path.name + ".1")


def _copy(path: Path, offset: int) -> int:
    """From `offset` to the end, to standard output; returns the new end."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < offset:
                offset = 0  # rotated under our eyes: a new file under the old name
            file.seek(offset)
            while data := file.read(1 << 16):
                sys.stdout.buffer.write(data)
                offset += len(data)
    except FileNotFoundError:
        return offset
    sys.stdout.buffer.flush()
    return offset


def _follow(root: Path, number: int, path: Path) -> None:
    offset = _copy(path, 0)
    while True:
        phase = Look(root).state.phase(number)
        newer = _path(root, number, None)
        offset = _copy(path, offset)
        if newer != path:
            path, offset = newer, 0
        elif not phase.is_live:
            _copy(path, offset)
            return
        clock.pause(LOOK_EVERY)
