"""One whole process as its caller sees it: wall time until it returns, and what it and all below it used.

What a command leaves behind (as orch its agent, for a moment) is adopted here, waited for, and counted too.
"""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 20.0  # seconds for what a command has left behind
KILLED = -9
MEBIBYTE = 1024 * 1024
# What makes a Python start slowly, or another one than elsewhere.
_NOT_HANDED_ON = ("PYTHON", "ORCH_", "VIRTUAL_ENV")


class Run(NamedTuple):
    code: int
    wall: float  # seconds until the command itself returned
    processor: float  # seconds of it and of all that it started
    written: int  # bytes handed to write calls, by all
    together: float  # MiB of all processes at once, memory that is shared counted once; 0 where nobody looked
    said: str  # the end of its standard error


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_HANDED_ON)}
    return {**kept, **more}


def measured(
    argv: Sequence[str], folder: Path, environ: Mapping[str, str], limit: float = 120.0, look_each: float = 0.0
) -> Run:
    """`look_each`: seconds between two looks at the memory. What is over the limit is killed, and its code says so."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    with tempfile.TemporaryFile() as said:
        found = _Watched(argv, folder, environ, said.fileno()).until_over(limit, look_each)
        said.seek(0, os.SEEK_END)
        said.seek(max(0, said.tell() - 2000))
        return found._replace(said=said.read().decode(errors="replace"))


class _Watched:
    def __init__(self, argv: Sequence[str], folder: Path, environ: Mapping[str, str], said: int) -> None:
        outputs = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, said, 2),
        ]
        here = os.getcwd()
        os.chdir(folder)
        try:
            self._begun = time.monotonic()
            self._pid = os.posix_spawnp(argv[0], list(argv), environ, file_actions=outputs, setsigmask=[], setsid=True)
        finally:
            os.chdir(here)
        self._run = Run(KILLED, 0.0, 0.0, 0, 0.0, "")

    def until_over(self, limit: float, look_each: float) -> Run:
        end = self._begun + limit
        while (is_left := self._reap()) is not None:
            if is_left:
                end = min(end, time.monotonic() + PATIENCE)
            if time.monotonic() > end:
                for pid in below(os.getpid()):
                    os.kill(pid, signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, look_each or 0.5)
            if look_each:
                self._run = self._run._replace(together=max(self._run.together, _together()))
        return self._run

    def _reap(self) -> bool | None:
        """Whether the command itself is over by now; None: so is all that it left."""
        is_over = False
        try:
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                now, written = time.monotonic(), _written(ended.si_pid)
                pid, status, used = os.wait4(ended.si_pid, 0)
                run = self._run
                self._run = run = run._replace(
                    processor=run.processor + used.ru_utime + used.ru_stime, written=run.written + written,
                )  # fmt: skip
                if pid == self._pid:
                    is_over = True
                    self._run = run._replace(code=os.waitstatus_to_exitcode(status), wall=now - self._begun)
        except ChildProcessError:
            return None
        return is_over


def _written(pid: int) -> int:
    """Of a process that has ended, with what it had taken over from its children; asked before it is reaped."""
    fields = dict(line.split(": ") for line in _read(f"/proc/{pid}/io").splitlines())
    return int(fields.get("wchar", 0))


def below(root: int) -> list[int]:
    """All descendants of a process."""
    parents = dict[int, int]()
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _read(f"/proc/{name}/stat").rpartition(")")[2].split()):
            parents[int(name)] = int(fields[1])
    found, edge = list[int](), {root}
    while edge := {pid for pid, parent in parents.items() if parent in edge}:
        found += edge
    return found


def _together() -> float:
    kilobytes = 0
    for pid in below(os.getpid()):
        if "strace" not in _read(f"/proc/{pid}/comm"):
            lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()
            kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", errors="replace")
    except OSError:  # it has gone meanwhile
        return ""
