"""Logs that nobody writes to any more: compressed in pieces, between which the loop goes round, and removed in time.

A file is there in one form or the other: what was compressed is on the disk, under its name, before the plain one goes;
cut off in between it is done again.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from orchestrator import clock, disk
from orchestrator.core.names import epoch

Work = Generator[None, None, None]

AT_ONCE = 0.01  # seconds that it may take before the loop has its turn
PIECE = 256 * 1024
EVERY = 3600.0  # seconds between two looks at all of it
KEPT = 3  # older files beside a log that is rotated here
OPEN_BYTES = 1024 * 1024  # of a log that others have open as their standard output or error
GZIP = 31  # what zlib calls its format
_OF_SENDER = "notify.log"
_MARK = ".archived"  # its time is that of the last look
_OF_PHASE = re.compile(r"(\d+)\.log(?:\.\d+)?(\.gz)?")  # 3.log, 3.log.1, 3.log.1.gz
_ROTATED = re.compile(r"(.+)\.(\d+)(\.gz)?")
_KIND = re.compile(r"(?:fault_.*\.txt|.*\.(?:log|jsonl)\.\d+(?:\.gz)?)")


class Rotated(NamedTuple):
    path: Path
    log: str  # the name of what it was
    number: int
    is_compressed: bool


class Archive:
    """`live`: (phase, attempt) of what may still be written to, as its file is named."""

    def __init__(self, logs: Path, max_age: float, live: Callable[[], set[tuple[str, str]]]) -> None:
        self._logs, self._max_age, self._live = logs, max_age, live
        self._jobs = deque[Work]()
        self._due = clock.ticking() + _seconds_until_due(logs / _MARK)

    def tend(self) -> float:
        """Called each time round; returns the seconds until it wants to go on."""
        until = clock.ticking() + AT_ONCE
        if not self._jobs and until >= self._due:
            self._due = until + EVERY
            self._jobs.append(self._look())
        while self._jobs and clock.ticking() < until:
            try:
                next(self._jobs[0])
            except (StopIteration, OSError):  # what fails now is looked at again in an hour
                self._jobs.popleft()
        return 0.0 if self._jobs else max(0.0, self._due - clock.ticking())

    def compress(self, path: Path) -> None:
        """A file that was rotated just now."""
        self._jobs.append(compressed(path))

    def close(self) -> None:
        while self._jobs:
            self._jobs.popleft().close()

    def _look(self) -> Work:
        disk.remove_drafts(self._logs, clock.now() - EVERY)
        for name in ("orchestrator.log", "structured_execution.jsonl"):
            _rotate_if_old(self._logs / name, clock.now() - self._max_age)
        for path in [*sorted(self._logs.glob("cron/*.log")), self._logs / _OF_SENDER]:
            if path.exists() and path.stat().st_size > OPEN_BYTES:
                rotate(path)
        for folder in (self._logs, self._logs / "cron"):
            yield from self._tidy(folder)
        for entry in _entries(self._logs / "phases"):
            yield
            yield from self._tidy_phase(Path(entry.path))
        (self._logs / _MARK).touch(disk.PRIVATE_FILE)

    def _tidy(self, folder: Path) -> Work:
        """Rotated files. What others have open is written to until they end: the newest of these stays plain."""
        for entry in _entries(folder):
            found = rotated(Path(entry.path))
            if _KIND.fullmatch(entry.name) and self._is_old(entry):
                disk.remove(Path(entry.path))
            elif found and not found.is_compressed and (found.number > 1 or not _is_held_open(folder, found)):
                yield from compressed(found.path)

    def _tidy_phase(self, folder: Path) -> Work:
        for entry in _entries(folder):
            match = _OF_PHASE.fullmatch(entry.name)
            if match is None or (folder.name, match[1]) in self._live():
                continue
            if self._is_old(entry):
                disk.remove(Path(entry.path))
            elif match[2] is None and rotated(Path(entry.path)):
                yield from compressed(Path(entry.path))

    def _is_old(self, entry: os.DirEntry[str]) -> bool:
        try:
            return entry.stat(follow_symlinks=False).st_mtime < clock.now() - self._max_age
        except FileNotFoundError:
            return False


def _is_held_open(folder: Path, found: Rotated) -> bool:
    return folder.name == "cron" or found.log == _OF_SENDER


def rotated(path: Path) -> Rotated | None:
    match = _ROTATED.fullmatch(path.name)
    return Rotated(path, match[1], int(match[2]), match[3] is not None) if match else None


def parts(path: Path) -> list[Path]:
    """A log with what was rotated out of it, the oldest first; of each part the form that is whole for certain."""
    found: dict[int, Path] = {}
    for entry in _entries(path.parent):
        one = rotated(Path(entry.path))
        if one is not None and one.log == path.name and not (one.is_compressed and one.number in found):
            found[one.number] = one.path
    return [*(found[number] for number in sorted(found, reverse=True)), path]


def rotate(path: Path) -> Path:
    """It becomes number 1, and each older file one more; returns what is to be compressed."""
    for number in range(KEPT, 0, -1):
        plain, packed = _numbered(path, number)
        if plain.exists() or number == KEPT:
            packed.unlink(missing_ok=True)  # of two forms the plain one is whole, and will be compressed again
        for one, following in zip((plain, packed), _numbered(path, number + 1), strict=True):
            if number == KEPT:
                one.unlink(missing_ok=True)
            elif one.exists():
                one.rename(following)
    path.rename(first := _numbered(path, 1)[0])
    return first


def _numbered(path: Path, number: int) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}.{number}"), path.with_name(f"{path.name}.{number}.gz")


def compressed(path: Path) -> Work:
    """`path` becomes `path`.gz, as old as it was."""
    draft = path.with_name(f".{path.name}.gz.{os.getpid()}.new")
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as source:
        was = os.fstat(source.fileno())
        if disk.kind_of(was.st_mode) != disk.FILE:
            return
        target = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, disk.PRIVATE_FILE)
        try:
            yield from _filled(source, target)
            os.utime(target, ns=(was.st_atime_ns, was.st_mtime_ns))
            if _is_still(path, was):
                disk.install(target, draft, path.with_name(f"{path.name}.gz"))
                disk.remove(path)
        finally:
            os.close(target)
            draft.unlink(missing_ok=True)


def _filled(source: FileIO, target: int) -> Work:
    packer = zlib.compressobj(6, zlib.DEFLATED, GZIP)
    while data := source.read(PIECE):
        disk.write_all(target, packer.compress(data))
        yield
    disk.write_all(target, packer.flush())


def _is_still(path: Path, was: os.stat_result) -> bool:
    """Nobody has moved it, or written to it, meanwhile: then the next look begins anew."""
    try:
        now = os.stat(path)
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino, now.st_size) == (was.st_dev, was.st_ino, was.st_size)


def opened(path: Path) -> Iterator[bytes]:
    """What is in a log, compressed or not, in pieces; of what is damaged the part before the damage."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
        if path.suffix != ".gz":
            while data := file.read(PIECE):
                yield data
            return
        unpacker = zlib.decompressobj(GZIP)
        try:
            while data := file.read(PIECE):
                while data:
                    yield unpacker.decompress(data)
                    data = unpacker.unused_data
                    if unpacker.eof:  # others append one compressed file to another
                        unpacker = zlib.decompressobj(GZIP)
        except zlib.error:
            return


def _rotate_if_old(path: Path, before: float) -> None:
    """By its first line, which begins with its time."""
    try:
        begun = _begun(disk.read(path, most=200))
    except OSError:
        return
    if begun is not None and begun < before:
        rotate(path)


def _begun(data: bytes) -> float | None:
    match = _TIME.search(data)
    try:
        return epoch(match[0].decode()) if match else None
    except ValueError:
        return None


_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError:
        return []


def _seconds_until_due(mark: Path) -> float:
    try:
        since = clock.now() - mark.stat().st_mtime
    except OSError:
        return 0.0
    return EVERY - since if 0 <= since < EVERY else 0.0
