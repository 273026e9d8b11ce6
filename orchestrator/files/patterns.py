"""Patterns to files. Wildcards never lead into system/; `**` follows no link: it might lead out, or round and round."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

OWN = "system"
_NOT_CONTENT = "__pycache__"  # Python writes it while it reads
_WILD = frozenset("*?[")

Found = dict[str, "os.stat_result | OSError"]
"""Relative to the project's root -> what it is, or why nobody can tell."""

Slices = Iterator[None]
"""Work in parts: whoever does it may do something else between two of them."""


def is_wild(text: str) -> bool:
    return not _WILD.isdisjoint(text)


def find(root: Path, patterns: Sequence[str], found: Found) -> Slices:
    """Every file that the patterns name, and of every folder all that is in it."""
    walk = _Walk(str(root), found)
    for pattern in patterns:
        yield from walk.matching("", pattern.split("/"))


class _Walk:
    def __init__(self, root: str, found: Found) -> None:
        self._root, self._found = root, found

    def matching(self, here: str, parts: list[str]) -> Slices:
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
        if path in self._found:
            return
        try:
            status = os.stat(os.path.join(self._root, path))
        except OSError as error:
            self._found[path] = _of_link(os.path.join(self._root, path)) or error
            return
        if not stat.S_ISDIR(status.st_mode):
            self._found[path] = status
            yield
            return
        folders = [path]
        for folder in folders:  # a list that is read while it grows
            for entry in self._entries(folder):
                inner = _joined(folder, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(inner)
                elif inner not in self._found:
                    self._found[inner] = _status(entry)
                    yield

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:
                kept = [entry for entry in entries if entry.name != _NOT_CONTENT]
        except NotADirectoryError:
            return []
        except OSError as error:
            self._found[folder] = error
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
