"""Which folder is the project, and where in it things are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import UsageError


def find(option: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    """`--project`; inside an attempt the nearest folder upwards; `$ORCH_PROJECT`; the nearest folder upwards."""
    if option is not None:
        return _checked(option, "--project")
    upwards = _upwards(cwd)
    inside_attempt = "ORCH_PHASE" in environ
    named = environ.get("ORCH_PROJECT")
    if upwards is not None and (inside_attempt or not named):
        return upwards
    if named:
        return _checked(Path(named), "$ORCH_PROJECT")
    nowhere = f"no project here: neither {cwd} nor a folder above it has phases/"
    raise UsageError(
        nowhere if cwd != cwd.parent else f"no project here: {cwd} does not have phases/",
        "go to your project, give --project DIR, or begin one with `orch init`",
    )


def _upwards(start: Path) -> Path | None:
    folder = Path(os.path.abspath(start))
    return next((one for one in (folder, *folder.parents) if (one / "phases").is_dir() and not _holds_logs(one)), None)


def _holds_logs(folder: Path) -> bool:
    """The logs of a project, by phase: that folder's `phases/` defines nothing."""
    return folder.parts[-2:] == ("system", "logs") and (folder.parents[1] / "phases").is_dir()


def _checked(folder: Path, origin: str) -> Path:
    if not os.path.isdir(folder):  # of a name that is too long, too
        raise UsageError(f"{origin}: {folder} is not a folder", "give the folder that has phases/ in it")
    return Path(os.path.abspath(folder))
