"""The lock and whoever waits for it, on a clock that only goes on while somebody waits."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from orchestrator import process
from orchestrator.core.names import iso
from orchestrator.errors import RunActive, StateUnwritable
from orchestrator.store import taking
from orchestrator.store.lock import RUN, TURN, Holder, StateLock, holder
from orchestrator.store.taking import Patience, take
from tests.core.given import ME, NOW
from tests.store.given import (
    Holding,
)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return tmp_path / "system"


# ---- the lock


def test_who_finds_it_held_is_told_at_once(tmp_path, monkeypatch):
    ours, other, tries = StateLock(tmp_path), StateLock(tmp_path), list[int]()
    assert ours.acquire(RUN, ME, "orch run", NOW) is True
    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: tries.append(how) or real(fd, how))
    assert other.acquire(RUN, ME, "orch run", NOW) is False
    assert len(tries) == 1, "it does not wait for it"
    ours.release()


def test_it_belongs_to_the_process_and_not_to_a_thread(tmp_path):
    lock, said = StateLock(tmp_path), list[object]()
    lock.acquire(RUN, ME, "orch run", NOW)
    thread = threading.Thread(target=lambda: said.append(lock.still_mine()))
    thread.start()
    thread.join()
    assert said == [None]
    lock.release()


def test_where_the_kernel_has_no_locks_a_file_is_not_taken_for_one(tmp_path, monkeypatch):
    def flock(fd: int, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StateUnwritable, match="does not support locks"):
        StateLock(tmp_path).acquire(RUN, ME, "orch run", NOW)


def test_a_signature_without_a_time_is_nobodys(tmp_path):
    document = Holder(ME, RUN, iso(NOW), "orch run").as_dict()
    (tmp_path / "state.lock").write_text(json.dumps(document))
    assert holder(tmp_path) is not None
    (tmp_path / "state.lock").write_text(json.dumps({**document, "since": "yesterday"}))
    assert holder(tmp_path) is None


# ---- taking the lock


class Turns:
    """A clock that only goes on while somebody waits, and a lock that is refused until a moment of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free_at: float) -> None:
        self.now, self.looks, self._free_at = 0.0, 0, free_at
        monkeypatch.setattr(taking.clock, "ticking", lambda: self.now)
        monkeypatch.setattr(taking.clock, "pause", self._pause)
        monkeypatch.setattr(taking, "holder", lambda system: Holder(process.myself(), TURN, iso(NOW), "orch status"))

    def acquire(self, *_: object) -> bool:
        self.looks += 1
        assert self.looks < 1000, "between two looks it waits"
        return self.now >= self._free_at

    def _pause(self, seconds: float) -> None:
        self.now += seconds

    def take(self, system: Path) -> list[str]:
        return take(self, system, RUN, ME, "orch run", patient())  # type: ignore[arg-type]


def patient(*, takeover: bool = False) -> Patience:
    return Patience(120.0, 1.0, takeover=takeover, ends_hung=True)


def test_the_end_of_a_turn_is_noticed_before_anybody_notices_the_wait(tmp_path, monkeypatch):
    turn = Turns(monkeypatch, free_at=0.3)
    assert turn.take(tmp_path) == [] and turn.now < 0.8


def test_at_the_very_end_of_its_patience_it_looks_once_more(tmp_path, monkeypatch):
    monkeypatch.setattr(taking, "LOOK_EVERY", 0.25)
    monkeypatch.setattr(taking, "TURN_PATIENCE", 0.5)
    assert Turns(monkeypatch, free_at=0.75).take(tmp_path) == []
    with pytest.raises(RunActive):
        Turns(monkeypatch, free_at=1.0).take(tmp_path)


def test_one_that_is_silent_for_as_long_as_it_may_be_hangs(tmp_path, monkeypatch):
    found, ended = Holder(process.myself(), RUN, iso(NOW), "orch run"), list[str]()
    monkeypatch.setattr(taking, "silent_for", lambda found, system: 120.0)
    monkeypatch.setattr(taking, "_end", lambda who, life, grace: not ended.append(life))
    assert "hung" in taking._deal_with(found, tmp_path, patient())[0] and ended == [process.ALIVE]
    monkeypatch.setattr(taking, "_end", lambda who, life, grace: False)
    with pytest.raises(RunActive):
        taking._deal_with(found, tmp_path, patient())  # it is still there


def test_whoever_is_ended_after_a_long_wait_for_a_turn_was_not_ended_in_vain(tmp_path, monkeypatch):
    """The moment in which it leaves the lock counts from its end."""
    turn = Turns(monkeypatch, free_at=4.5 + taking.SIGNING_PATIENCE / 2)

    def holder(system):
        purpose = TURN if turn.now < 4.5 else RUN
        return Holder(process.myself().replace(ticks=1) if ended else process.myself(), purpose, iso(NOW), "orch run")

    ended = list[str]()
    monkeypatch.setattr(taking, "holder", holder)
    monkeypatch.setattr(taking, "_deal_with", lambda found, *_: ended.append("it was ended") or ["it was ended"])
    assert turn.take(tmp_path) == ["it was ended"]


@pytest.mark.parametrize(("stopped", "by"), [(True, signal.SIGKILL), (False, signal.SIGTERM)])
def test_one_that_hangs_is_asked_and_one_that_was_stopped_is_not_woken_for_it(tmp_path, stopped, by):
    with Holding(tmp_path, RUN, "silent") as other:
        if stopped:
            other.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, other.identity.pid, os.WSTOPPED)
        lock = StateLock(tmp_path)
        take(lock, tmp_path, RUN, process.myself(), "orch run", patient(takeover=True))
        lock.release()
        assert other._child.wait() == -by
