"""Patterns to files, to compare them or to copy them; `**` follows no link: it might lead out, or round and round."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

OWN = "system"  # what lies there is orch's
DRAFT = ".orch-"  # what begins like this is a draft of ours, wherever it lies
NOT_CONTENT = "__pycache__"  # Python writes it while it reads
_WILD = frozenset("*?[")


class Found:
    """All relative to the project's root."""

    def __init__(self) -> None:
        self.files: dict[str, os.stat_result | OSError] = {}  # what it is, behind links; or why nobody can tell
        self.folders: set[str] = set()  # those of which all is meant


Slices = Iterator[None]
"""Work in parts: whoever does it may do something else between two of them."""


def is_wild(text: str) -> bool:
    return not _WILD.isdisjoint(text)


def find(root: Path, patterns: Iterable[str], found: Found, without: str = NOT_CONTENT) -> Slices:
    """Every file that the patterns name, and of every folder all that is in it."""
    walk = _Walk(str(root), found, without)
    for pattern in patterns:
        yield from walk.matching("", pattern.split("/"))


def expand(root: Path, patterns: Iterable[str]) -> Generator[None, None, tuple[list[str], set[str]]]:
    """Files and links; folders, with those that they are in. OSError where somebody may not look."""
    found, patterns = Found(), list(patterns)
    yield from find(root, patterns, found, without="")
    for status in found.files.values():
        if isinstance(status, OSError) and not isinstance(status, FileNotFoundError):
            raise status
    files = sorted(path for path in found.files if _holds_something(root / path))
    named = {path for pattern in patterns for path in _named(pattern) if os.path.isdir(root / path)}
    return files, {*named, *found.folders, *(above for path in (*files, *found.folders) for above in _above(path))}


def _named(pattern: str) -> list[str]:
    """The folders that it names outright: they are part of what it declares, also while they are empty."""
    parts = pattern.split("/")
    many = next((place for place, part in enumerate(parts) if is_wild(part)), len(parts))
    return ["/".join(parts[: end + 1]) for end in range(many)]


def _above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _holds_something(path: Path) -> bool:
    """A pipe or a socket does not."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


class _Walk:
    def __init__(self, root: str, found: Found, without: str) -> None:
        self._root, self._without = root, without
        self._files, self._folders = found.files, found.folders

    def matching(self, here: str, parts: list[str]) -> Slices:
        if here == OWN or here.rpartition("/")[2].startswith(DRAFT):
            return
        if not parts:
            yield from self._whole(here)
        elif parts[0] == "**":
            yield from self._any_depth(here, parts)
        elif not is_wild(parts[0]):
            path = _joined(here, parts[0])
            if os.path.lexists(os.path.join(self._root, path)):
                yield from self.matching(path, parts[1:])
        else:
            for entry in self._entries(here):
                hidden = entry.name.startswith(".") and not parts[0].startswith(".")
                if not hidden and fnmatchcase(entry.name, parts[0]):
                    yield from self.matching(_joined(here, entry.name), parts[1:])

    def _any_depth(self, here: str, parts: list[str]) -> Slices:
        if len(parts) == 1:
            yield from self._whole(here)
            return
        yield from self.matching(here, parts[1:])
        for entry in self._entries(here):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from self._any_depth(_joined(here, entry.name), parts)

    def _whole(self, path: str) -> Slices:
        """The file, or all in the folder."""
        if path in self._files or path in self._folders:
            return
        try:
            status = os.stat(os.path.join(self._root, path))
        except OSError as error:
            self._files[path] = _of_link(os.path.join(self._root, path)) or error
            return
        if not stat.S_ISDIR(status.st_mode):
            self._files[path] = status
            yield
            return
        folders = [path]
        for folder in folders:  # a list that is read while it grows
            self._folders.add(folder)
            for entry in self._entries(folder):
                inner = _joined(folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(inner)
                elif inner not in self._files:
                    self._files[inner] = _status(entry)
                    yield

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:
                kept = [entry for entry in entries if entry.name != self._without and not entry.name.startswith(DRAFT)]
        except NotADirectoryError:
            return []
        except OSError as error:
            self._files[folder] = error
            return []
        return [entry for entry in kept if folder or entry.name != OWN]


def _status(entry: os.DirEntry[str]) -> os.stat_result | OSError:
    try:
        return entry.stat()
    except OSError as error:
        return _of_link(entry.path) or error


def _of_link(path: str) -> os.stat_result | None:
    """A link that leads nowhere is what it says."""
    return os.lstat(path) if os.path.islink(path) else None


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
