"""What fsck finds it repairs, once: what was there is kept, and a second look finds nothing more to repair."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import clock, disk, fsck, process
from orchestrator.core.flaw import Close, Drop, Flaw, Own, Put
from orchestrator.core.names import iso
from orchestrator.core.observations import Asked
from orchestrator.errors import RunActive, StateDamaged, StateUnwritable
from orchestrator.look import cache_of
from orchestrator.store.asks import Petition
from orchestrator.store.lock import RUN, StateLock
from orchestrator.store.reading import read_state
from tests.core.given import NOW, completed, intended
from tests.store.given import commit_all, decision, opening, seen, store_of

GONE = process.myself().replace(ticks=1)
JOURNAL = "journal/000000000001.jsonl"
Damage = Callable[[Path], object]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two phases, the first done; the lock signed by a run that is over."""
    store = store_of(tmp_path / "system")
    commit_all(store, [opening(2), decision(intended(1)), decision(completed(1))])
    store.close()
    sign(tmp_path / "system")
    return tmp_path


def sign(system: Path) -> None:
    """As a process that is over leaves the lock."""
    signed = {"identity": GONE.as_dict(), "purpose": RUN, "since": iso(NOW), "command": "orch run"}
    disk.replace(system / "state.lock", json.dumps(signed).encode(), durable=False)


def file(path: Path, data: bytes = b"{}") -> Path:
    disk.make_folder(path.parent)
    disk.replace(path, data, durable=False)
    return path


def everything(system: Path) -> dict[str, object]:
    """Each name with its mode and bytes; the copies too."""
    found: dict[str, object] = {}
    for path in sorted(system.rglob("*")):
        data = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(system))] = (path.lstat().st_mode, data if path.name != "state.lock" else b"signed")
    return found


def in_place_of(inner: str, make: Damage) -> Damage:
    def damage(system: Path) -> None:
        disk.make_folder((system / inner).parent)
        disk.drop(system / inner)
        make(system / inner)

    return damage


def spoil(path: Path, at: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def private(path: Path) -> None:
    path.mkdir(0o700)


def old_ask(system: Path) -> None:
    Petition(system, Asked("k1", "cancel", "ann"), NOW)
    os.utime(system / "asks" / "k1.json", (clock.now() - 7200,) * 2)


def an_outcome(system: Path) -> None:
    file(system / "agents" / "a9" / "outcomes" / "1.1.json")


def cached(system: Path) -> None:
    file(cache_of(system.parent) / "definitions" / "x.json", b'{"name": "x"}\n')


DAMAGES: dict[str, tuple[str, Damage]] = {
    "a byte of state.json": ("state.json", lambda system: spoil(system / "state.json")),
    "a byte of the journal": (JOURNAL, lambda system: spoil(system / JOURNAL)),
    "state.json is gone": ("state.json", lambda system: (system / "state.json").unlink()),
    "a folder is state.json": ("state.json", in_place_of("state.json", private)),
    "a link is state.json": ("state.json", in_place_of("state.json", lambda path: path.symlink_to("x"))),
    "half a line": (JOURNAL, lambda system: (system / JOURNAL).write_bytes((system / JOURNAL).read_bytes() + b"{")),
    "the journal is gone": (JOURNAL, in_place_of("journal", private)),
    "a file is the journal": ("journal", in_place_of("journal", lambda path: file(path, b"x"))),
    "others may read": ("state.json", lambda system: (system / "state.json").chmod(0o644)),
    "others may read the lock": ("state.lock", lambda system: (system / "state.lock").chmod(0o644)),
    "others may write to all": ("", lambda system: system.chmod(0o777)),
    "a folder is the heartbeat": ("logs/heartbeat.json", in_place_of("logs/heartbeat.json", private)),
    "a heartbeat that is none": ("logs/heartbeat.json", lambda system: file(system / "logs" / "heartbeat.json")),
    "a file is the bell": ("asks/bell", in_place_of("asks/bell", file)),
    "an ask that is none": ("asks/x.json", lambda system: file(system / "asks" / "x.json", b"[]")),
    "an ask that is old": ("asks/k1.json", old_ask),
    "a lock that says nothing": ("state.lock", lambda system: file(system / "state.lock", b"\0" * 40)),
    "a folder is the lock": ("state.lock", in_place_of("state.lock", private)),
    "a pipe is the lock": ("state.lock", in_place_of("state.lock", lambda path: os.mkfifo(path, 0o600))),
    "an identity that is none": ("agents/a9/identity.json", lambda system: file(system / "agents/a9/identity.json")),
    "an outcome that is none": ("agents/a9/outcomes/1.1.json", an_outcome),
    "an agent that is over": ("agents/a9", lambda system: file(system / "agents/a9/log")),
    "a draft": ("logs/.x.2147483648.new", lambda system: file(system / "logs/.x.2147483648.new")),
    "a cache that is damaged": ("cache/definitions/x.json", cached),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_what_is_found_is_repaired_once_and_what_it_was_is_kept(root: Path, what: str) -> None:
    inner, damage = DAMAGES[what]
    system = root / "system"
    truth = seen(read_state(system).state)
    damage(system)
    before = everything(system)
    found = fsck.examine(root)
    assert f"system/{inner}" in {flaw.file for flaw in found.flaws} and found.exit_code == 1
    assert everything(system) == before, "a look changes nothing"
    report = fsck.repair(root)
    assert (report.exit_code, report.left) == (1, []) and report.kept
    assert [flaw.place for flaw in report.flaws] == [flaw.place for flaw in found.flaws]
    told = (report.kept[-1] / "README.txt").read_text() if (report.kept[-1] / "README.txt").exists() else ""
    assert told == "" or inner in told
    kept = [path.read_bytes() for path in (system / "backup").rglob("*") if path.is_file()]
    lost = {name: data for name, (_, data) in before.items() if data not in (None, b"signed") and name != "state.lock"}
    left = [path.read_bytes() for path in system.rglob("*") if path.is_file()]
    assert all(data in kept or data in left for data in lost.values())
    assert seen(read_state(system, verify=True).state) == truth
    sign(system)
    after = everything(system)
    assert fsck.examine(root).flaws == []
    again = fsck.repair(root)
    assert (again.exit_code, again.flaws, again.kept) == (0, [], []) and everything(system) == after


def test_all_of_it_at_once_is_repaired_at_once(root: Path) -> None:
    system = root / "system"
    several = (
        "a byte of the journal", "others may write to all", "a folder is the heartbeat", "a folder is the lock",
        "a file is the bell", "an ask that is old", "an outcome that is none", "a cache that is damaged",
    )  # fmt: skip
    for what in several:
        DAMAGES[what][1](system)
    report = fsck.repair(root)
    assert (report.exit_code, report.left, len(report.kept)) == (1, [], 2)
    told = (report.kept[1] / "README.txt").read_text()
    assert [flaw.what in told for flaw in report.flaws] == [True] * len(report.flaws)
    sign(system)
    assert fsck.examine(root).flaws == []


# ---- nothing to look at, and nothing to be done


def test_where_nothing_was_run_nothing_is_looked_at(tmp_path: Path) -> None:
    report = fsck.repair(tmp_path)
    assert (report.is_there, report.flaws, report.exit_code) == (False, [], 0) and os.listdir(tmp_path) == []


@pytest.mark.parametrize("make", [lambda path: path.write_text("x"), lambda path: path.symlink_to("nowhere")])
def test_where_system_is_no_folder_only_a_person_can_help(tmp_path: Path, make: Damage) -> None:
    make(tmp_path / "system")
    report = fsck.repair(tmp_path)
    assert report.is_there and [flaw.what for flaw in report.flaws] == ["it is not a folder"] and report.exit_code == 4
    assert fsck.words(report.flaws[0]).endswith("to repair:  nothing that could be done by itself")


def test_what_belongs_to_somebody_else_stays_if_it_cannot_be_given_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaw = Flaw("system/state.json", "it belongs to user 5", "as root, chown", "")
    monkeypatch.setattr(fsck.untidy, "untidiness", lambda system, is_live: [flaw])
    before = everything(root / "system")
    assert fsck.repair(root).exit_code == 4 and everything(root / "system") == before


def test_what_only_a_person_can_repair_is_not_called_left_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flaw that can be repaired beside one that cannot."""
    real = fsck.untidy.untidiness
    hopeless = Flaw("system/x", "it is odd", "who knows", "")
    monkeypatch.setattr(fsck.untidy, "untidiness", lambda system, is_live: [*real(system, is_live=is_live), hopeless])
    (root / "system" / "state.json").chmod(0o644)
    report = fsck.repair(root)
    assert (report.left, report.exit_code) == ([], 4) and (
        root / "system" / "state.json"
    ).stat().st_mode & 0o777 == 0o600


def test_what_a_repair_does_not_mend_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "system" / "state.json").chmod(0o644)
    monkeypatch.setattr(fsck.os, "chmod", lambda path, mode: None)  # as some file systems do
    report = fsck.repair(root)
    assert [flaw.file for flaw in report.left] == ["system/state.json"] and report.exit_code == 4


def test_a_newer_format_is_refused_before_anything_is_touched(root: Path) -> None:
    (root / "system" / "state.json").write_text('{"version": 99}')
    before = everything(root / "system")
    with pytest.raises(StateDamaged, match="99"):
        fsck.repair(root)
    assert everything(root / "system") == before


# ---- while somebody else writes


def test_a_run_that_is_active_is_looked_at_and_not_repaired(root: Path) -> None:
    system = root / "system"
    lock = StateLock(system)
    assert lock.acquire(RUN, process.myself(), "orch run", clock.now())
    file(system / "agents" / "a9" / "outcomes" / "1.1.json")  # the run will deal with it
    assert fsck.examine(root).flaws == []
    (system / "state.json").chmod(0o644)
    assert [flaw.file for flaw in fsck.examine(root).flaws] == ["system/state.json"]
    before = everything(system)
    with pytest.raises(RunActive):
        fsck.repair(root)
    assert everything(system) == before
    lock.release()


def test_what_is_mended_before_the_lock_is_ours_needs_no_repair(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, real = root / "system", fsck.take
    (system / "state.json").chmod(0o644)

    def take(*words: object) -> object:
        (system / "state.json").chmod(0o600)
        return real(*words)

    monkeypatch.setattr(fsck, "take", take)
    report = fsck.repair(root)
    assert (report.flaws, report.kept, report.exit_code) == ([], [], 0) and not (system / "backup").exists()


def test_a_lock_that_is_taken_away_meanwhile_ends_the_repair(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, real = root / "system", fsck.keep
    (system / "state.json").chmod(0o644)

    def keep(*words: object) -> object:
        (system / "state.lock").unlink()
        return real(*words)

    monkeypatch.setattr(fsck, "keep", keep)
    with pytest.raises(StateUnwritable, match=r"state\.lock was deleted"):
        fsck.repair(root)
    assert (system / "state.json").stat().st_mode & 0o777 == 0o644, "nothing more was changed"


def test_where_no_copy_can_be_kept_nothing_is_changed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = root / "system"
    spoil(system / "state.json")
    before = everything(system)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fsck, "keep", full)
    with pytest.raises(StateUnwritable, match="No space left on device") as caught:
        fsck.repair(root)
    assert str(system) in caught.value.message and everything(system) == before
    lock = StateLock(system)
    assert lock.acquire(RUN, process.myself(), "orch run", NOW), "it was let go"
    lock.release()


def test_with_a_file_in_the_place_of_the_copies_nothing_is_changed(root: Path) -> None:
    system = root / "system"
    file(system / "backup", b"mine")
    before = everything(system)
    assert fsck.repair(root).exit_code == 4 and everything(system) == before
    spoil(system / "state.json")
    before = everything(system)
    with pytest.raises(StateUnwritable, match="backup: File exists"):
        fsck.repair(root)
    assert everything(system) == before


# ---- the lock itself


def test_what_the_lock_said_is_kept(root: Path) -> None:
    file(root / "system" / "state.lock", b"\0said\0")
    (copies,) = fsck.repair(root).kept
    assert (copies / "state.lock").read_bytes() == b"\0said\0"


@pytest.mark.parametrize("inner", ["state.json", "state.lock", "journal"])
def test_as_root_what_belongs_to_somebody_else_is_given_back_for_good(root: Path, inner: str) -> None:
    system = root / "system"
    try:
        os.chown(system / inner, 12345, 12345)
    except PermissionError:
        pytest.skip("only root gives files away")
    report = fsck.repair(root)
    assert [flaw.file for flaw in report.flaws] == [f"system/{inner}"] and report.exit_code == 1
    assert (system / inner).stat().st_uid == system.stat().st_uid
    sign(system)
    assert fsck.examine(root).flaws == []


def test_the_lock_is_given_back_too_and_keeps_its_inode(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = root / "system" / "state.lock"
    signed, inode, told = lock.read_bytes(), lock.stat().st_ino, list[tuple[object, ...]]()
    flaw = Flaw("system/state.lock", "it belongs to user 7", "it matters", "chown 5", steps=(Own("state.lock", 5, 6),))
    monkeypatch.setattr(fsck.untidy, "untidiness", lambda system, is_live: [flaw])
    monkeypatch.setattr(fsck.os, "chown", lambda *words: told.append(words))
    (copies,) = fsck.repair(root).kept
    assert told == [(lock, 5, 6)] and lock.stat().st_ino == inode
    assert (copies / "state.lock").read_bytes() == signed, "as it was before the repair signed it"


# ---- one step


def test_a_file_is_put_where_something_else_stands_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where a folder should be")
    fsck.perform(tmp_path, Put("a/b/c", b"data"))
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"data"
    disk.drop(tmp_path / "a" / "b" / "c")
    (tmp_path / "a" / "b" / "c").mkdir()
    fsck.perform(tmp_path, Put("a/b/c", b"data"))
    fsck.perform(tmp_path, Put("a/b/c", b"more"))
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"more"


@pytest.mark.parametrize("step", [Close("gone", 0o600), Own("gone", 0, 0), Drop("gone"), Drop("gone/below")])
def test_a_step_about_what_is_gone_is_made_already(tmp_path: Path, step: Drop) -> None:
    fsck.perform(tmp_path, step)
    assert os.listdir(tmp_path) == []


def test_what_is_given_back_belongs_to_whom_the_step_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[object, ...]] = []
    monkeypatch.setattr(fsck.os, "chown", lambda *words: told.append(words))
    (tmp_path / "a").write_text("")
    fsck.perform(tmp_path, Own("a", 5, 6))
    assert told == [(tmp_path / "a", 5, 6)]
