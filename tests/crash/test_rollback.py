"""A rollback, and a phase that goes back by itself: cut off anywhere, all files and phases are the old or the new ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orchestrator.core.checkpoint import documents
from orchestrator.store.checkpoints import Vault
from orchestrator.store.reading import read_lines, read_state
from tests.crash import instant
from tests.crash.injecting import KILL, Done, Fault, Point, command, spread
from tests.crash.instant import FAIL
from tests.crash.scenes import _copied, in_memory
from tests.driving import TIMES, seeded, times

EACH = times(14, 10_000)  # points that are tried
PHASES = """
[[phase]]
number = 1
name = "one"
run = "true"
outputs = ["out", "one.txt"]

[[phase]]
number = 2
name = "two"
run = "true"
outputs = ["two.txt"]
on_critical = "rollback"
retries = 0
"""
ABOUT = ("system/backup", "system/journal", "out", "one.txt", "two.txt", ".orch-")  # what a cut may do harm to
SELF = "phase 2 goes back"


class Stood(NamedTuple):
    files: dict[str, Any]
    phases: dict[str, Any]
    run: tuple[Any, ...]


def files_of(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        inner = path.relative_to(root).as_posix()
        if inner.split("/")[0] in ("out", "one.txt", "two.txt") or ".orch-" in inner:
            kept = (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns) if path.is_file() else "a folder"
            found[inner] = os.readlink(path) if path.is_symlink() else kept
    return found


def stood(root: Path) -> Stood:
    state = read_state(root / "system").state
    phases = {number: {**phase, "attempt": 0} for number, phase in documents(state).items()}
    return Stood(files_of(root), phases, (state.run.id, state.run.verdict, state.run.calls))


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def orch(root: Path, code: int, *words: str) -> Done:
    done = command(root, *words, stage=working, of=".")
    assert done.code == code, (words, done)
    return done


def working() -> None:
    """Instant hands whose second phase does half of its work."""
    right = instant.InstantBridge._start

    def start(self: Any, attempt: Any) -> None:
        if attempt.phase == 2:
            write(self._root, "two.txt", "half")
        right(self, attempt)

    instant.InstantBridge._start = start  # type: ignore[method-assign]
    instant.stage()


def set_up(root: Path, script: dict[int, list[str]]) -> None:
    instant.set_up(root, "", script)
    (root / "phases" / "p.toml").write_text(PHASES)
    write(root, "out/a", "A")
    write(root, "out/deep/b", "B")
    os.symlink("a", root / "out" / "link")
    write(root, "one.txt", "1")
    write(root, "two.txt", "before")


def rolling_back(root: Path) -> tuple[str, ...]:
    set_up(root, {})
    orch(root, 0, "checkpoint", "create", "1")
    orch(root, 0, "run")
    write(root, "out/a", "changed")
    shutil.rmtree(root / "out" / "deep")
    write(root, "out/new/c", "C")
    (root / "out" / "link").unlink()
    (root / "one.txt").unlink()
    return ("rollback", Vault(root).ids()[-1])


def by_itself(root: Path) -> tuple[str, ...]:
    set_up(root, {2: [FAIL] * 9})
    return ("run",)


class Ground:
    """A project, copies of it to spoil, and how its command goes where nothing fails."""

    def __init__(self, folder: Path, make: Callable[[Path], tuple[str, ...]]) -> None:
        self._base, self._copy = folder / "base", folder / "copy"
        self.words = make(self._copy)
        shutil.move(self._copy, self._base)
        root = self.copy()
        self.old = stood(root)
        self.points = self.command(root).points
        self.new = stood(root)

    def copy(self) -> Path:
        """Always at the same place, as messages and caches name it."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._base, self._copy, symlinks=True, copy_function=_copied)
        return self._copy

    def command(self, root: Path, fault: Fault | None = None) -> Done:
        return command(root, *self.words, stage=working, of=".", fault=fault)


def chosen(points: list[Point]) -> list[int]:
    relevant = [at for at, point in enumerate(points) if TIMES or point.path.startswith(ABOUT)]
    return [relevant[at] for at in spread(len(relevant), EACH, seeded().randrange(1000))]


def cut(make: Callable[[Path], tuple[str, ...]], check: Callable[[Path, Stood, Stood], None], code: int) -> None:
    with in_memory() as folder:
        ground = Ground(folder, make)
        tried, fired = chosen(ground.points), 0
        for at in tried:
            root = ground.copy()
            done = ground.command(root, Fault(at, KILL))
            assert "Traceback" not in done.text, done
            fired += done.fired is not None
            if done.fired is not None:
                orch(root, 0, "recover")
            else:
                assert done.code == code, done
            check(root, ground.old, ground.new)
        print(f"{ground.words[0]}: {len(ground.points)} points, {len(tried)} tried, {fired} fired")
        assert fired >= len(tried) - 3


@pytest.mark.timeout(120 + 20 * TIMES)
def test_a_rollback_that_is_killed_leaves_the_old_or_the_new_whole() -> None:
    def check(root: Path, old: Stood, new: Stood) -> None:
        now = stood(root)
        events = [event["event"] for line in read_lines(root / "system") for event in line.events]
        assert now in (old, new), (now, old, new)
        assert events.count("RolledBack") == (now == new)
        assert not (Vault(root).folder / "rollback.json").exists()
        orch(root, 0, "rollback", Vault(root).ids()[-1])
        assert stood(root) == new
        assert Vault(root).flaws() == []

    cut(rolling_back, check, 0)


@pytest.mark.timeout(120 + 20 * TIMES)
def test_a_phase_that_is_killed_on_its_way_back_has_gone_back_in_the_end() -> None:
    def check(root: Path, old: Stood, new: Stood) -> None:
        command(root, "run", stage=working, of=".")
        state = read_state(root / "system").state
        assert (root / "two.txt").read_text() == "before" and files_of(root) == new.files
        assert (state.phase(2).status, state.phase(2).restore) == ("failed", None)
        assert not (Vault(root).folder / "rollback.json").exists()

    cut(by_itself, check, 1)


def test_two_at_once_come_to_the_same(tmp_path: Path) -> None:
    root = tmp_path / "project"
    words = rolling_back(root)
    pids = []
    for _ in range(2):
        pid = os.fork()
        if not pid:
            code = 99
            try:
                code = command(root, *words, stage=working, of=".").code
            finally:
                os._exit(code)
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    events = [event["event"] for line in read_lines(root / "system") for event in line.events]
    assert events.count("RolledBack") == 1
    assert (root / "out" / "a").read_text() == "A"


def test_where_there_is_no_room_nothing_has_changed() -> None:
    """Each write that the rollback makes finds the disk full, and so does all after it; then there is room again."""
    with in_memory() as folder:
        ground = Ground(folder, rolling_back)
        writes = [n for n, point in enumerate(ground.points) if point.call == "write" and point.path.startswith(ABOUT)]
        for at in [writes[one] for one in spread(len(writes), times(6, 1000), 1)]:
            root = ground.copy()
            done = ground.command(root, Fault(at, "ENOSPC", lasts=True))
            assert done.code == 74 and "Traceback" not in done.text, done
            orch(root, 0, "recover")
            now = stood(root)
            assert now in (ground.old, ground.new), done
            left = json.dumps([name for name in now.files if ".orch-" in name])
            assert left == "[]"
