"""Drives orch as a person does: a project of one's own, the real command line, and a look at what is left running."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import pytest

from orchestrator import process
from tests import warm
from tests.warm import PACKAGE, Forked

ORCH = (sys.executable, "-m", "orchestrator.cli")
TIMES = int(os.environ.get("ORCH_TEST_TIMES", "0"))  # how often the long loops go round; 0: the short form
SEED = os.environ.get("ORCH_TEST_SEED")
SHORT_FORMS_SEED = 7
WRITES_GOLDEN = os.environ.get("ORCH_TEST_GOLDEN") == "write"
PATIENCE = 30.0
OVER = object()
FAST = 'kill_grace = "0.3s"\n[retry.FAILED]\ntries = 0\n'

# A shell of its own, with the terminal on descriptor 0 as its controlling terminal. Tests in the background ignore Ctrl-C.
_ON_TERMINAL = "import os, signal, sys, fcntl, termios; signal.signal(2, signal.SIG_DFL); os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
# Without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH modes of files hold for root, too.
_MORTAL = (
    "import ctypes, os, sys\n"
    "if os.getuid() == 0:\n"
    "    libc = ctypes.CDLL(None, use_errno=True)\n"
    "    assert libc.prctl(24, 1, 0, 0, 0) == 0 and libc.prctl(24, 2, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)
MORTAL = (sys.executable, "-c", _MORTAL)
ON_TERMINAL = (sys.executable, "-c", _ON_TERMINAL)

T = TypeVar("T")


def times(short: int, long: int) -> int:
    """How often a loop goes round: `long` is for ORCH_TEST_TIMES=100, and scales with it."""
    return max(1, long * TIMES // 100) if TIMES else short


def seeded() -> random.Random:
    """Chance that can be had again: pytest shows what a test that failed has printed.

    What lands is decided by the change and not by luck, so the short form throws the same dice each time; new ones are
    for the long form.
    """
    seed = int(SEED) if SEED else random.randrange(10**6) if TIMES else SHORT_FORMS_SEED
    print(f"seed {seed}: ORCH_TEST_SEED={seed} does it again")
    return random.Random(seed)


def wait_for(what: Callable[[], T], seconds: float = PATIENCE, why: str = "") -> T:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, f"waited {seconds:g} s in vain{': ' + why if why else ''}"
        time.sleep(0.01)
    return found


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Used(NamedTuple):
    """What a process and its children took until it was over."""

    code: int
    processor_seconds: float
    text: str


class Started:
    """orch in the background, its output in files: no pipe that a test would have to empty."""

    def __init__(self, popen: subprocess.Popen[bytes] | Forked, out: Path, err: Path) -> None:
        self.popen, self._out, self._err = popen, out, err
        self.pid = popen.pid

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def processor_seconds(self) -> float:
        assert isinstance(self.popen, Forked)
        return self.popen.processor_seconds

    @property
    def is_over(self) -> bool:
        return self.popen.poll() is not None

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(PATIENCE)

    def wait(self, seconds: float = PATIENCE) -> Ended:
        code = self.popen.wait(seconds)
        return Ended(code, self.out, self.err)

    def until(self, what: Callable[[], T], seconds: float = PATIENCE) -> T:
        """Waits for `what`; in vain as soon as this is over, and then it says what it said."""
        found = wait_for(lambda: what() or (self.is_over and OVER), seconds, f"{self.out}{self.err}")
        if found is OVER:
            found = what()  # what it did last may have come after the look
        assert found, f"it ended with {self.popen.returncode}: {self.out}{self.err}"
        return cast("T", found)

    def wait_until_over_or(self, what: Callable[[], object]) -> None:
        wait_for(lambda: self.is_over or what())

    def wait_for(self, text: str, seconds: float = PATIENCE) -> None:
        self.until(lambda: text in self.out + self.err, seconds)

    def end(self) -> None:
        if not self.is_over:
            self.popen.send_signal(signal.SIGCONT)
            self.kill()


class Terminal(Started):
    """The same with a terminal of its own; what it shows is read from there."""

    def __init__(self, argv: tuple[str, ...], cwd: Path, environ: dict[str, str]) -> None:
        self._master, slave = os.openpty()
        self._shown = bytearray()
        popen = subprocess.Popen(
            (*ON_TERMINAL, *argv), cwd=cwd, env=environ, stdin=slave, stdout=slave, stderr=slave
        )  # fmt: skip
        super().__init__(popen, Path(os.devnull), Path(os.devnull))
        os.close(slave)

    @property
    def out(self) -> str:
        while self._master >= 0 and select.select([self._master], [], [], 0)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # nobody has it open any more
                break
            self._shown += data
            if not data:
                break
        return self._shown.decode()

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    def close(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def end(self) -> None:
        super().end()
        self.close()


_AT_START = ("PYTHON", "LANG", "LC_", "LD_")  # what is looked at only when a process starts


class Project:
    def __init__(self, root: Path, scratch: Path) -> None:
        self.root, self.scratch = root, scratch
        self.system = root / "system"
        self._started: list[Started] = []
        (root / "phases").mkdir(parents=True)
        scratch.mkdir(exist_ok=True)
        self.settings(FAST)

    # ---- what is in it

    def file(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def settings(self, text: str) -> None:
        self.file("orch.toml", text)

    def commands(self, *phases: dict[str, Any], name: str = "p.toml") -> None:
        """Phases of TOML; JSON's strings, numbers and lists are TOML's."""
        lines = []
        for phase in phases:
            lines.append("[[phase]]")
            lines += [f"{key} = {_toml(value)}" for key, value in phase.items()]
        self.file(f"phases/{name}", "\n".join(lines) + "\n")

    def lines(self, name: str) -> list[str]:
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

    # ---- orch itself

    def environ(self, **extra: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.scratch), "PYTHONPATH": PACKAGE, **extra}

    def orch(
        self, *words: str, env: dict[str, str] | None = None, cwd: Path | None = None, before: tuple[str, ...] = (),
        seconds: float = PATIENCE, **how: Any,
    ) -> Ended:  # fmt: skip
        """Runs to its end: in a fork of a process that has all loaded, unless it matters how it starts."""
        if not (before or how or any(name.startswith(_AT_START) for name in env or ())):
            return self._forked(words, cwd or self.root, env).wait(seconds)
        return self.cold(*words, env=env, cwd=cwd, before=before, seconds=seconds, **how)

    def cold(
        self, *words: str, env: dict[str, str] | None = None, cwd: Path | None = None, before: tuple[str, ...] = (),
        seconds: float = PATIENCE, **how: Any,
    ) -> Ended:  # fmt: skip
        """In a Python of its own, its output in pipes: whoever kept one of them would make this wait."""
        how.setdefault("stdin", subprocess.DEVNULL)
        ended = subprocess.run(
            [*before, *ORCH, *words], cwd=cwd or self.root, env=self.environ(**(env or {})),
            capture_output=True, timeout=seconds, check=False, **how,
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())

    def start(self, *words: str, env: dict[str, str] | None = None, argv: tuple[str, ...] = (), **how: Any) -> Started:
        """In the background: forked, too, unless it matters how it starts (`argv`: how)."""
        if not (argv or how or any(name.startswith(_AT_START) for name in env or ())):
            started = self._forked(words, self.root, env)
        else:
            out, err = self._outputs()
            with open(out, "wb") as to, open(err, "wb") as said:
                how = {"stdin": subprocess.DEVNULL, "stdout": to, "stderr": said, **how}
                environ = self.environ(**(env or {}))
                started = Started(
                    subprocess.Popen((*(argv or ORCH), *words), cwd=self.root, env=environ, **how), out, err
                )
        self._started.append(started)
        return started

    def _forked(self, words: Sequence[str], cwd: Path, env: dict[str, str] | None) -> Started:
        out, err = self._outputs()
        return Started(warm.warm().fork(words, cwd, self.environ(**(env or {})), out, err), out, err)

    def _outputs(self) -> tuple[Path, Path]:
        out, err = (self.scratch / f"{name}-{time.monotonic_ns()}" for name in ("out", "err"))
        out.touch()
        err.touch()
        return out, err

    def terminal(self, *words: str, env: dict[str, str] | None = None) -> Terminal:
        started = Terminal((*ORCH, *words), self.root, self.environ(**(env or {})))
        self._started.append(started)
        return started

    def shell(self, line: str, seconds: float = PATIENCE, **how: Any) -> Ended:
        """`$ORCH` in the line is orch."""
        environ = self.environ(ORCH=" ".join(ORCH))
        ended = subprocess.run(
            ["/bin/sh", "-c", line], cwd=self.root, env=environ, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=seconds, check=False, **how,
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def measured(self, *words: str) -> Used:
        path = self.scratch / f"out-{time.monotonic_ns()}"
        with open(path, "wb") as out:
            popen = subprocess.Popen(
                [*ORCH, *words], cwd=self.root, env=self.environ(), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
            _, status, used = os.wait4(popen.pid, 0)
        popen.returncode = os.waitstatus_to_exitcode(status)
        return Used(popen.returncode, _seconds(used), path.read_text())

    def status(self) -> dict[str, Any]:
        ended = self.orch("status", "--json")
        assert ended.code == 0, ended
        document: dict[str, Any] = json.loads(ended.out)
        return document

    def phases(self) -> dict[int, dict[str, Any]]:
        return {phase["number"]: phase for phase in self.status()["phases"]}

    def statuses(self) -> dict[int, str]:
        return {number: phase["status"] for number, phase in self.phases().items()}

    def errors(self) -> dict[int, dict[str, Any]]:
        return {number: phase["error"] for number, phase in self.phases().items() if phase["error"]}

    def state(self) -> dict[str, Any]:
        """state.json as any program reads it."""
        document: dict[str, Any] = json.loads((self.system / "state.json").read_text())
        return document

    # ---- who is left

    def processes(self) -> list[int]:
        """All of this project: by command line, by environment, by folder; an orchestrator of ours among them."""
        return [pid for pid in _pids() if pid != os.getpid() and self._is_of(pid) and not is_gone(pid)]

    def workers(self) -> list[int]:
        """Whoever is neither orchestrator, agent nor template: the work.

        An attempt forked from the template has its command line, but is younger; who has none is just leaving.
        """
        told = {pid: command for pid in self.processes() if (command := _command(pid))}
        templates = sorted((pid for pid in told if "agent.template" in told[pid]), key=_ticks)
        return sorted({pid for pid in told if "orchestrator" not in told[pid]} | set(templates[1:]))

    def agents(self) -> list[int]:
        return [pid for pid in self.processes() if "agent/__main__.py" in _command(pid)]

    def templates(self) -> list[int]:
        """With what was forked from them, which has the same command line."""
        return [pid for pid in self.processes() if "agent.template" in _command(pid)]

    def own_processes(self) -> list[int]:
        return [pid for pid in self.processes() if "orchestrator" in _command(pid)]

    def _is_of(self, pid: int) -> bool:
        root = str(self.root)
        try:
            where = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            where = ""
        if where == root or where.startswith(root + "/") or root in _command(pid).split():
            return True
        return f"ORCH_PROJECT={root}".encode() in _read(f"/proc/{pid}/environ").split(b"\0")

    def end_all(self, but: Collection[int] = ()) -> None:
        """As the kernel ends a container: nobody has time to notice that others went before."""
        everybody = [who for pid in self.processes() if pid not in but and (who := process.identity(pid)) is not None]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for who in everybody:
                process.send(who, number)  # one that was about to end anyway is gone by now

    def assert_nothing_left(self, seconds: float = 15.0) -> None:
        """Agent and template need a moment to leave after the last attempt; whoever forks on is looked for again."""
        until, clean = time.monotonic() + seconds, 0
        while clean < 3:
            left = self.processes()
            clean = 0 if left else clean + 1
            told = [f"{pid} {_command(pid)!r}" for pid in left]
            assert not left or time.monotonic() < until, f"left running after {seconds:g} s: {told}"
            time.sleep(0.02)

    def end(self) -> list[str]:
        """Ends what a test left behind, and names it; an agent without work has a moment to leave by itself."""
        for started in self._started:
            started.end()
        named, now = list[str](), time.monotonic()
        while (left := self.processes()) and time.monotonic() < now + 25:
            for pid in left if time.monotonic() > now + 10 else []:
                who = process.identity(pid)
                if who is not None:
                    named.append(f"{pid} {_command(pid)!r}")
                    process.send(who, signal.SIGSTOP)  # one that forks is not to go on with it while others are ended
            for pid in left if time.monotonic() > now + 10 else []:
                who = process.identity(pid)
                if who is not None:
                    process.send(who, signal.SIGKILL)
            time.sleep(0.02)
        return named[:20]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _command(pid: int) -> str:
    return _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _ticks(pid: int) -> int:
    """When it started."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[19]) if fields else 0


def is_gone(pid: int) -> bool:
    """Or it only waits to be looked at once more by whoever began it."""
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:1] in ([b"Z"], [b"X"], [])


def _seconds(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


_MASKS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\d{8}T\d{6}-[0-9a-f]{4}", "RUN"),
    (r"\b\d\d:\d\d:\d\d\b", "CLOCK"),
    (r"\bpid \d+ on [^,:;]+", "pid N on HOST"),
    (r"\bpid \d+", "pid N"),
    (r"kill -CONT \d+", "kill -CONT N"),
    (r"\b\d+\.\d\ds\b|\b\d\ds\b", "0.00s"),
    (r"\b\d+m 0\.00s", "0.00s"),
    (r"agent [\d-]+", "agent A"),
    (r"the longest path took .*", "the longest path took SO LONG"),  # which path that is, too, depends on the machine
)


def masked(text: str, root: Path) -> str:
    """What is the same at every run: no times, no pids, no folders of this machine."""
    text = text.replace(str(root), "ROOT").replace(sys.executable, "PYTHON")
    for pattern, word in _MASKS:
        text = re.sub(pattern, word, text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + ("\n" if text else "")


@pytest.fixture
def projects(tmp_path: Path) -> Iterator[Callable[[str], Project]]:
    made: list[Project] = []

    def make(name: str) -> Project:
        made.append(Project(tmp_path / name, tmp_path / f"{name}-scratch"))
        return made[-1]

    yield make
    left = [each for project in made for each in project.end()]
    assert not left, f"the test left running: {left}"


@pytest.fixture
def project(projects: Callable[[str], Project]) -> Project:
    return projects("project")
