"""Faults from outside: strace strikes the Nth call of a kind, in the orchestrator or in its agents.

`when=N` of strace counts per process and per call, whatever the call is about. So a traced run first lists which of them
concern system/; a strike is aimed at one of these, and what it really hit is read from the record afterwards.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from orchestrator.bridge import local
from tests.crash.injecting import Done, command
from tests.driving import wait_for

CALLS = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "unlinkat", "mkdir", "rmdir", "truncate",
    "ftruncate", "mknodat",
)  # fmt: skip
ORCHESTRATOR, AGENT = "orchestrator", "agent"
_LINE = re.compile(r"(\d+) +(\w+)\((.*)")


class Call(NamedTuple):
    """One call about system/, so that `strike` can aim at it."""

    name: str
    number: int  # among the calls of that name in that process, from 1
    told: str


class Strike(NamedTuple):
    call: str
    number: int
    how: str  # as strace takes it: signal=KILL, error=EIO

    @property
    def words(self) -> tuple[str, ...]:
        return ("-e", f"inject={self.call}:{self.how}:when={self.number}")


class Struck(NamedTuple):
    done: Done
    calls: list[Call]
    hit: list[Call]  # what was struck, if it was about system/


@pytest.fixture(scope="session")
def strace() -> str:
    """Its path; a machine without it, or that does not let it trace, is no place for these tests."""
    path = shutil.which("strace")
    if path is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run([path, "-qq", "-e", "inject=getpid:retval=7", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.decode().strip()}")
    return path


class Striker:
    """Runs commands under strace. One side is traced: the orchestrator, or all the agents that it starts."""

    def __init__(self, strace: str, scratch: Path, side: str) -> None:
        self._strace, self._scratch, self._side = strace, scratch, side
        self._count = 0
        scratch.mkdir(exist_ok=True)

    def play(
        self, root: Path, *words: str, strike: Strike | None = None, stage: Callable[[], None] = lambda: None
    ) -> Struck:
        self._count += 1
        record = self._scratch / f"record-{self._count}"
        options = ["-A", "-f", "-y", "-s", "100", "-e", f"trace={','.join(CALLS)}", "-o", str(record)]
        options += strike.words if strike is not None else ()
        if self._side == ORCHESTRATOR:
            done = self._attached(root, words, stage, options, record)
        else:
            done = self._wrapped(root, words, stage, options)
        calls, hit = _read(record, str(root / "system"))
        return Struck(done, calls, hit)

    def _attached(
        self, root: Path, words: tuple[str, ...], stage: Callable[[], None], options: list[str], record: Path
    ) -> Done:
        started: list[subprocess.Popen[bytes]] = []

        def attach(pid: int) -> None:
            argv = [
                self._strace,
                *options,
                "-qq",
                "-b",
                "execve",
                "-p",
                str(pid),
            ]  # left alone: whoever becomes another
            started.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            wait_for(lambda: "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text(), why="strace attaches")

        done = command(root, *words, stage=stage, attach=attach)
        for popen in started:
            popen.wait(30)
        return done

    def _wrapped(self, root: Path, words: tuple[str, ...], stage: Callable[[], None], options: list[str]) -> Done:
        """Its agents are started by strace, which is then a process beside them: their pids stay their own."""
        python = self._scratch / f"python-{self._count}"
        quoted = " ".join(f"'{word}'" for word in [self._strace, "-D", "-qq", *options, sys.executable])
        python.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
        python.chmod(0o755)

        def staged() -> None:
            stage()
            local.sys = SimpleNamespace(executable=str(python))  # type: ignore[attr-defined]

        return command(root, *words, stage=staged)


def _read(record: Path, system: str) -> tuple[list[Call], list[Call]]:
    counts, calls, hit = Counter[Any](), list[Call](), list[Call]()
    last: dict[str, Call | None] = {}
    for line in record.read_text(errors="replace").splitlines() if record.exists() else ():
        if "+++ killed by SIGKILL +++" in line and (call := last.get(line.split()[0])) is not None:
            hit.append(call)
        found = _LINE.match(line)
        if found is None:
            continue
        pid, name, told = found.groups()
        counts[pid, name] += 1
        call = Call(name, counts[pid, name], told[:200])
        last[pid] = call if system in told and (name != "openat" or "O_CREAT" in told) else None
        if last[pid] is not None:
            calls.append(call)
            if "(INJECTED)" in told:
                hit.append(call)
    return calls, hit
