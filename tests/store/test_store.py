from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from orchestrator import disk
from orchestrator.core import events as ev
from orchestrator.errors import StateUnwritable
from orchestrator.store import snapshot
from orchestrator.store.reading import read_state
from orchestrator.store.store import NOTHING_DUE, SMALL, JournalStore, unwritable
from tests.core.given import NOW, completed, intended, iso
from tests.store.given import commit_all, decision, journal, opening, read, remark, seen, store_of, turns


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return tmp_path / "system"


def seq_of(system: Path) -> int:
    return int(json.loads((system / "state.json").read_bytes())["seq"])


class Killed(BaseException):
    """As if the process had ended here."""


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """The paths that a function of disk.py was called with."""
    calls: list[str] = []
    real = getattr(disk, name)
    monkeypatch.setattr(
        disk, name, lambda path, *args, **keys: calls.append(Path(path).name) or real(path, *args, **keys)
    )
    return calls


# ---- commit


def test_what_was_committed_is_there_after_reopening(system):
    store = store_of(system)
    commit_all(store, [opening(2), *turns(1, 1), decision(intended(2))])
    state = seen(store.state)
    store.close()
    again = store_of(system)
    assert seen(again.state) == state and again.position == store.position and not again.notices
    again.close()


def test_what_was_committed_is_there_although_nothing_was_closed(system):
    store = store_of(system)
    commit_all(store, [opening(2), *turns(1, 1)], settle=False)
    assert not (system / "state.json").exists() and read(system) == seen(store.state)
    store._file.close()


def test_one_decision_is_one_line_on_the_disk_before_anything_is_folded(system, monkeypatch):
    store = store_of(system)
    synced: list[int] = []
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        synced.append(len(store.state.phases))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    store.commit(opening(3), NOW)
    assert synced == [0] and len(store.state.phases) == 3
    line = (system / "journal" / "000000000001.jsonl").read_text()
    assert line.count("\n") == 1
    document = json.loads(line)
    assert (document["v"], document["seq"], document["at"]) == (1, 1, iso(NOW))
    assert [event["event"] for event in document["events"]] == ["RunStarted", "PlanAdopted"]
    assert document["because"] == ["a test", "a test"]
    store.close()


def test_what_one_that_was_killed_had_not_synced_is_safe_before_anybody_acts_on_it(system, monkeypatch):
    """A line that can be read may still be lost with the power: whoever opens the store has it on the disk first."""
    first = store_of(system)
    first.commit(opening(), NOW)

    def killed(fd: int) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "fdatasync", killed)
        first.commit(decision(intended(1)), NOW)
    confirmed, synced = counted(monkeypatch, "confirm"), counted(monkeypatch, "sync_folder")
    after = store_of(system)
    assert after.position.seq == 2 and confirmed == ["000000000001.jsonl"]
    assert {"journal", "system", system.parent.name} <= set(synced)
    after.close()


def test_a_commit_tells_how_each_phase_moved(system):
    store = store_of(system)
    store.commit(opening(), NOW)
    moves = store.commit(decision(intended(1), completed(1), ev.RunEnded("completed", 0)), NOW)
    assert [(number, before.place, after.place) for number, before, after in moves] == [
        (1, "pending", "starting"), (1, "starting", "completed"),
    ]  # fmt: skip
    store.close()


def test_nothing_is_written_once_the_lock_is_not_ours(system):
    def not_mine() -> None:
        raise StateUnwritable("the lock was deleted")

    store = JournalStore(system, not_mine)
    with pytest.raises(StateUnwritable, match="deleted"):
        store.commit(opening(), NOW)
    assert store.state.run.id == "" and (system / "journal" / "000000000001.jsonl").read_bytes() == b""
    store.close()


def test_only_the_owner_may_read_it(system):
    mask = os.umask(0)
    try:
        store = store_of(system, segment_bytes=300)
        commit_all(store, [opening(), *turns(1, 1)])
        store.close()
    finally:
        os.umask(mask)
    for path in [system, *system.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


# ---- state.json


def test_a_small_one_is_written_after_every_decision(system):
    store = store_of(system)
    for seq, one in enumerate([opening(), *turns(1, 1)], start=1):
        store.commit(one, NOW)
        assert store.settle(NOW) == NOTHING_DUE and seq_of(system) == seq
    assert store.settle(NOW) == NOTHING_DUE
    store.close()


def test_a_large_one_is_written_once_a_second_and_exactly_at_the_end(system):
    store = store_of(system)
    store.commit(opening(200), NOW)
    store.settle(NOW)
    assert (system / "state.json").stat().st_size > SMALL and seq_of(system) == 1
    store.commit(decision(intended(1)), NOW + 0.4)
    assert store.settle(NOW + 0.4) == pytest.approx(0.6, abs=1e-6) and seq_of(system) == 1
    store.commit(decision(intended(2)), NOW + 0.9)
    assert store.settle(NOW + 1.0) == NOTHING_DUE and seq_of(system) == 3
    store.commit(decision(completed(1)), NOW + 1.1)
    store.close()
    assert seq_of(system) == 4


def test_a_clock_that_was_set_back_delays_nothing(system):
    store = store_of(system)
    store.commit(opening(200), NOW)
    store.settle(NOW)
    store.commit(decision(intended(1)), NOW - 9999)
    assert store.settle(NOW - 9999) == NOTHING_DUE and seq_of(system) == 2
    store.close()


def test_it_is_exact_at_rest_also_after_one_that_was_killed(system):
    store = store_of(system)
    commit_all(store, [opening()])
    store.commit(decision(intended(1)), NOW)
    store._file.close()  # killed before it was written
    assert seq_of(system) == 1
    store_of(system).close()
    assert seq_of(system) == 2


# ---- compaction


def compacted(system: Path, attempts: int = 30) -> JournalStore:
    store = store_of(system, segment_bytes=1000)
    commit_all(store, [opening()])
    for attempt in range(1, attempts):
        commit_all(store, turns(1, attempt))
    while not store.position.offset:  # the newer segment holds a line, too
        commit_all(store, [remark()])
    return store


def test_two_segments_are_kept_with_the_state_before_each(system):
    store = compacted(system)
    names = journal(system)
    firsts = sorted({int(name[:12]) for name in names})
    assert len(firsts) == 2 and firsts[1] == store.position.segment and firsts[0] > 1
    assert names == sorted(f"{first:012d}.{kind}" for first in firsts for kind in ("jsonl", "snapshot.json"))
    store.close()


def test_every_copy_gives_the_same_state(system):
    store = compacted(system)
    store.close()
    state, old = seen(store.state), journal(system)
    assert read(system) == state
    (system / "state.json").unlink()
    assert read(system) == state, "from the older base"
    base = system / "journal" / old[1]
    assert base.name.endswith(".snapshot.json")
    base.write_bytes(base.read_bytes()[:-20])
    assert read(system) == state, "from the newer base, when the older one is damaged"
    assert store_of(system).state.run == store.state.run


@pytest.mark.parametrize("how", ["changed", "cut off", "emptied"])
def test_a_damaged_older_segment_is_mended_from_the_snapshot(system, how):
    store = compacted(system)
    store.close()
    older = system / "journal" / journal(system)[0]
    assert older.name.endswith(".jsonl")
    data = bytearray(older.read_bytes())
    if how == "changed":
        data[len(data) // 2] ^= 1
    older.write_bytes(data if how == "changed" else data[:-30] if how == "cut off" else b"")
    again = store_of(system)
    assert "the journal is damaged" in again.notices[0] and seen(again.state) == seen(store.state)
    assert how == "emptied" or older.name in again.notices[0], "it names the file that is damaged"
    again.close()
    third = store_of(system)
    assert not third.notices and seen(third.state) == seen(store.state)
    third.close()


def test_a_segment_is_not_closed_before_it_outweighs_the_snapshot(system):
    store = store_of(system, segment_bytes=10)
    commit_all(store, [opening(300)])
    size = (system / "state.json").stat().st_size
    while store.position.segment == 1:
        before = store.position.offset
        commit_all(store, [decision(ev.AgentLeft("a", "x" * 5000))])
        store._written_at = 0.0
    assert before <= 2 * size < before + 6000
    store.close()


STEPS = ("replace", "remove", "Appender")


def interrupt(
    monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException, names: tuple[str, ...] = STEPS
) -> list[str]:
    """The `at`-th of the steps that a compaction takes fails; returns the steps as they are taken."""
    taken: list[str] = []
    for name in names:
        real = getattr(disk, name)

        def step(path: Path, *args: object, _real=real, _name=name, **keys: object) -> object:
            taken.append(f"{_name} {path.name}")
            if len(taken) == at:
                raise error
            return _real(path, *args, **keys)

        monkeypatch.setattr(disk, name, step)
    return taken


def full(system: Path) -> JournalStore:
    """A store with two compactions behind it, about to make another one."""
    store = compacted(system, 20)
    store._segment_bytes = 10**9
    commit_all(store, turns(1, 20))
    store._segment_bytes = 1
    return store


@pytest.mark.parametrize("at", range(1, 8))
@pytest.mark.parametrize("lost", [False, True], ids=["with state.json", "without"])
def test_killed_between_any_two_steps_of_a_compaction_nothing_is_lost(system, at, lost):
    store = full(system)
    with pytest.MonkeyPatch.context() as patch:
        taken = interrupt(patch, at, Killed())
        try:
            commit_all(store, turns(1, 21)[:1], settle=False)
            while store._position.offset <= 3 * store._size:
                store.commit(decision(ev.AgentLeft("a", "x" * 500)), NOW)
            store.settle(NOW)
        except Killed:
            assert len(taken) == at
        else:
            assert len(taken) < at and at > 6, taken
    state = seen(store.state)
    if lost:
        (system / "state.json").unlink()
    assert read(system) == state
    again = store_of(system, segment_bytes=1000)
    assert seen(again.state) == state
    commit_all(again, [decision(completed(1, 21)), decision(ev.PhaseReset(1, "again"))])
    for attempt in range(22, 40):
        commit_all(again, turns(1, attempt))
    again.close()
    assert read(system) == seen(again.state)
    assert len([name for name in journal(system) if name.endswith(".jsonl")]) == 2


@pytest.mark.parametrize("at", range(1, 5))
def test_a_compaction_that_cannot_be_written_stops_the_store_and_closing_it_is_quiet(system, at):
    store = full(system)
    store.commit(decision(ev.AgentLeft("a", "x" * 9000)), NOW)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, at, OSError(errno.ENOSPC, "No space left on device", "/somewhere"))
        with pytest.raises(StateUnwritable, match="/somewhere: No space left on device"):
            store.settle(NOW)
    with pytest.raises(StateUnwritable):
        store.commit(decision(ev.AgentLeft("a", "")), NOW)
    store.close()
    assert read(system) == seen(store.state)


# ---- what cannot be written


@pytest.mark.parametrize(
    ("call", "number"), [("fdatasync", errno.EIO), ("fdatasync", errno.ENOSPC), ("write", errno.ENOSPC)]
)
def test_after_a_failed_write_or_sync_nothing_is_written_and_nothing_is_synced_again(system, call, number):
    store = store_of(system)
    commit_all(store, [opening()])
    before, state = (system / "state.json").read_bytes(), seen(store.state)

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(StateUnwritable, match=os.strerror(number)) as caught:
            store.commit(decision(intended(1)), NOW)
    assert caught.value.exit_code == 74 and "000000000001.jsonl" in caught.value.message
    assert seen(store.state) == state, "what is not on the disk is not true"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", fails)
        patch.setattr(os, "fdatasync", fails)
        for _ in range(2):
            with pytest.raises(StateUnwritable) as again:
                store.commit(decision(intended(1)), NOW)
            assert again.value is caught.value
        store.close()
    assert (system / "state.json").read_bytes() == before


def test_half_a_line_on_a_full_disk_is_a_decision_not_taken(system):
    store = store_of(system)
    commit_all(store, [opening()])
    real = os.write

    def half(fd: int, data: memoryview) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data[: len(data) // 2])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(StateUnwritable):
            store.commit(decision(intended(1)), NOW)
    store.close()
    assert read_state(system).torn
    again = store_of(system)
    assert again.position.seq == 1 and not again.notices
    commit_all(again, [decision(intended(1))])
    again.close()
    assert read(system) == seen(again.state) and not read_state(system).torn


def test_a_snapshot_that_cannot_be_written_is_said_and_stops_the_store(system):
    store = store_of(system)
    store.commit(opening(), NOW)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, 1, OSError(errno.EROFS, "Read-only file system"), ("replace",))
        with pytest.raises(StateUnwritable, match="Read-only file system"):
            store.settle(NOW)
    with pytest.raises(StateUnwritable):
        store.commit(decision(intended(1)), NOW)
    store.close()
    assert read(system) == seen(store.state)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "system").write_text("a file")
    with pytest.raises(StateUnwritable, match=r"could not be written: .*system"):
        store_of(tmp_path / "system")


def test_the_snapshot_is_on_the_disk_at_rest_and_only_then(system, monkeypatch):
    durable: list[bool] = []
    real = disk.replace

    def replace(path: Path, data: bytes, **how: bool) -> None:
        durable.append(how["durable"])
        real(path, data, **how)

    monkeypatch.setattr(disk, "replace", replace)
    store = store_of(system)
    commit_all(store, [opening(), decision(intended(1))])
    store.commit(decision(completed(1)), NOW)
    store.close()
    assert durable == [False, False, True]
    found = snapshot.load(system / "state.json")
    assert found is not None and found[1] == store.position  # type: ignore[index]


def test_what_belongs_to_another_account_is_no_matter_of_room() -> None:
    told = unwritable(PermissionError(errno.EACCES, "Permission denied", "/p/system/state.json"), Path("/p/system"))
    assert told.message.endswith("/p/system/state.json: Permission denied")
    assert told.remedy == "run it as the account that the project belongs to"
