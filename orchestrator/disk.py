"""Durable append, atomic replace: the only module that syncs.

Every write that must survive is finished by a sync of the file and, where a name changed, of its folder. A failed
write or sync is never tried again on the same file: the kernel may have dropped what it could not write.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import math
import os
import stat
from collections.abc import Generator, Iterable
from pathlib import Path

from orchestrator.errors import StateUnwritable

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


def make_folder(path: Path, *, durable: bool = True) -> None:
    """`path` and its missing parents, private; `durable`: their names synced."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            os.mkdir(folder, PRIVATE_FOLDER)
        except FileExistsError:
            if not folder.is_dir():
                raise
            continue
        try:
            if durable:
                sync_folder(folder.parent)
        except OSError:
            os.rmdir(folder)  # else the next call would take it for one whose name is safe
            raise


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


def replace(path: Path, data: bytes | Iterable[bytes], *, durable: bool) -> None:
    """The file holds the old bytes or the new, at any instant; `durable`: also after power loss."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        for piece in [data] if isinstance(data, bytes) else data:
            write_all(fd, piece)
        if durable:
            os.fdatasync(fd)
    except BaseException:
        os.close(fd)
        draft.unlink(missing_ok=True)
        raise
    os.close(fd)
    try:
        os.rename(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def install(fd: int, draft: Path, path: Path) -> None:
    """What was written to the draft has that name from now on, also after power loss."""
    os.fsync(fd)
    os.rename(draft, path)
    sync_folder(path.parent)


def read(path: Path, offset: int = 0, most: int = -1) -> bytes:
    """What a file holds; an OSError says so where something else has its name: opening a pipe would wait for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    kind = kind_of(os.fstat(fd).st_mode)
    if kind != FILE:
        os.close(fd)
        raise OSError(errno.EINVAL, f"{kind} stands where a file should", str(path))
    with open(fd, "rb") as file:
        file.seek(offset)
        return file.read(most)


def kind_of(mode: int) -> str:
    return next((name for kind, name in _KINDS.items() if stat.S_IFMT(mode) == kind), "a device")


FILE, FOLDER, PIPE, SOCKET, LINK = "a file", "a folder", "a named pipe", "a socket", "a symbolic link"
_KINDS = {
    stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, stat.S_IFIFO: PIPE, stat.S_IFSOCK: SOCKET, stat.S_IFLNK: LINK,
}  # fmt: skip


def remove_drafts(folder: Path, before: float = math.inf) -> None:
    """What a killed writer had not yet renamed; where others may be writing just now, only what is older than that."""
    for draft in folder.glob(".*.new"):
        try:
            if draft.stat().st_mtime < before:
                draft.unlink()
        except FileNotFoundError:
            continue  # renamed by now


PIECE = 4 * 1024 * 1024
_CLONE = 0x40049409  # FICLONE: both share what is in them until one of them is written to


def copy(
    source: Path, target: Path, *, mode: int = PRIVATE_FILE, mtime_ns: int | None = None
) -> Generator[None, None, str]:
    """A new file of its own, on the disk when this ends; in pieces, between which others may go on. Returns its digest.

    What was digested is what is in the copy. A source that is no file is an OSError.
    """
    read = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if (kind := kind_of(os.fstat(read).st_mode)) != FILE:
            raise OSError(errno.EINVAL, f"{kind} stands where a file should", str(source))
        made = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            total = yield from _filled(read, made)
            if mtime_ns is not None:
                os.fchmod(made, mode)
                os.utime(made, ns=(mtime_ns, mtime_ns))
            os.fsync(made)
        except BaseException:
            os.unlink(target)
            raise
        finally:
            os.close(made)
    finally:
        os.close(read)
    return total


def _filled(source: int, target: int) -> Generator[None, None, str]:
    digest, is_clone = hashlib.sha256(), clone(source, target)
    while piece := os.read(target if is_clone else source, PIECE):
        digest.update(piece)
        if not is_clone:
            write_all(target, piece)
        yield
    return digest.hexdigest()


def digest(source: Path) -> Generator[None, None, str]:
    """Of what is in a file, in pieces."""
    total = hashlib.sha256()
    with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        while piece := file.read(PIECE):
            total.update(piece)
            yield
    return total.hexdigest()


def clone(source: int, target: int) -> bool:
    """Where the file system can: a copy that takes neither time nor room."""
    try:
        fcntl.ioctl(target, _CLONE, source)
    except OSError:
        return False
    return True


def can_clone(source: Path, folder: Path) -> bool:
    """Would a copy of `source` take room there?"""
    try:
        with open(source, "rb") as read, open(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC), "rb+") as draft:
            return clone(read.fileno(), draft.fileno())
    except OSError:
        return False


def room(folder: Path) -> int:
    """Bytes that may still be written there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


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


def confirm(path: Path) -> None:
    """The last line and the file's name are on the disk from now on, whoever wrote them.

    The line is written again: a sync alone may say yes to what one that failed has dropped.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        data = os.pread(fd, os.fstat(fd).st_size, 0)
        start = data.rfind(b"\n", 0, max(0, len(data) - 1)) + 1
        while start < len(data):
            start += os.pwrite(fd, data[start:], start)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Gone for good; that it was gone already is no fault."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    sync_folder(path.parent)


def cut(path: Path, size: int) -> None:
    """The file ends there, also after power loss."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size > size:
            os.ftruncate(fd, size)
            os.fsync(fd)
    finally:
        os.close(fd)


def drop(path: Path) -> None:
    """Whatever has that name is gone, a folder with all in it; that it was gone already is no fault."""
    if path.is_dir() and not path.is_symlink():
        import shutil  # most processes drop no folder

        shutil.rmtree(path)
        sync_folder(path.parent)
    elif os.path.lexists(path):
        remove(path)


def unwritable(error: OSError, path: Path) -> StateUnwritable:
    """The system's refusal as ours: what could not be written, why, and what to do."""
    what = f"the state could not be written: {error.filename or path}: {error.strerror or error}"
    if isinstance(error, PermissionError):
        return StateUnwritable(what, "run it as the account that the project belongs to")
    return StateUnwritable(
        what,
        "free space or make it writable, then `orch run`: it goes on from the last decision that was written; "
        "attempts that are running go on with their agent",
    )


def file_system(path: Path) -> str:
    """The name of the kind of file system that `path` is on; empty where it cannot be told."""
    try:
        device, mounts = os.stat(path).st_dev, Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    wanted = f" {os.major(device)}:{os.minor(device)} "
    return next((line.partition(" - ")[2].split()[0] for line in mounts if wanted in line), "")
