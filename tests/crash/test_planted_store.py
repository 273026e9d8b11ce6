"""Planted bugs of the store and of identity: each is a way to get it wrong, and the check that must notice it does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import clock, disk, process
from orchestrator.core import events as ev
from orchestrator.core.names import Identity
from orchestrator.errors import OrchError
from orchestrator.process import alive
from orchestrator.store import journal, lines
from orchestrator.store.lock import RUN, StateLock
from orchestrator.store.reading import read_state
from orchestrator.store.store import JournalStore
from tests.core.given import NOW
from tests.crash.test_power import broken_replaces, faults_of
from tests.store.given import commit_all, decision, opening, seen, store_of, turns

Plant = Callable[[pytest.MonkeyPatch], None]
Check = Callable[[Path], list[Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    with tempfile.TemporaryDirectory(dir=place) as made:
        yield Path(made)


# ---- the checks: what they find wrong


def power(folder: Path) -> list[str]:
    return faults_of(folder, 5, 8, every=10).faults


def replacing(folder: Path) -> list[bytes]:
    return broken_replaces(folder, b"the old bytes")


def flips(folder: Path) -> list[int]:
    """Bytes of the journal that say something else, and nobody notices; there is no other copy."""
    store = store_of(folder / "system")
    commit_all(store, [opening(), *turns(1, 1), *turns(1, 2)])
    store.close()
    (folder / "system/state.json").unlink()
    path = journal.path_of(folder / "system/journal", 1)
    right, data = seen(read_state(folder / "system").state), path.read_bytes()
    found = []
    for place, byte in enumerate(data):
        if chr(byte).isdigit() and byte != ord("9"):
            path.write_bytes(data[:place] + bytes([byte + 1]) + data[place + 1 :])
            try:
                if seen(read_state(folder / "system").state) != right:
                    found.append(place)
            except OrchError:
                continue
    return found


def lock_gone(folder: Path) -> list[str]:
    """Somebody deletes the lock while it is held, and commits go on."""
    (folder / "system").mkdir()
    lock = StateLock(folder / "system")
    assert lock.acquire(RUN, process.myself(), "orch run", clock.now())
    store = JournalStore(folder / "system", lock.still_mine)
    lock.path.unlink()
    try:
        store.commit(opening(), NOW)
        return ["committed"]
    except OrchError:
        return []
    finally:
        store.close()
        lock.release()


def pid_used_again(folder: Path) -> list[str]:
    """Somebody else has the pid of one that is gone: its ticks say so."""
    me = process.myself()
    return [] if process.is_alive(Identity(me.pid, me.ticks + 1, me.boot, me.host)) == process.DEAD else ["alive"]


def boot_over(folder: Path) -> list[str]:
    me = process.myself()
    return [] if process.is_alive(Identity(me.pid, me.ticks, "another boot", me.host)) == process.DEAD else ["alive"]


def after_failed_sync(folder: Path) -> list[str]:
    """A sync fails once; whoever goes on believes the next one, which succeeds and proves nothing."""
    store = store_of(folder / "system")
    store.commit(opening(), NOW)
    real, failing = os.fdatasync, [True]

    def fails_once(fd: int) -> None:
        if failing and failing.pop():
            raise OSError(5, "Input/output error")
        real(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", fails_once)
        for number in (1, 2):
            try:
                store.commit(decision(ev.AgentEngaged(f"agent {number}", process.myself())), NOW)
            except OrchError:
                continue
            return ["went on"]
    store.close()
    return []


# ---- the bugs


def a_sync_left_out(patch: pytest.MonkeyPatch) -> None:
    right = disk.Appender.append
    patch.setattr(disk.Appender, "append", lambda self, data, *, durable: right(self, data, durable=False))


def a_folder_not_synced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(disk, "sync_folder", lambda path: None)


def a_rename_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    def replace(path: Path, data: bytes, *, durable: bool) -> None:
        draft = path.with_name(".draft")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT)
        disk.write_all(fd, data)
        os.rename(draft, path)
        os.fdatasync(fd)
        os.close(fd)
        disk.sync_folder(path.parent)

    patch.setattr(disk, "replace", replace)


def a_checksum_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    def check(raw: bytes, chain: int) -> int:
        told = lines.told_chain(raw)
        if told is None:
            raise lines.BadLine("no line")
        return told

    patch.setattr(lines, "check", check)


def the_inode_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(StateLock, "still_mine", lambda self: None)


def ticks_ignored(patch: pytest.MonkeyPatch) -> None:
    right = alive.is_alive

    def is_alive(who: Identity) -> str:
        entry = process.entry_of(who.pid)
        return right(who.replace(ticks=entry.ticks) if entry else who)

    patch.setattr(process, "is_alive", is_alive)


def boot_ignored(patch: pytest.MonkeyPatch) -> None:
    right = alive.is_alive
    patch.setattr(process, "is_alive", lambda who: right(who.replace(boot=process.boot())))


def a_failed_sync_forgotten(patch: pytest.MonkeyPatch) -> None:
    right = JournalStore.commit

    def commit(self: JournalStore, *what: Any) -> Any:
        self._failed = None
        return right(self, *what)

    patch.setattr(JournalStore, "commit", commit)


PLANTED: dict[str, tuple[Plant, Check]] = {
    "one sync left out": (a_sync_left_out, power),
    "no sync of the folder": (a_folder_not_synced, power),
    "rename before sync": (a_rename_before_the_sync, replacing),
    "a checksum not looked at": (a_checksum_not_looked_at, flips),
    "the lock's inode not looked at": (the_inode_not_looked_at, lock_gone),
    "the start ticks ignored": (ticks_ignored, pid_used_again),
    "another boot taken for this one": (boot_ignored, boot_over),
    "a failed sync forgotten": (a_failed_sync_forgotten, after_failed_sync),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_noticed_and_without_it_nothing_is(folder: Path, bug: str) -> None:
    plant, check = PLANTED[bug]
    (folder / "right").mkdir()
    (folder / "wrong").mkdir()
    assert check(folder / "right") == []
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        assert check(folder / "wrong") != []
