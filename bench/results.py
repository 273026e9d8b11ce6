"""results.json: what was measured, and on what kind of machine; nothing in it says which machine or whose."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("results.json")


def read(path: Path = PATH) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return found


def put(part: str, found: Any, path: Path, scratch: Path) -> None:
    """The other parts stay as they are."""
    whole = read(path) | {part: {"machine": machine(scratch), "measured": found}}
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    draft.replace(path)


def machine(scratch: Path) -> dict[str, Any]:
    return {
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": _file_system(scratch),
    }


def _file_system(folder: Path) -> str:
    """Of the longest mount point above the folder."""
    best, kind = -1, "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, found, *_ = line.split()
        if folder.resolve().is_relative_to(point) and len(point) >= best:
            best, kind = len(point), found
    return kind
