"""What the drills share: throw-away projects driven through the commands that a user has, and what was seen of them.

A drill says what it expects and goes on (`Trial.expect`): a promise that is not kept is a bad grade in phase 15, which
needs all drills, rather than no report at all. A drill raises only where it could not be tried: the ground is unfit.

Not a phase itself: files in phases/ whose names begin with "_" are for the others to import.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from orchestrator import Context, Resource, process
from phases._ground import environment, scratch

PATIENCE = 30.0  # seconds after which something counts as stuck
LEAVE_SECONDS = 5.0  # an agent needs a moment to leave after its last attempt
LOOK_EVERY = 0.005
LOST, TWICE, STUCK, ORPHANED = "lost", "done twice", "stuck", "orphaned"  # one of these, and the grade is F
DISK_FULL = 74

Figures = dict[str, Any]
Event = dict[str, Any]
T = TypeVar("T")


# What was expected, and what was found


class Broken(Exception):
    """A drill cannot go on, because what it waited for did not come."""

    def __init__(self, expected: str, found: str, grave: str = "") -> None:
        super().__init__(f"{expected}: {found}")
        self.expected, self.found, self.grave = expected, found, grave


class Trial:
    """What a drill has seen so far."""

    def __init__(self, ctx: Context, steps: int) -> None:
        self.figures: Figures = {}
        self.warnings: list[str] = []
        self.checks: list[dict[str, Any]] = []
        self.cut_short = False
        self._ctx, self._steps, self._step = ctx, steps, 0

    def step(self, text: str) -> None:
        self._ctx.progress(self._step, self._steps, text)
        self._step += 1

    def expect(self, what: str, kept: bool, found: str, grave: str = "") -> None:
        """`grave` is what it means for a run at night if this is not kept: lost, done twice, stuck, orphaned."""
        print(f"{'kept' if kept else 'NOT KEPT'}: {what} ({found})")  # for `orch logs N`
        self.checks.append({"expected": what, "kept": kept, "found": found, "grave": "" if kept else grave})

    def result(self, verdict: Callable[[Figures], str]) -> dict[str, Any]:
        broken = [check for check in self.checks if not check["kept"]]
        return {
            "verdict": not_kept(broken, len(self.checks)) if broken else verdict(self.figures),
            "figures": self.figures,
            "warnings": self.warnings,
            "checks": self.checks,
            "cut_short": self.cut_short,
        }


def not_kept(broken: list[dict[str, Any]], of: int) -> str:
    first = f"{broken[0]['expected']}: {broken[0]['found']}"
    return shortened(f"{len(broken)} of {of} promises NOT kept: {first}")


def shortened(text: str, width: int = 170) -> str:
    plain = "".join(char if char.isprintable() else " " for char in text)
    return plain if len(plain) <= width else plain[: width - 1] + "…"


def drill(
    ctx: Context,
    work: Callable[[Project, Trial], object],
    verdict: Callable[[Figures], str],
    steps: int,
) -> dict[str, Any]:
    """`work` on a project of its own, which is gone at the end with all that ran in it."""
    trial = Trial(ctx, steps)
    with scratch(ctx) as folder:
        project = Project(folder)
        trial.cut_short = True
        try:
            work(project, trial)
            trial.cut_short = False
        except Broken as broken:
            trial.expect(broken.expected, False, broken.found, broken.grave)
        finally:
            left = project.close(0.0 if trial.cut_short else LEAVE_SECONDS)
        if not trial.cut_short:  # what goes on without an orchestrator that we killed is in its right
            trial.expect("at the end nothing is left running", not left, "; ".join(left[:3]) or "nothing is", ORPHANED)
    ctx.progress(steps, steps)
    return trial.result(verdict)


# A project, and orch in it


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    ms: float

    @property
    def last_words(self) -> str:
        return last_words(self.err or self.out)


class Started:
    """orch in the background; what it says goes into files, so that nobody has to empty a pipe."""

    def __init__(self, project: Project, words: tuple[str, ...], said: Path, room: int = 0) -> None:
        self.began = time.monotonic()
        self._project, self._words, self._said = project, words, said
        with open(said, "wb") as out, open(f"{said}.err", "wb") as err:
            self._popen = subprocess.Popen(
                [*kept_small(room), *command(project, words)], cwd=project.root, env=environment(),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            )  # fmt: skip
        self.pid = self._popen.pid

    @property
    def is_over(self) -> bool:
        return self._popen.poll() is not None

    def events(self, kind: str = "", number: int | None = None) -> list[Event]:
        """What a run with --json has said so far; its last line may still be on its way."""
        whole, _, _ = self._said.read_text().rpartition("\n")
        found = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [
            event
            for event in found
            if event["event"] == (kind or event["event"]) and (number is None or event.get("number") == number)
        ]

    def await_event(self, kind: str, number: int | None = None) -> Event:
        about = f" of phase {number}" if number is not None else ""
        return self.until(lambda: next(iter(self.events(kind, number)), None), f"{self} says {kind}{about}")

    def until(self, what: Callable[[], T | None], expected: str) -> T:
        """Whatever is waited for, nobody but this run brings it about."""

        def found() -> T | None:
            was_over = self.is_over  # asked first: the last that a run does is seen, too
            if (thing := what()) or not was_over:
                return thing
            raise Broken(expected, f"{self} ended with {self._popen.returncode} before: {self.last_words()}")

        return until(found, expected, self.last_words)

    def await_lines(self, name: str, count: int) -> None:
        """Until phases have written so many."""
        self.until(lambda: len(self._project.lines(name)) >= count, f"{count} phases write into {name!r}")

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()

    def wait(self, *codes: int) -> Ended:
        try:
            code = self._popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Broken(f"{self} comes to its end", f"it has not within {PATIENCE:g} s", STUCK) from None
        ended = Ended(code, self._said.read_text(), Path(f"{self._said}.err").read_text(), self._ms())
        return as_expected(str(self), ended, codes or (0,))

    def close(self) -> None:
        if not self.is_over:
            self.kill()

    def last_words(self) -> str:
        return last_words(Path(f"{self._said}.err").read_text() or self._said.read_text())

    def _ms(self) -> float:
        return round((time.monotonic() - self.began) * 1000, 1)

    def __str__(self) -> str:
        return f"`orch {' '.join(self._words)}`"


class Project:
    """A throw-away project and all that runs in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        (self.root / "phases").mkdir(mode=0o700, parents=True)
        self._started: list[Started] = []
        self._said = folder / "said"
        self._said.mkdir()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)  # whatever the umask says: orch refuses phases that others may write

    def commands(self, *phases: dict[str, Any]) -> None:
        self.write("phases/commands.toml", "\n".join(map(table_of, phases)))

    def lines(self, name: str) -> list[str]:
        """What phases have written, whole lines only."""
        path = self.root / name
        return path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []

    def start(self, *words: str, room: int = 0) -> Started:
        """`room`: so many bytes, and no more, fit into any file that it writes."""
        self._started.append(Started(self, words, self._said / str(len(self._started)), room))
        return self._started[-1]

    def orch(self, *words: str, codes: tuple[int, ...] = (0,)) -> Ended:
        """A command from its start to its end."""
        return self.start(*words).wait(*codes)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.orch("status", "--json").out))

    def phases(self) -> dict[int, dict[str, Any]]:
        return {phase["number"]: phase for phase in self.status()["phases"]}

    def processes(self, below: str = "") -> list[int]:
        """Everybody who works in the project's folder (or one below it), is told of it, or is named for it."""
        folder = str(self.root / below) if below else str(self.root)
        return [pid for pid in process.scan() if pid != os.getpid() and is_of(pid, folder, alone=bool(below))]

    def close(self, patience: float = LEAVE_SECONDS) -> list[str]:
        """End all that is left, and name what has not left by itself after `patience` seconds."""
        for started in self._started:
            started.close()
        named: dict[int, str] = {}
        began = time.monotonic()
        while (left := self.processes()) and time.monotonic() - began < patience + PATIENCE:
            if time.monotonic() - began > patience:
                named |= {pid: process.describe(pid) for pid in left}
                table = process.scan()
                process.insist([table[pid] for pid in left if pid in table], table)
            time.sleep(0.02)
        process.reap()
        return list(named.values())


def command(project: Project, words: tuple[str, ...]) -> list[str]:
    where = [] if words == ("--version",) else ["--project", str(project.root)]
    return [sys.executable, "-m", "orchestrator.cli", *words, *where]


def kept_small(room: int) -> list[str]:
    """In front of a command: no file that it writes grows beyond `room` bytes; 0: any."""
    limit = f"import os, resource as r, sys; r.setrlimit(r.RLIMIT_FSIZE, ({room}, {room}))"
    return [sys.executable, "-I", "-S", "-c", f"{limit}; os.execv(sys.argv[1], sys.argv[1:])"] if room else []


def as_expected(what: str, ended: Ended, codes: tuple[int, ...]) -> Ended:
    if ended.code == DISK_FULL and DISK_FULL not in codes:
        raise Resource(f"{what} could not write its state on a trial project: {ended.last_words}")
    if ended.code not in codes:
        wanted = " or ".join(map(str, codes))
        raise Broken(f"{what} ends with {wanted}", f"it ended with {ended.code}: {ended.last_words}")
    return ended


def last_words(text: str) -> str:
    return shortened(" | ".join(text.strip().splitlines()[-3:]), 300) or "it said nothing"


def until(what: Callable[[], T | None], expected: str, why: Callable[[], str] = str) -> T:
    began = time.monotonic()
    while not (found := what()):
        if time.monotonic() - began > PATIENCE:
            raise Broken(expected, f"not within {PATIENCE:g} s: {why() or 'nobody said why'}", STUCK)
        time.sleep(LOOK_EVERY)
    return found


def table_of(keys: dict[str, Any]) -> str:
    """A phase of TOML; JSON's strings, numbers and lists are TOML's."""
    return "\n".join(["[[phase]]", *(f"{key} = {toml(value)}" for key, value in keys.items()), ""])


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


# Who is there


def is_of(pid: int, folder: str, *, alone: bool) -> bool:
    entry = process.entry_of(pid)
    if entry is None or entry.is_over:
        return False
    place = place_of(pid)
    if place == folder or place.startswith(folder + "/"):
        return True
    return not alone and (
        process.environment_of(pid).get("ORCH_PROJECT") == folder or folder in process.describe(pid, 4000).split(" ")
    )


def place_of(pid: int) -> str:
    """The folder it works in: neither a new session nor an empty environment changes that."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def identities(pids: list[int]) -> list[Any]:
    return [who for pid in pids if (who := process.identity(pid))]


def alive(whos: list[Any]) -> list[int]:
    return [who.pid for who in whos if process.is_alive(who) != process.DEAD]


# Times


def at(event: Event) -> float:
    """When it was decided: seconds since 1970."""
    return datetime.fromisoformat(event["at"]).timestamp()


def pairs(first: list[Event], later: list[Event]) -> Iterator[tuple[Event, Event]]:
    """Each event with the next later one about the same phase."""
    for event in first:
        after = [other for other in later if other["number"] == event["number"] and at(other) >= at(event)]
        if after:
            yield event, after[0]
