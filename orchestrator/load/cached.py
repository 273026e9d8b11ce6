"""Definitions kept by the bytes that they came from, so that most starts import nothing and start no process."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from orchestrator import clock, disk
from orchestrator.core.formats import MALFORMED
from orchestrator.load.definitions import Definitions, digest_of

RECIPE = 2  # raised with every change of what load makes of the same files
_KEPT = 20
_WRITTEN_WITHIN = 60.0  # seconds; after that nobody is still writing it
_FOLDER = "definitions"


def key(sources: dict[str, bytes]) -> str:
    files = {file: hashlib.sha256(data).hexdigest() for file, data in sources.items()}
    return digest_of(RECIPE, sys.version, sys.prefix, files)


def read(cache: Path, root: Path, name: str) -> Definitions | None:
    """None if it is not there, is damaged, or a project file behind it has changed."""
    try:
        kept = _kept(cache, root, name)
        return None if kept is None else Definitions.from_dict(json.loads(kept))
    except MALFORMED:
        return None


def holds(cache: Path, root: Path, name: str) -> bool:
    """Would it be read?"""
    return _kept(cache, root, name) is not None


def _kept(cache: Path, root: Path, name: str) -> bytes | None:
    try:
        first, _, kept = disk.read(cache / _FOLDER / f"{name}.json").partition(b"\n")
        head = json.loads(first)
        if head["recipe"] != RECIPE or head["name"] != name or head["digest"] != hashlib.sha256(kept).hexdigest():
            return None
        if any(_mark(root, file, by_bytes=file in head["by_bytes"]) != mark for file, mark in head["behind"].items()):
            return None
        return kept
    except (OSError, *MALFORMED):
        return None


def write(
    cache: Path, root: Path, name: str, definitions: Definitions, by_bytes: set[str], read: Iterable[str]
) -> None:
    """`by_bytes`: project files that were imported; `read`: others, and folders that were listed. Never a fault."""
    behind = {file: _mark(root, file, by_bytes=file in by_bytes) for file in sorted({*by_bytes, *read})}
    kept = json.dumps(definitions.as_dict()).encode()
    digest = hashlib.sha256(kept).hexdigest()
    head = {"recipe": RECIPE, "name": name, "digest": digest, "by_bytes": sorted(by_bytes), "behind": behind}
    try:
        disk.make_folder(cache / _FOLDER)
        disk.replace(cache / _FOLDER / f"{name}.json", json.dumps(head).encode() + b"\n" + kept, durable=False)
        _prune(cache / _FOLDER)
    except OSError:
        return


def _mark(root: Path, file: str, *, by_bytes: bool) -> str:
    """What changes when the file does. Data may be large: its size and time of change stand for its bytes."""
    path = root / file
    try:
        if by_bytes:
            return hashlib.sha256(disk.read(path)).hexdigest()
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            return digest_of(sorted(os.listdir(path)))
        return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"
    except OSError:
        return "absent"


def unreadable(cache: Path) -> list[str]:
    """What is kept there and damaged: it would be read again from phases/."""
    found = sorted((cache / _FOLDER).glob("*.json"))
    return [f"{_FOLDER}/{path.name}" for path in found if path.is_file() and not _is_sound(path)]


def _is_sound(path: Path) -> bool:
    try:
        first, _, kept = disk.read(path).partition(b"\n")
        head = json.loads(first)
        return bool(head["name"] == path.stem and head["digest"] == hashlib.sha256(kept).hexdigest())
    except FileNotFoundError:
        return True  # taken away meanwhile
    except (OSError, *MALFORMED):
        return False


def _prune(folder: Path) -> None:
    disk.remove_drafts(folder, clock.now() - _WRITTEN_WITHIN)
    found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in found[_KEPT:]:
        path.unlink(missing_ok=True)
