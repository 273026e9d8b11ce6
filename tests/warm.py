"""orch without the half second that a start costs: a process that has all loaded forks each command."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orchestrator

PACKAGE = str(Path(orchestrator.__file__).resolve().parents[1])

_SERVER = """
import atexit, csv, ctypes, gc, importlib.metadata, json, os, sys, tempfile, threading, zipfile, zoneinfo
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from orchestrator import cli
from orchestrator.cli.commands import application
from orchestrator.cli.main import main as orch
from orchestrator.config import settings

for module in iter_modules(cli.__path__):
    if not module.name.startswith("__"):
        import_module(f"orchestrator.cli.{module.name}")
settings(Path("/nowhere"), {}, {})
application()(["recover", "--help"], standalone_mode=False)
gc.collect()
gc.freeze()  # whoever collects in a child would touch, and so copy, all of this
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
    try:
        orch()
    except SystemExit as end:
        leave(end.code)

def leave(code):
    "Without taking to pieces what was loaded before the fork: that costs more than most commands do."
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)

for line in sys.stdin:
    told = json.loads(line)
    if "wait" in told:
        pid, status, used = os.wait4(told["wait"], os.WNOHANG)
        answer = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime] if pid else None
    else:
        answer = os.fork()
        if answer == 0:
            become(told)
    print(json.dumps([told["number"], answer]), flush=True)
"""


class Forked:
    """A command that was forked, as a Popen: its pid is its own until somebody has asked how it ended."""

    def __init__(self, warm: Warm, pid: int) -> None:
        self._warm, self.pid = warm, pid
        self.returncode: int | None = None
        self.processor_seconds = 0.0  # without its imports; once it is over

    def poll(self) -> int | None:
        if self.returncode is None and (told := self._warm.ask(wait=self.pid)):
            self.returncode, self.processor_seconds = told
        return self.returncode

    def wait(self, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("orch", timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(9)


class Warm:
    def __init__(self) -> None:
        self._count, self._turn = 0, threading.Lock()
        self._popen = subprocess.Popen(
            [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": PACKAGE}, cwd="/",
        )  # fmt: skip
        assert self._popen.stdout is not None
        while self._popen.stdout.readline() != "ready\n":  # the help comes before it
            pass
        atexit.register(self.close)

    def close(self) -> None:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        try:
            self._popen.stdin.close()
        except BrokenPipeError:  # it was ended before us
            pass
        self._popen.wait(30)
        self._popen.stdout.close()

    @property
    def is_over(self) -> bool:
        return self._popen.poll() is not None

    def fork(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str], out: Path, err: Path) -> Forked:
        return Forked(self, self.ask(argv=argv, cwd=str(cwd), env=dict(env), out=str(out), err=str(err)))

    def ask(self, **told: Any) -> Any:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        with self._turn:
            self._count += 1
            self._popen.stdin.write(json.dumps({**told, "number": self._count}) + "\n")
            self._popen.stdin.flush()
            while True:  # a test whose time was over may have left without its answer
                number, answer = json.loads(self._popen.stdout.readline())
                if number == self._count:
                    return answer


_WARM: list[Warm] = []


def warm() -> Warm:
    """One for all tests of this process, and it ends with it. Or before: a bridge under test ends whom it inherits."""
    if not _WARM or _WARM[-1].is_over:
        _WARM.append(Warm())
    return _WARM[-1]
