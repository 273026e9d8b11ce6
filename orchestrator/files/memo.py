"""What is known of the content of files: a file whose size, times and inode are as they were is not read again.

A log to which several processes add lines, each with its checksum: a damaged one is a file read once more.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from orchestrator import clock, disk

_FINE, _COARSE = 50_000_000, 2_000_000_000  # nanoseconds within which a second change may leave the time as it is
_SECOND = 1_000_000_000
_SPARE = 1000  # lines that may be superseded before the log is written anew

Mark = tuple[int, int, int, int]


def mark_of(status: os.stat_result) -> Mark:
    """Whoever sets a file's time back cannot set back the time at which that was done."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


class Memo:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[Mark, str]] = {}
        self._fresh: list[bytes] = []
        self._read, self._inode, self._lines = 0, 0, 0
        self.refresh()

    def digest(self, file: str, status: os.stat_result) -> str | None:
        mark, digest = self._known.get(file, (None, None))
        return digest if mark == mark_of(status) else None

    def note(self, file: str, status: os.stat_result, digest: str) -> None:
        """`status`: as it was before the reading and after it."""
        if not _is_settled(status):
            return
        self._known[file] = (mark_of(status), digest)
        self._fresh.append(_line(file, mark_of(status), digest))

    def flush(self) -> None:
        """Without it files are read again: no reason to fail."""
        if not self._fresh:
            return
        data, self._fresh = b"".join(self._fresh), []
        try:
            disk.make_folder(self._path.parent)
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, disk.PRIVATE_FILE)
            try:
                disk.write_all(fd, data)
            finally:
                os.close(fd)
        except OSError:
            return

    def refresh(self) -> None:
        """What others have added meanwhile."""
        try:
            status = os.stat(self._path)
            if status.st_ino != self._inode or status.st_size < self._read:
                self._inode, self._read = status.st_ino, 0
            if status.st_size == self._read:
                return
            data = disk.read(self._path, self._read)
        except OSError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            self._take(line)

    def compact(self) -> None:
        """For who holds the lock: the log without what is superseded, or about files that are not there any more."""
        if self._lines <= 2 * len(self._known) + _SPARE:
            return
        try:
            disk.replace(
                self._path, b"".join(_line(file, *known) for file, known in self._known.items()), durable=False
            )
        except OSError:
            return
        self._lines = len(self._known)

    def _take(self, line: bytes) -> None:
        self._lines += 1
        total, _, rest = line.partition(b" ")
        if total != b"%08x" % zlib.crc32(rest):
            return
        digest, size, changed, touched, inode, file = rest.decode("utf-8", "surrogateescape").split(" ", 5)
        self._known[_unescaped(file)] = ((int(size), int(changed), int(touched), int(inode)), digest)


def _line(file: str, mark: Mark, digest: str) -> bytes:
    rest = " ".join((digest, *map(str, mark), _escaped(file))).encode("utf-8", "surrogateescape")
    return b"%08x %s\n" % (zlib.crc32(rest), rest)


def _escaped(file: str) -> str:
    return file.replace("%", "%25").replace("\n", "%0a").replace("\r", "%0d")


def _unescaped(file: str) -> str:
    return file.replace("%0a", "\n").replace("%0d", "\r").replace("%25", "%")


def _is_settled(status: os.stat_result) -> bool:
    """Would a change from now on show in its time? Some file systems count in seconds."""
    step = _FINE if status.st_mtime_ns % _SECOND else _COARSE
    return clock.now() * _SECOND - status.st_mtime_ns > step
