"""Command lines worth cutting anywhere, each with what came before it, and what must be true after the cut.

Each scene is made once; every fault gets a copy of it, in memory where the machine allows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import app
from orchestrator.bridge import survey
from orchestrator.cli import showing
from orchestrator.config import settings
from orchestrator.core.events import Scope
from orchestrator.core.names import AttemptId, iso
from orchestrator.core.observations import Asked
from orchestrator.core.schedule import Schedule
from orchestrator.look import Look
from orchestrator.store import schedules, snapshot
from orchestrator.store.asks import Petition
from orchestrator.store.reading import read_lines, read_state
from tests.crash import instant
from tests.crash.injecting import Done, Fault, Point, command
from tests.crash.instant import DIE, FAIL, HANG, LEFT, OK, ran

RETRIES = "[retry.FAILED]\ntries = 3\ndelay = 0\n"
NO_RETRY = "[retry.FAILED]\ntries = 0\n"


class Scene(NamedTuple):
    name: str
    words: tuple[str, ...]
    toml: str = ""
    script: dict[int, list[str]] = {}  # noqa: RUF012  # a constant
    phases: int = 3
    before: tuple[tuple[int, tuple[str, ...]], ...] = ()  # earlier commands, with the codes they end with
    segment: int | None = None
    touch: Callable[[Path], None] | None = None  # the last thing that is done to the project
    about: str = ""  # is in the name of a file that it must write, or remove

    def stage(self) -> None:
        instant.stage(self.segment)

    def make(self, root: Path) -> None:
        instant.set_up(root, self.toml, self.script, self.phases)
        for code, words in self.before:
            done = command(root, *words, stage=self.stage)
            assert done.code == code, (self.name, words, done)
        if self.touch is not None:
            self.touch(root)

    def play(self, root: Path, fault: Fault | None = None, at_fault: Callable[[], Any] = lambda: None) -> Done:
        return command(root, *self.words, fault=fault, stage=self.stage, at_fault=at_fault)

    def go_on(self, root: Path) -> int:
        """`orch run` without its command line, in this process: that saves half of the time."""
        with instant.staged(self.segment):
            options = app.RunOptions(Scope())
            found = settings(root, {}, {})
            return app.run(root, found, options, [], lambda recovered: None, lambda: 3600.0).exit_code

    def uses(self, points: list[Point]) -> bool:
        """Whether what the scene is about happens in it."""
        return any(self.about in point.path for point in points)


def _ask(root: Path) -> None:
    """Somebody asks, and waits."""
    Petition(root / "system", Asked("abc123", "retry", "somebody", 2), 0.0)


def _tear(root: Path) -> None:
    """What a killed writer leaves: half a line, drafts, an ask claimed and not answered."""
    system = root / "system"
    gone = os.fork()
    if not gone:
        _ask(root)
        os._exit(0)
    os.waitpid(gone, 0)
    (system / "asks" / "abc123.json").rename(system / "asks" / "abc123.taken")
    (system / ".state.json.4711.new").write_text('{"vers')
    (system / "logs" / ".heartbeat.json.4711.new").write_text("{")
    last = sorted((system / "journal").glob("*.jsonl"))[-1]
    last.write_bytes(last.read_bytes() + b'{"v":1,"seq":')


def _lose(root: Path) -> None:
    """Whoever finds all in order writes nothing: here there is one thing to be put in order."""
    (root / "system" / "state.json").unlink()


def _tear_and_lose(root: Path) -> None:
    _tear(root)
    _lose(root)


def _tear_and_damage(root: Path) -> None:
    """An early line that state.json has folded in: the next writer begins a new segment."""
    _tear(root)
    first = root / "system" / "journal" / "000000000001.jsonl"
    first.write_bytes(first.read_bytes().replace(b"RunStarted", b"RunXtarted", 1))


def _due(root: Path) -> None:
    """A schedule that was due a moment ago, and nobody has begun it yet."""
    due = datetime.fromtimestamp(time.time() // 60 * 60 - 60, UTC)
    at, since = f"{due.minute} {due.hour} {due.day} {due.month} *", iso(due.timestamp() - 30)
    schedules.write(root / "system", Schedule(NIGHTLY, at, tz="UTC", since=since, watch=900.0))


NIGHTLY = "nightly"
CRASHED = {2: [HANG], 3: [LEFT], 4: [HANG], 5: [DIE]}
FAILS = [OK, FAIL, FAIL, FAIL]
SMALL = 1500
NEW = ("run", "--new")
CLEAN, NEWLY, FAILED, KILLED = (0, ("run",)), (0, NEW), (1, ("run",)), (-9, ("run",))

SCENES = (
    Scene("serial run", ("run", "--jobs", "1")),
    Scene("parallel run", ("run", "--jobs", "4"), phases=5),
    Scene("run --json", ("run", "--json")),
    Scene("failure and retry", ("run",), RETRIES, {1: [FAIL], 2: [FAIL, FAIL]}),
    Scene("failure", ("run",), NO_RETRY, {2: [FAIL]}),
    Scene("after a failure", ("run",), NO_RETRY, {2: [FAIL]}, before=(FAILED,)),
    Scene("second run", NEW, before=(CLEAN,)),
    Scene("nothing to do", ("run",), before=(CLEAN,), touch=_lose),
    Scene("cancel", ("cancel",), NO_RETRY, {2: [FAIL]}, before=(FAILED,)),
    Scene("cancel of a phase", ("cancel", "2"), NO_RETRY, {2: [FAIL]}, before=(FAILED,)),
    Scene("retry of a phase", ("retry", "2"), NO_RETRY, {2: [FAIL]}, before=(FAILED,)),
    Scene("somebody has asked", ("run",), NO_RETRY, {2: [FAIL]}, before=(FAILED,), touch=_ask),
    Scene("compaction", NEW, RETRIES, {1: FAILS, 2: FAILS}, before=(CLEAN, NEWLY), segment=SMALL, about=".snapshot.json"),
    Scene("log rotation", NEW, "[logs]\nstructured_bytes = 1000\n", before=(CLEAN, NEWLY), about="execution.jsonl.1"),
    Scene("cron fire", ("cron", "fire", NIGHTLY), before=(CLEAN,), touch=_due),
    Scene("recovery", ("run",), script=CRASHED, phases=5, before=(KILLED,), touch=_tear),
    Scene("recover", ("recover",), script=CRASHED, phases=5, before=(KILLED,), touch=_tear),
    Scene("recovery without state.json", ("run",), script=CRASHED, phases=5, before=(KILLED,), touch=_tear_and_lose),
    Scene(
        "recovery with a damaged journal", ("run",), script=CRASHED, phases=5, before=(KILLED,), touch=_tear_and_damage,
        about=".snapshot.json",
    ),
)  # fmt: skip
BY_NAME = {scene.name: scene for scene in SCENES}


class Copies:
    """A scene, and copies of it to spoil."""

    def __init__(self, scene: Scene, folder: Path, made: Path | None = None) -> None:
        """`made`: what a cut has left, to be copied instead."""
        self.scene, self._base, self._copy = scene, folder / "base", folder / "copy"
        if made is None:
            scene.make(self._base)
        else:
            shutil.copytree(made, self._base, symlinks=True, copy_function=_copied)

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """Always at the same place, as messages and caches name it."""
        shutil.copytree(self._base, self._copy, symlinks=True, copy_function=_copied)
        yield self._copy
        shutil.rmtree(self._copy)

    def forget(self) -> None:
        shutil.rmtree(self._base)

    def points(self) -> list[Point]:
        return self.clean().points

    def clean(self) -> Done:
        """How it goes where nothing fails."""
        with self.copy() as root:
            done = self.scene.play(root)
            assert "Traceback" not in done.text, done
            assert self.scene.uses(done.points), done.points
            return done


def _copied(source: str, target: str) -> None:
    """The bell is a named pipe: a copy is another."""
    if Path(source).is_fifo():
        os.mkfifo(target, 0o600)
    else:
        shutil.copy2(source, target)


@contextmanager
def in_memory() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="orch-cut-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Seen:
    """What the disk says, without orch's help except for reading."""

    def __init__(self, root: Path, *, kept_ran: bool = True) -> None:
        """`kept_ran`: the hands were instant ones, and noted each attempt."""
        system = root / "system"
        self.loaded = read_state(system, verify=True)
        if not self.loaded.mend:
            read_lines(system)  # raises where the chain is broken
        self.state = self.loaded.state
        self.ran = ran(root) if kept_ran else []
        self.waiting = {
            attempt.phase for folder in (system / "agents").glob("*") for attempt, _, _ in survey.outcomes(folder)
        }
        self.done = {number for number in self.state.phases if self.state.phase(number).is_done}

    def forgotten(self) -> list[AttemptId]:
        """Attempts that were started, and of which the state knows nothing."""
        current = [one.attempt for one in self.ran if one.attempt.run == self.state.run.id]
        return [attempt for attempt in current if self.state.phase(attempt.phase).attempt < attempt.number]

    def runs(self) -> set[str]:
        return {one.attempt.run for one in self.ran}


def check_after_cut(root: Path, scene: Scene, done: Done, *, by_command: bool = False) -> Seen:
    """A reader works, and says the truth; nothing of what was begun is unknown. `by_command`: `orch status` itself."""
    assert "Traceback" not in done.text, done
    seen = Seen(root)
    assert not seen.forgotten(), seen.forgotten()
    known = {seen.state.run.id, *(past["id"] for past in seen.state.runs)}
    assert seen.runs() <= known, (seen.runs(), known)
    document = _status(root, scene) if by_command else showing.document(Look(root))
    assert document["run"]["state"] in ("none", "interrupted", "finished"), document["run"]
    return seen


def _status(root: Path, scene: Scene) -> dict[str, Any]:
    shown = command(root, "status", "--json", stage=scene.stage)
    assert shown.code == 0, shown
    assert not shown.points, f"a reader wrote: {shown.points}"
    document: dict[str, Any] = json.loads(shown.out)
    return document


def check_goes_on(root: Path, scene: Scene, seen: Seen) -> None:
    """The next run ends well, has done what was not done, each once, and leaves all in order."""
    a_while_later(root)
    code = scene.go_on(root)
    if code == 1 and any(one.how == FAIL for one in ran(root)[len(seen.ran) :]):
        code = scene.go_on(root)  # the script had it fail
    assert code == 0, (seen.ran, ran(root))
    if scene.touch is _ask:
        asked = command(root, "cancel", stage=scene.stage)
        assert asked.code in (0, 1), asked  # whoever asks next answers all who wait
    now = Seen(root)
    numbers = set(range(1, scene.phases + 1))
    assert now.done == numbers, now.done
    went_well = Counter(one.attempt.phase for one in now.ran[len(seen.ran) :] if one.how in (OK, LEFT))
    wanted = numbers - seen.done - seen.waiting if seen.state.run.id else numbers
    assert went_well == Counter(wanted), f"done again {went_well}, wanted {wanted}"
    check_in_order(root, now)


def a_while_later(root: Path) -> None:
    """What several may write at once is not taken from under their hands: only old drafts are swept away."""
    for draft in (root / "system").rglob(".*.new"):
        os.utime(draft, (0, 0))


def check_in_order(root: Path, seen: Seen) -> None:
    system = root / "system"
    found = snapshot.load(system / "state.json")
    assert isinstance(found, tuple), found
    assert seen.loaded.snapshot_is_exact
    assert not seen.loaded.torn
    assert not seen.loaded.mend
    left = [path.relative_to(system).as_posix() for path in system.rglob(".*.new")]
    left = [
        path for path in left if not re.match(r"asks/\.[0-9a-f]+\.json\.", path)
    ]  # whoever asks may still be writing
    assert not left, f"drafts left: {left}"
    claimed = [path.name for path in (system / "asks").glob("*") if path.suffix in (".json", ".taken")]
    assert not claimed, f"asks left: {claimed}"
    assert not [*(system / "agents").glob("*")]
