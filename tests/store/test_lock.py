from __future__ import annotations

import errno
import json
import os
import signal
import stat
from pathlib import Path

import pytest

from orchestrator import clock, disk, process
from orchestrator.core.names import iso
from orchestrator.errors import RunActive, StateUnwritable
from orchestrator.store.lock import RUN, TURN, Holder, StateLock, active, holder, warnings_of
from tests.core.given import ME, NOW
from tests.driving import wait_for
from tests.store.given import Holding


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return tmp_path


def taken(system: Path) -> StateLock:
    lock = StateLock(system)
    assert lock.acquire(RUN, ME, "orch run", NOW)
    return lock


def is_free(system: Path) -> bool:
    lock = StateLock(system)
    if not lock.acquire(TURN, ME, "orch", NOW):
        return False
    lock.release()
    return True


def test_the_file_names_the_holder_and_only_the_owner_may_read_it(system):
    lock = taken(system)
    assert holder(system) == Holder(ME, RUN, iso(NOW), "orch run")
    assert str(holder(system)) == f"pid 10 on host, since {iso(NOW)}: orch run"
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600
    lock.release()


def test_a_shorter_signature_leaves_nothing_of_a_longer_one(system):
    lock = StateLock(system)
    lock.acquire(RUN, ME, "orch run " + "x" * 500, NOW)
    lock.release()
    lock = taken(system)
    assert json.loads(lock.path.read_text())["command"] == "orch run"
    lock.release()


def test_two_processes_cannot_hold_it_and_the_signature_stays(system):
    with Holding(system) as other:
        assert other.said == "held" and not is_free(system)
        assert holder(system).identity == other.identity, "a contender changes nothing in the file"
    with Holding(system, TURN) as other:
        assert other.said == "held"


def test_it_is_refused_to_another_process_while_we_hold_it(system):
    lock = taken(system)
    with Holding(system) as other:
        assert other.said == "refused" and holder(system).identity == ME
    lock.release()
    assert is_free(system)


def test_it_goes_with_the_process_whatever_kills_it_and_no_child_keeps_it(system):
    with Holding(system, RUN, "child") as other:
        assert other.said == "held"
        until = clock.ticking() + 20
        while not process.descendants(other.identity.pid) and clock.ticking() < until:
            clock.pause(0.01)
        child = other.kill()
        try:
            assert process.is_alive(process.identity(child)) == process.ALIVE
            wait_for(lambda: is_free(system), why="a child keeps it")  # it had a copy until it began its program
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_lock_that_is_lost_from_under_us_is_noticed(system, how):
    lock = taken(system)
    lock.still_mine()
    lock.path.rename(system / "aside")
    if how == "replaced":
        lock.path.write_text("")
    with pytest.raises(StateUnwritable, match=f"was {how} while this run held it") as caught:
        lock.still_mine()
    assert "nothing more was written" in caught.value.remedy
    lock.release()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"identity": 3}', '{"identity": {"pid": 1}}', "\x00\xff"])
def test_a_signature_that_cannot_be_read_is_nobody(system, text):
    (system / "state.lock").write_text(text)
    assert holder(system) is None and is_free(system)


def test_nobody_holds_what_is_not_there(system):
    assert holder(system) is None


def test_a_lock_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "system").write_text("a file")
    with pytest.raises(StateUnwritable, match="could not be written"):
        StateLock(tmp_path / "system").acquire(RUN, ME, "orch run", NOW)


def test_a_network_file_system_is_warned_of_and_a_local_one_is_not(system, monkeypatch):
    monkeypatch.setattr(disk, "file_system", lambda path: "nfs4")
    assert warnings_of(system) == [
        f"{system} is on a network file system (nfs4): locks and syncs may not mean there what they say"
    ]
    monkeypatch.setattr(disk, "file_system", lambda path: "ext4")
    assert warnings_of(system) == []


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(system, monkeypatch, number):
    lock = StateLock(system)

    def acquire(**_: object) -> None:
        raise OSError(number, "no flock here")

    monkeypatch.setattr(lock._lock, "acquire", acquire)
    with pytest.raises(StateUnwritable, match="does not support locks") as caught:
        lock.acquire(RUN, ME, "orch run", NOW)
    assert "local file system" in caught.value.remedy


def test_another_run_is_named():
    error = active(Holder(ME, RUN, iso(NOW), "orch run --new"))
    assert isinstance(error, RunActive) and error.exit_code == 75
    assert error.message == f"another run is active (pid 10 on host, since {iso(NOW)}: orch run --new)"
    assert "somebody who is just starting" in active(None).message


def test_a_lock_that_cannot_be_signed_is_said(system, monkeypatch):
    def full(fd, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    lock = StateLock(system)
    with pytest.raises(StateUnwritable, match=r"state\.lock: No space left on device"):
        lock.acquire(RUN, ME, "orch run", NOW)
    lock.release()
