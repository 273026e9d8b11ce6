"""What a power cut does to a folder: of what was not synced anything may be there, in any order, in part, or as zeros.

Small, because it knows only what each sync made safe, and draws the rest when the power goes.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from itertools import takewhile
from pathlib import Path

ABSENT = -1  # no such name


class Power:
    def __init__(self, folder: Path, dice: random.Random) -> None:
        self._folder, self._dice = folder, dice
        self._data: dict[int, bytes] = {}  # inode -> what is safe of it
        self._hoped: dict[int, bytes] = {}  # inode -> what stood in it when its name became safe
        self._names: dict[Path, dict[str, int]] = {}  # folder -> its names that are safe
        self.lost = 0  # files and names that a cut has taken back, or torn

    def synced(self, path: str) -> None:
        where = Path(path)
        if where.is_dir():
            self._names[where] = self._inodes(where)
            for name, inode in self._names[where].items():
                if inode not in self._data and (where / name).is_file():
                    self._hoped[inode] = (where / name).read_bytes()
        elif where.exists():
            self._data[where.stat().st_ino] = where.read_bytes()

    def cut(self) -> None:
        """The folder becomes what a disk could hold after it."""
        found: dict[Path, bytes | None] = {}  # None: a folder
        self._draw(self._folder, found)
        for entry in os.scandir(self._folder):
            shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
        for path, data in found.items():
            if data is None:
                path.mkdir(mode=0o700)
            else:
                path.write_bytes(data)
        self._data.clear()
        self._hoped.clear()
        self._names.clear()
        for folder in (self._folder, *(path for path, data in found.items() if data is None)):
            self._names[folder] = self._inodes(folder)
        for path, data in found.items():
            if data is not None:
                self._data[path.stat().st_ino] = data

    def _draw(self, folder: Path, found: dict[Path, bytes | None]) -> None:
        safe, now = self._names.get(folder, {}), self._inodes(folder)
        for name in sorted({*safe, *now}):
            before, after = safe.get(name, ABSENT), now.get(name, ABSENT)
            inode = after if before == after or self._dice.random() < 0.5 else before
            self.lost += inode != after
            if inode == ABSENT:
                continue
            path = folder / name
            if path.is_dir() or path in self._names:
                found[path] = None
                self._draw(path, found)
            else:
                found[path] = self._content(inode, path if inode == after else None)

    def _content(self, inode: int, path: Path | None) -> bytes:
        safe = self._data.get(inode)
        now = path.read_bytes() if path is not None else self._hoped.get(inode, safe or b"")
        if safe == now:
            return now
        self.lost += 1
        same = (before == after for before, after in zip(safe or b"", now, strict=False))
        keeps = sum(takewhile(bool, same))  # what was synced, and not touched since, stays
        kind, until = self._dice.randrange(4), self._dice.randint(keeps, len(now))
        if kind == 0:
            return now
        if kind == 1 and (safe is not None or path is not None):
            return safe or b""
        return now[:until] + (bytes(len(now) - until) if kind == 2 else b"")

    def _inodes(self, folder: Path) -> dict[str, int]:
        if not folder.is_dir():
            return {}
        plain = (stat.S_IFREG, stat.S_IFDIR)
        there = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(folder)]
        return {name: found.st_ino for name, found in there if stat.S_IFMT(found.st_mode) in plain}
