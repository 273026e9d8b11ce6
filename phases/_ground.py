"""What several phases of the ground share: a folder to try things in, a process to try things with, figures of samples.

Not a phase itself: files in phases/ whose names begin with "_" are for the others to import.
"""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator import ConfigurationFault, Context, PermissionFault, PhaseError, Resource, TimeoutFault, process

Say = Callable[[object], None]


# A folder to try things in


@contextmanager
def scratch(ctx: Context) -> Iterator[Path]:
    """A folder in system/, so that what is tried is tried on the project's disk; gone afterwards, whatever happens."""
    system = ctx.path("system")
    prefix = f".ground{ctx.phase}-"
    for forgotten in system.glob(f"{prefix}*"):  # of an attempt that was killed with -9
        remove(forgotten)
    before = signal.signal(signal.SIGTERM, _leave)
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=system))
        yield folder
    except OSError as error:
        raise fault_of(error, system) from error
    finally:
        if folder:
            remove(folder)
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, frame: object) -> None:
    """Being asked to end, end by way of every `finally`."""
    sys.exit(128 + number)


def remove(folder: Path) -> None:
    """A process that is just leaving may still write there: then again."""
    for _ in range(40):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


def fault_of(error: OSError, folder: Path) -> PhaseError:
    """What a refusal of the system means for whoever runs the pipeline."""
    where, why = error.filename or folder, error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Resource(f"{where}: {why}: free space for {folder}, then `orch run`")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionFault(f"{where}: {why}: make {folder} writable for user {os.geteuid()}, then `orch run`")
    return ConfigurationFault(f"{where}: {why}: {folder} must be a folder on a disk of this machine")


# A process to try things with


class Child:
    """A fork of this process, with a pipe on which it says things, one JSON value a line."""

    def __init__(self, work: Callable[[Say], object]) -> None:
        self._fd, said = os.pipe()
        self._heard = b""
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _work_and_exit(work, said, parent)
        os.close(said)
        self._end = os.pidfd_open(self.pid)

    def hear(self, patience: float = 10.0) -> Any:
        """The next thing it says; None if it ended without another word."""
        until = time.monotonic() + patience
        while b"\n" not in self._heard:
            chunk = self._listen(max(0.0, until - time.monotonic()))
            if chunk is None:
                raise TimeoutFault(f"a process that was started for a trial said nothing for {patience:g} s")
            if not chunk:
                return None
            self._heard += chunk
        line, _, self._heard = self._heard.partition(b"\n")
        return json.loads(line)

    def _listen(self, patience: float) -> bytes | None:
        """Nothing (b"") when it is over, also where a child of its own still holds the pipe; None when time is up."""
        poll = select.poll()
        for fd in (self._fd, self._end):
            poll.register(fd, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(patience * 1000)]
        if self._fd in ready:
            return os.read(self._fd, 65536)
        return b"" if ready else None

    def kill(self) -> None:
        """SIGKILL to it and to everything that it started; returns when it is gone."""
        for pid in (self.pid, *process.descendants(self.pid)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.wait()

    def wait(self) -> None:
        if self.pid:
            os.waitpid(self.pid, 0)
            self.pid = 0

    def close(self) -> None:
        if self.pid:
            self.kill()
        os.close(self._fd)
        os.close(self._end)


@contextmanager
def child(work: Callable[[Say], object]) -> Iterator[Child]:
    """`work` in a process of its own, which is gone at the end of the block, whatever happens in it."""
    started = Child(work)
    try:
        yield started
    finally:
        started.close()


def _work_and_exit(work: Callable[[Say], object], said: int, parent: int) -> None:
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        process.die_with_parent(parent)
        work(lambda thing: _say(said, thing))
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _say(fd: int, thing: object) -> None:
    os.write(fd, json.dumps(thing).encode() + b"\n")


# Figures


def spread(name: str, seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile, in milliseconds."""
    ranked = sorted(seconds)
    p95 = ranked[min(len(ranked) - 1, int(len(ranked) * 0.95))]
    return {f"{name}_median_ms": milliseconds(statistics.median(ranked)), f"{name}_p95_ms": milliseconds(p95)}


def milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def sampled(action: Callable[[], object], times: int, at_most_seconds: float = 1.0) -> list[float]:
    """How long `action` takes, each time; a slow disk is measured less often."""
    samples: list[float] = []
    began = time.perf_counter()
    while len(samples) < times and (not samples or time.perf_counter() - began < at_most_seconds):
        start = time.perf_counter()
        action()
        samples.append(time.perf_counter() - start)
    return samples


def environment() -> dict[str, str]:
    """Ours, but for what is said about this attempt; and this very orch, from wherever it was imported."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ORCH_") and name != "TRACEPARENT"}
    home = str(Path(orchestrator.__file__).resolve().parents[1])
    return {**own, "PYTHONPATH": os.pathsep.join(filter(None, (home, own.get("PYTHONPATH", ""))))}
