"""Faults at the Nth operation on a folder: the real command line in a child of its own, its calls of `os` counted.

The child is forked, so that a command costs milliseconds and not the start of a Python; what it does to files is real,
and a kill is a kill. Only the agent is played (`tests.crash.instant`), else each run would start three processes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import io
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from typer.main import get_command

from orchestrator.cli import main as orch

KILL, SHORT = "KILL", "SHORT"
# Each has its path, or its descriptor, as the first argument.
CALLS = (
    "open", "write", "pwrite", "fsync", "fdatasync", "rename", "unlink", "mkdir", "rmdir", "truncate", "ftruncate",
    "mkfifo", "link",
)  # fmt: skip
SYNCS = ("fsync", "fdatasync")
ROOM = 1024 * 1024  # bytes that a command may say
HARMLESS = ("logs/structured_execution.jsonl", "logs/orchestrator.log", "cache")  # the run goes on without them
PATIENCE = 30  # seconds that a command may take

commands = import_module("orchestrator.cli.commands")
# Built and loaded here, once, and not in every child.
BUILT: Any = get_command(commands.application())
for name in ("run", "status", "recover", "cancel", "retry", "checkpoint", "rollback"):
    BUILT.get_command(None, name)
for name in ("ctypes", "typer._adapters", "orchestrator.cli.showing", "orchestrator.cli.running"):
    with contextlib.suppress(ImportError):
        import_module(name)


class Point(NamedTuple):
    """One operation on the folder."""

    call: str
    path: str  # in the folder

    def __str__(self) -> str:
        return f"{self.call} {self.path}"


class Fault(NamedTuple):
    """What happens at the operation with that number (from 0); `lasts`: and at each one after it that would write."""

    at: int
    kind: str  # KILL, SHORT (a write of one half, and no room after it), or the name of an error
    lasts: bool = False


class Done(NamedTuple):
    """How a command ended, what it had done to the folder until then, and what the fault hit."""

    code: int
    out: str
    err: str
    points: list[Point]
    fired: Point | None
    after: Any = None  # what `at_fault` said when the first thing that matters was refused

    @property
    def text(self) -> str:
        return self.out + self.err


class Meddler:
    """Stands between this process and `os`: for a child that ends, as nothing is put back."""

    def __init__(self, folder: Path, fault: Fault | None, at_fault: Callable[[], Any] = lambda: None) -> None:
        self._folder, self._fault, self._at_fault = f"{folder}/", fault, at_fault
        self.points: list[Point] = []
        self.fired: Point | None = None
        self.after: Any = None
        self._lasts = False

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self._between(name, getattr(os, name)))

    def _between(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *others: Any, **named: Any) -> Any:
            path = self._path(target, named)
            if (
                path is None
                or (name == "open" and not _makes(others, named))
                or (name == "mkdir" and _is_there(target))
            ):
                return real(target, *others, **named)
            point = Point(name, path)
            self.points.append(point)
            fault = self._fault
            if fault is not None and self.fired is None and len(self.points) - 1 == fault.at:
                self._fire(point, fault)
                if fault.kind == SHORT and name in ("write", "pwrite"):
                    return real(target, bytes(others[0])[: len(others[0]) // 2], *others[1:])
                self._refuse(point, target, fault)
            if self._lasts and fault is not None and name not in ("unlink", "rmdir"):
                self._refuse(point, target, fault)
            return real(target, *others, **named)

        return call

    def _fire(self, point: Point, fault: Fault) -> None:
        if fault.kind == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        self.fired = point
        self._lasts = fault.lasts or fault.kind == SHORT

    def _refuse(self, point: Point, target: Any, fault: Fault) -> NoReturn:
        """As the system does it: who has no path in their call has none in the error."""
        if self.after is None and not point.path.startswith(HARMLESS):
            self.after = self._at_fault()
        number = errno.ENOSPC if fault.kind == SHORT else getattr(errno, fault.kind)
        if isinstance(target, int):
            raise OSError(number, os.strerror(number))
        raise OSError(number, os.strerror(number), os.fspath(target))

    def _path(self, target: Any, named: dict[str, Any]) -> str | None:
        path = _of_descriptor(target) if isinstance(target, int) else os.fspath(target)
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if named.get("dir_fd") is not None:
            path = f"{_of_descriptor(named['dir_fd'])}/{path}"
        path = os.path.abspath(path) + ("/" if path == self._folder[:-1] else "")
        return path[len(self._folder) :] or "." if path.startswith(self._folder) else None


def _makes(others: tuple[Any, ...], named: dict[str, Any]) -> bool:
    return bool((others[0] if others else named.get("flags", 0)) & os.O_CREAT)


def _is_there(target: Any) -> bool:
    """Made again: the system says so, before it would write anything."""
    return os.path.isdir(target)


def _of_descriptor(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def command(
    root: Path, *words: str, fault: Fault | None = None, stage: Callable[[], None] = lambda: None,
    at_fault: Callable[[], Any] = lambda: None, attach: Callable[[int], None] | None = None, of: str = "system",
) -> Done:  # fmt: skip
    """`orch WORDS` in the project `root`, in a child; `stage` prepares it before anything is counted.

    `attach` is called with its pid before it does anything at all; `of`: the folder whose operations are counted.
    """
    pipes = [_pipe() for _ in range(3)]  # no limit of a file's size holds for these
    gate = os.pipe()
    pid = os.fork()
    if not pid:
        os.read(gate[0], 1)
        _be(root, words, [end for _, end in pipes], stage, Meddler(root / of, fault, at_fault))
    try:
        if attach is not None:
            attach(pid)
    finally:
        os.write(gate[1], b".")
        for end in gate:
            os.close(end)
    code = _wait(pid)
    texts = [_text(*pipe) for pipe in pipes]
    document = json.loads(texts[2] or '{"points": [], "fired": null, "after": null}')
    fired = Point(*document["fired"]) if document["fired"] else None
    if code == -signal.SIGKILL and fault is not None and fault.kind == KILL:
        fired = Point("killed", str(fault.at))
    return Done(code, texts[0], texts[1], [Point(*one) for one in document["points"]], fired, document["after"])


def _be(root: Path, words: tuple[str, ...], fds: list[int], stage: Callable[[], None], meddler: Meddler) -> NoReturn:
    code = 99
    try:
        gc.disable()  # it would touch, and so copy, all the memory of the parent
        commands.application = lambda: BUILT
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(fds[0], 1)
        os.dup2(fds[1], 2)
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(fd, "w"), write_through=True) for fd in (1, 2))
        sys.argv = ["orch", *words]
        os.chdir(root)
        stage()
        meddler.install()
        try:
            orch()
        except SystemExit as end:
            code = int(end.code or 0)
    except BaseException:
        os.write(fds[1], traceback.format_exc().encode())
    finally:
        try:
            told = {"points": meddler.points, "fired": meddler.fired, "after": meddler.after}
            os.write(fds[2], json.dumps(told).encode())
        finally:
            os._exit(code)  # whatever happens: this is not the process that goes on with the test


def _wait(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, ROOM)
    return reading, writing


def _text(reading: int, writing: int) -> str:
    os.close(writing)
    with open(reading, "rb") as file:
        return file.read().decode()


def spread(total: int, wanted: int, offset: int = 0) -> list[int]:
    """`wanted` numbers below `total`, evenly; all of them where there are no more."""
    if wanted >= total:
        return list(range(total))
    return sorted({(offset + index * total // wanted) % total for index in range(wanted)})


def in_time(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() < until
