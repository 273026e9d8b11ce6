"""Durable append, atomic replace: the only module that syncs.

Every write that must survive is finished by a sync of the file and, where a name changed, of its folder. A failed
write or sync is never tried again on the same file: the kernel may have dropped what it could not write.
"""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


def make_folder(path: Path) -> None:
    """`path` and its missing parents, private, their names synced."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            os.mkdir(folder, PRIVATE_FOLDER)
        except FileExistsError:
            continue
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace(path: Path, data: bytes, *, durable: bool) -> None:
    """The file holds the old bytes or the new, at any instant; `durable`: also after power loss."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        write_all(fd, data)
        if durable:
            os.fdatasync(fd)
    except BaseException:
        os.close(fd)
        draft.unlink(missing_ok=True)
        raise
    os.close(fd)
    os.rename(draft, path)
    if durable:
        sync_folder(path.parent)


def remove_drafts(folder: Path) -> None:
    """What a killed writer had not yet renamed; called by the one who may write there."""
    for draft in folder.glob(".*.new"):
        draft.unlink(missing_ok=True)


class Appender:
    """A file that only grows, by whole lines; `append(..., durable=True)` returns once they are on the disk."""

    def __init__(self, path: Path) -> None:
        fresh = not path.exists()
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        self.size = os.fstat(self._fd).st_size
        if fresh:
            sync_folder(path.parent)

    def append(self, data: bytes, *, durable: bool) -> None:
        write_all(self._fd, data)
        self.size += len(data)
        if durable:
            os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def remove(path: Path) -> None:
    """Gone for good; that it was gone already is no fault."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_folder(path.parent)


def file_system(path: Path) -> str:
    """The name of the kind of file system that `path` is on; empty where it cannot be told."""
    try:
        device, mounts = os.stat(path).st_dev, Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    wanted = f" {os.major(device)}:{os.minor(device)} "
    return next((line.partition(" - ")[2].split()[0] for line in mounts if wanted in line), "")
