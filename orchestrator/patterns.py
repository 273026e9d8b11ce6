"""Which files the patterns of a phase mean now; in a room of its own because it looks at the project's own folders."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Generator, Iterable
from pathlib import Path

OWN = "system"  # what lies there is orch's
DRAFT = ".orch-"  # what begins like this is a draft of ours, wherever it lies


class Found:
    """All relative to the project's root: files and links; folders, with those that they are in."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.folders: set[str] = set()


def expand(root: Path, patterns: Iterable[str]) -> Generator[None, None, Found]:
    """`*`, `?`, `[…]` within a name, `**` for any folders; a folder is all in it. In pieces, as there may be many."""
    found, seen = Found(), set[str]()
    for pattern in patterns:
        for path in _fixed(pattern):
            if os.path.isdir(root / path):
                found.folders.add(path)
        for path in glob.iglob(pattern, root_dir=root, recursive=True):
            _take(root, os.path.normpath(path), found, seen)
            yield
    found.files = sorted(seen)
    found.folders |= {above for path in (*seen, *found.folders) for above in _above(path)}
    return found


def _fixed(pattern: str) -> list[str]:
    """The folders that it names outright: they are part of what it declares, also while they are empty."""
    parts = pattern.split("/")
    many = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return ["/".join(parts[: end + 1]) for end in range(many)]


def _take(root: Path, path: str, found: Found, seen: set[str]) -> None:
    if path in (".", "") or path.split("/")[0] == OWN or _is_ours(path):
        return
    if not os.path.isdir(root / path):
        if _is_kept(root / path):
            seen.add(path)
        return
    found.folders.add(path)
    for folder, folders, files in os.walk(root / path):
        here = os.path.relpath(folder, root)
        inner = [f"{here}/{name}" for name in (*files, *folders) if not name.startswith(DRAFT)]
        for one in inner:
            if os.path.isdir(root / one) and not os.path.islink(root / one):
                found.folders.add(one)
            elif _is_kept(root / one):
                seen.add(one)


def _is_ours(path: str) -> bool:
    return path.rpartition("/")[2].startswith(DRAFT)


def _is_kept(path: Path) -> bool:
    """A pipe or a socket holds nothing."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]
