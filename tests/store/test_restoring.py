"""All files come back exactly, or nothing changes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import disk
from orchestrator.core.checkpoint import Checkpoint
from orchestrator.core.state import State
from orchestrator.errors import Refused, StateDamaged, StateUnwritable
from orchestrator.store import restoring
from orchestrator.store.checkpoints import Vault
from orchestrator.store.reading import ROLLBACK as PLAN
from orchestrator.store.restoring import apply, finish, prepare, settle, survey, take_back, under_way
from tests.core.given import NOW
from tests.store.given import end_of

PATTERNS = {1: ["out", "one.txt"], 2: ["res/*.csv"]}
Tree = dict[str, Any]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written may stay in memory: nobody pulls the plug in here."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in (
        ("out/a", "A"),
        ("out/deep/b", "B" * 9),
        ("one.txt", "1"),
        ("res/x.csv", "x"),
        ("res/other", "o"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    os.symlink("a", tmp_path / "out" / "link")
    os.chmod(tmp_path / "out" / "a", 0o750)
    os.utime(tmp_path / "out" / "a", ns=(1, 123456789000))
    return tmp_path


@pytest.fixture
def vault(root: Path) -> Vault:
    return Vault(root)


@pytest.fixture
def made(vault: Vault) -> Checkpoint:
    found: Checkpoint = end_of(vault.make(1, "a test", State(), PATTERNS, NOW))
    return found


def tree(root: Path) -> Tree:
    """Every name outside of system/ with what comes back of it."""
    found: Tree = {}
    for path in sorted(root.rglob("*")):
        inner, status = str(path.relative_to(root)), path.lstat()
        if inner.split("/")[0] == "system":
            continue
        if path.is_symlink():
            found[inner] = os.readlink(path)
        elif path.is_file():
            found[inner] = (path.read_bytes(), status.st_mode, status.st_mtime_ns)
        else:
            found[inner] = "a folder"
    return found


def change_all(root: Path) -> None:
    (root / "out" / "a").write_text("changed")
    shutil.rmtree(root / "out" / "deep")
    (root / "out" / "new" / "er").mkdir(parents=True)
    (root / "out" / "new" / "er" / "c").write_text("C")
    (root / "out" / "link").unlink()
    (root / "out" / "link").write_text("no link any more")
    (root / "one.txt").unlink()
    (root / "res" / "y.csv").write_text("y")


def go_back(vault: Vault, made: Checkpoint) -> restoring.Plan:
    plan: restoring.Plan = end_of(prepare(vault, made, end_of(survey(vault.root, made)), "token"))
    apply(vault, plan)
    settle(vault, plan)
    return plan


def to_file(root: Path) -> None:
    shutil.rmtree(root / "out" / "deep")
    (root / "out" / "deep").write_text("a file now")


def to_folder(root: Path) -> None:
    (root / "one.txt").unlink()
    (root / "one.txt").mkdir()
    (root / "one.txt" / "inner").write_text("x")


CHANGES: dict[str, Callable[[Path], object]] = {
    "all": change_all,
    "nothing": lambda root: None,
    "only its mode": lambda root: os.chmod(root / "one.txt", 0o600),
    "only its time": lambda root: os.utime(root / "one.txt", ns=(5, 5)),
    "a folder is a file": to_file,
    "a file is a folder": to_folder,
    "a whole folder is gone": lambda root: shutil.rmtree(root / "out"),
    "the same text, another link": lambda root: [(root / "out/link").unlink(), os.symlink("deep/b", root / "out/link")],
}


@pytest.mark.parametrize("change", CHANGES)
def test_all_comes_back_exactly(root, vault, made, change):
    before = tree(root)
    CHANGES[change](root)
    go_back(vault, made)
    assert tree(root) == before
    assert end_of(survey(root, made)).is_empty and sorted(os.listdir(vault.folder)) == [made.id]


def test_what_is_written_afterwards_does_not_reach_the_checkpoint(root, vault, made):
    change_all(root)
    go_back(vault, made)
    with open(root / "out" / "a", "r+") as file:
        file.write("Z")
    assert vault.flaws() == []


def test_what_no_phase_declares_is_left_alone(root, vault, made):
    (root / "res" / "other").write_text("mine")
    (root / "out-of-it").write_text("mine")
    go_back(vault, made)
    assert (root / "res" / "other").read_text() == (root / "out-of-it").read_text() == "mine"


def test_a_folder_with_something_of_others_stays(root, vault, made):
    (root / "fresh").mkdir()
    patterned = made.replace(patterns={**made.patterns, "3": ["fresh/*.csv"]})
    (root / "fresh" / "a.csv").write_text("x")
    (root / "fresh" / "note").write_text("mine")
    go_back(vault, patterned)
    assert os.listdir(root / "fresh") == ["note"]


@pytest.mark.parametrize(
    ("in_the_way", "told"),
    [
        (lambda root: [shutil.rmtree(root / "res"), (root / "res").write_text("mine")], "res is a file, and no phase"),
        (lambda root: [shutil.rmtree(root / "out"), os.mkfifo(root / "out")], "out is a named pipe, and no phase"),
    ],
)
def test_what_is_in_the_way_is_named_and_nothing_changes(root, vault, made, in_the_way, told):
    in_the_way(root)
    before = tree(root)
    with pytest.raises(Refused, match=told):
        go_back(vault, made)
    assert tree(root) == before


def test_files_of_others_are_not_swept_away_with_a_folder_that_is_in_the_way(root, vault):
    made = end_of(vault.make(1, "a test", State(), {1: ["one.txt"]}, NOW))
    (root / "one.txt").unlink()
    (root / "one.txt").mkdir()
    os.mkfifo(root / "one.txt" / "mine")
    before = tree(root)
    with pytest.raises(Refused, match=r"one.txt is a folder in which other things are"):
        go_back(vault, made)
    assert tree(root) == before


@pytest.mark.parametrize("damage", ["missing", "changed", "longer"])
def test_with_a_damaged_copy_nothing_changes(root, vault, made, damage):
    blob = vault.blob(made.id, made.entries["out/deep/b"].digest)
    if damage == "missing":
        blob.unlink()
    else:
        blob.write_text("X" * 9 if damage == "changed" else "B" * 10)
    change_all(root)
    before = tree(root)
    with pytest.raises(
        StateDamaged, match=f"its copy of out/deep/b is {'missing' if damage == 'missing' else 'damaged'}"
    ):
        go_back(vault, made)
    assert tree(root) == before and under_way(vault) is None


def test_a_damaged_copy_of_what_need_not_come_back_is_no_hindrance(root, vault, made):
    vault.blob(made.id, made.entries["res/x.csv"].digest).write_text("?")
    before = tree(root)
    (root / "out" / "a").write_text("changed")
    go_back(vault, made)
    assert tree(root) == before


def test_where_there_is_no_room_it_is_said_before_anything_is_written(root, vault, made, monkeypatch):
    change_all(root)
    before = tree(root)
    monkeypatch.setattr(disk, "room", lambda folder: 5)
    monkeypatch.setattr(disk, "can_clone", lambda source, folder: False)
    with pytest.raises(StateUnwritable, match=r"no room to go back to .* it takes 11 bytes .* 5 are free"):
        go_back(vault, made)
    assert tree(root) == before and under_way(vault) is None
    monkeypatch.setattr(disk, "can_clone", lambda source, folder: True)  # it takes none
    go_back(vault, made)


def failing(monkeypatch: pytest.MonkeyPatch, name: str, at: int, number: int = errno.ENOSPC) -> list[str]:
    """The call of `os` with that number fails, and so do all after it that make something new."""
    right, calls = getattr(os, name), list[str]()

    def call(path: Any, *others: Any, **named: Any) -> Any:
        calls.append(str(path))
        if len(calls) - 1 == at:
            raise OSError(number, os.strerror(number), os.fspath(path) if not isinstance(path, int) else None)
        return right(path, *others, **named)

    monkeypatch.setattr(os, name, call)
    return calls


@pytest.mark.parametrize("name", ["rename", "mkdir", "write", "fsync", "symlink"])
def test_whatever_fails_on_the_way_nothing_changes(root, vault, made, monkeypatch, name):
    """Each call of each kind once; afterwards it goes as it should."""
    wanted = tree(root)
    change_all(root)
    before = tree(root)
    refused = 0
    for at in range(100):
        with monkeypatch.context() as patch:
            calls = failing(patch, name, at)
            try:
                go_back(vault, made)
            except OSError:
                refused += 1
        if len(calls) <= at:
            break
        if tree(root) != before:  # it was as good as over: only what was set aside was left
            assert finish_all(vault) and tree(root) == wanted
            shutil.rmtree(root / "out"), shutil.rmtree(root / "res"), (root / "one.txt").unlink()
            break
        assert under_way(vault) is None, "whoever fails tidies up"
    assert refused > 0


def finish_all(vault: Vault) -> bool:
    plan = under_way(vault)
    if plan is not None and not finish(vault, plan, is_written=False):
        settle(vault, plan)
    return under_way(vault) is None


def test_where_not_even_that_can_be_taken_back_the_plan_stays_for_whoever_comes_next(root, vault, made, monkeypatch):
    wanted = tree(root)
    change_all(root)
    plan = end_of(prepare(vault, made, end_of(survey(root, made)), "token"))
    right, count = os.rename, iter(range(1000))

    def broken(source: Any, target: Any) -> None:
        if next(count) >= 3:
            raise OSError(errno.EROFS, "Read-only file system", str(source))
        right(source, target)

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(StateUnwritable, match="half of the files are as in"):
        apply(vault, plan)
    monkeypatch.undo()
    found = under_way(vault)
    assert found is not None and found.stage == restoring.READY
    assert finish_all(vault) and tree(root) == wanted


@pytest.mark.parametrize("way", ["forward", "back"])
def test_the_half_that_is_done_is_finished_or_taken_back(root, vault, made, monkeypatch, way):
    """Cut off after each rename, by whatever; then once more, on the one way or the other."""
    change_all(root)
    old = tree(root)
    for first in range(12):
        for second in (0, 1, 3):
            plan = end_of(prepare(vault, made, end_of(survey(root, made)), "token"))
            cut_off(monkeypatch, first, apply, vault, plan)
            cut_off(monkeypatch, second, apply if way == "forward" else take_back, vault, plan)
            if way == "forward":
                apply(vault, plan)
                put = {entry.path: entry for entry in made.entries.values()}
                assert all((root / path).is_symlink() != entry.is_file for path, entry in put.items())
                assert not (root / "res" / "y.csv").exists()
            if under_way(vault) is not None:
                take_back(vault, plan)
            assert tree(root) == old and under_way(vault) is None


class Killed(BaseException):
    """As if the power had gone: nothing is tidied up."""


def cut_off(monkeypatch: pytest.MonkeyPatch, after: int, what: Callable[..., object], *told: Any) -> None:
    right, count = os.rename, iter(range(1000))

    def rename(source: Any, target: Any) -> None:
        if next(count) >= after:
            raise Killed
        right(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        try:
            what(*told)
        except Killed:
            pass


def test_cut_off_while_all_is_laid_ready_the_next_clears_it_away(root, vault, made, tmp_path_factory):
    change_all(root)
    before = tree(root)
    pieces = prepare(vault, made, end_of(survey(root, made)), "token")
    for _ in range(2):
        next(pieces)
    left = Vault(tmp_path_factory.mktemp("left") / "project")
    shutil.copytree(root, left.root, symlinks=True)
    pieces.close()
    assert tree(root) == before and under_way(vault) is None, "whoever is only told to stop tidies up"
    plan = under_way(left)
    assert plan is not None and plan.stage == restoring.STAGING and tree(left.root) != before
    assert "cut off before it had changed anything" in finish(left, plan, is_written=False)
    assert tree(left.root) == before and under_way(left) is None


def test_a_plan_that_is_written_down_is_only_tidied_up(root, vault, made):
    """What somebody has made of a file since is theirs."""
    change_all(root)
    plan = end_of(prepare(vault, made, end_of(survey(root, made)), "token", {"event": "RolledBack"}))
    apply(vault, plan)
    (root / "res" / "y.csv").write_text("made anew")
    assert "was as good as over" in finish(vault, plan, is_written=True)
    assert (root / "res" / "y.csv").read_text() == "made anew"
    assert not [name for name in tree(root) if ".orch-" in name]


def test_a_plan_that_cannot_be_read_stops_whoever_finds_it(vault, made):
    (vault.folder / PLAN).write_text('{"version":1')
    with pytest.raises(StateDamaged, match=r"rollback\.json is damaged"):
        under_way(vault)


def test_only_ones_own_comes_back_where_one_phase_asks(root, vault, made):
    change_all(root)
    changed = tree(root)
    go_back(vault, made.only(2))
    assert tree(root) == {name: what for name, what in changed.items() if name != "res/y.csv"}
