"""orch without the half second that a start costs: a process that has all loaded forks each command. For long loops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.driving import PACKAGE, PATIENCE, Ended, Project, wait_for

_SERVER = """
import csv, ctypes, importlib.metadata, json, os, sys, tempfile, zipfile, zoneinfo
from pathlib import Path
from orchestrator.cli import (
    approve, cancel, checkpoint, main, pause, recover, reject, reset, resume, retry, rollback, run, skip, status,
)
from orchestrator.cli.main import application, main as orch
from orchestrator.config import settings

settings(Path("/nowhere"), {}, {})
application()(["recover", "--help"], standalone_mode=False)
print("ready", flush=True)

def become(told):
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["env"])
    for fd, (name, how) in enumerate(((os.devnull, os.O_RDONLY), (told["out"], os.O_RDWR), (told["err"], os.O_RDWR))):
        opened = os.open(name, how | (os.O_CREAT | os.O_APPEND if fd else 0), 0o600)
        os.dup2(opened, fd)
        os.close(opened)
    sys.argv = ["orch", *told["argv"]]
    orch()

for line in sys.stdin:
    told = json.loads(line)
    if "wait" in told:
        pid, status, used = os.wait4(told["wait"], os.WNOHANG)
        answer = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime] if pid else None
    else:
        answer = os.fork()
        if answer == 0:
            become(told)
    print(json.dumps(answer), flush=True)
"""


class Command:
    """One that runs in the background."""

    def __init__(self, warm: Warm, pid: int, out: Path, err: Path) -> None:
        self._warm, self.pid, self._out, self._err = warm, pid, out, err
        self._code: int | None = None
        self.processor_seconds = 0.0  # without its imports; once it is over

    @property
    def is_over(self) -> bool:
        if self._code is None and (told := self._warm.tell(wait=self.pid)):
            self._code, self.processor_seconds = told
        return self._code is not None

    @property
    def text(self) -> str:
        return self._out.read_text() + self._err.read_text()

    def send(self, number: int) -> None:
        if not self.is_over:  # not reaped until asked: the pid is its own
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = PATIENCE) -> Ended:
        wait_for(lambda: self.is_over, seconds, "it does not end")
        assert self._code is not None
        return Ended(self._code, self._out.read_text(), self._err.read_text())

    def until(self, what: Any, seconds: float = PATIENCE) -> None:
        wait_for(lambda: what() or self.is_over, seconds, self.text)
        assert what(), f"it ended: {self.wait()}"


class Warm:
    def __init__(self) -> None:
        self._count = 0
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": PACKAGE}, cwd="/",
        )  # fmt: skip
        assert self._popen.stdout is not None
        while self._popen.stdout.readline() != "ready\n":  # the help comes before it
            pass

    def start(self, project: Project, *words: str, **env: str) -> Command:
        return self.begin(words, project.root, project.environ(**env), project.scratch)

    def begin(self, words: Sequence[str], cwd: Path, env: Mapping[str, str], scratch: Path) -> Command:
        self._count += 1
        out, err = (scratch / f"{name}-{self._popen.pid}-{self._count}" for name in ("out", "err"))
        out.touch()
        err.touch()
        where = {"cwd": str(cwd), "env": dict(env), "out": str(out), "err": str(err)}
        return Command(self, self.tell(argv=words, **where), out, err)

    def orch(self, project: Project, *words: str, seconds: float = PATIENCE, **env: str) -> Ended:
        return self.start(project, *words, **env).wait(seconds)

    def tell(self, **told: Any) -> Any:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._popen.stdin.write(json.dumps(told) + "\n")
        self._popen.stdin.flush()
        return json.loads(self._popen.stdout.readline())

    def end(self) -> None:
        self._popen.communicate(timeout=PATIENCE)


@pytest.fixture
def warm() -> Iterator[Warm]:
    made = Warm()
    yield made
    made.end()


@pytest.fixture(scope="module")
def kept_warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """The same for all tests of a file, where none of them is about what is left running."""
    made = Warm()
    yield made
    made.end()
