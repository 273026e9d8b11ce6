"""A project at rest: when a run may say without the lock that there is nothing to do, and each thing that forbids it."""

from __future__ import annotations

import os

import pytest

from orchestrator import clock, config, process, resting
from orchestrator.core.outward import Target
from orchestrator.resting import is_at_rest, is_proven, look_ahead
from orchestrator.store.lock import TURN, StateLock
from orchestrator.supervisor import Supervisor
from tests.driving import Project


@pytest.fixture
def done(project: Project) -> Project:
    project.commands({"number": 1, "name": "one", "run": "true"})
    assert project.orch("run").code == 0
    return project


def rests(project: Project, **changed: object) -> bool:
    loaded = look_ahead(project.system)
    settings = config.settings(project.root, {}, {}).replace(**changed)
    return loaded is not None and is_at_rest(project.system, loaded, settings) and is_proven(project.system, loaded)


def test_each_thing_that_somebody_would_have_to_do_forbids_it(done: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rests(done)
    assert not rests(done, notify={"ops": Target(url="https://example.org")})
    with monkeypatch.context() as other:
        other.setattr(resting, "SUPERVISOR", Supervisor({"NOTIFY_SOCKET": "/run/it"}))
        assert not rests(done)
    with monkeypatch.context() as other:
        other.setattr(resting, "warnings_of", lambda system: ["it is on a network file system"])
        assert not rests(done)
    for left in (
        "asks/1.json",
        "asks/.1.json.7.new",
        "journal/.a.new",
        ".state.json.7.new",
        "logs/.heartbeat.json.7.new",
        "outbox",
    ):
        path = done.system / left
        path.touch()
        assert not rests(done), left
        path.unlink()
    assert rests(done)


def test_whoever_holds_the_lock_is_asked(done: Project) -> None:
    lock = StateLock(done.system)
    assert lock.acquire(TURN, process.myself(), "orch turn", clock.now())
    assert look_ahead(done.system) is None
    lock.release()
    dead = process.myself().replace(pid=os.getpid() + 1, ticks=1)
    assert lock.acquire(TURN, dead, "orch turn", clock.now())
    lock.release()
    assert rests(done)


def test_what_is_torn_or_damaged_or_not_folded_in_yet_is_for_a_writer(done: Project) -> None:
    journal = done.system / "journal" / "000000000001.jsonl"
    whole, state = journal.read_bytes(), (done.system / "state.json").read_bytes()
    journal.write_bytes(whole + b'{"v":1,"se')
    assert not rests(done)
    journal.write_bytes(whole[:50] + b"?" + whole[51:])
    loaded = look_ahead(done.system)
    assert loaded is not None and not is_proven(done.system, loaded)
    journal.write_bytes(whole[:-20])
    assert not rests(done)
    journal.write_bytes(whole)
    assert rests(done)
    (done.system / "state.json").unlink()
    assert not rests(done)
    (done.system / "state.json").write_bytes(state)
    assert rests(done)
    assert done.orch("run", "--new").code == 0 and rests(done)
    (done.system / "state.json").write_bytes(state)
    assert not rests(done)  # its last lines may not be on the disk
    done.commands({"number": 1, "name": "one", "run": "true", "approval": True})
    assert done.orch("run", "--new").code == 3
    assert not rests(done)  # somebody is waited for, and their time may be over


def test_a_run_without_the_lock_says_what_one_with_it_says(done: Project) -> None:
    short = done.orch("run")
    done.file("system/asks/.1.json.7.new", "")
    assert done.orch("run") == short
    assert "nothing to do: 1 done in run" in short.out
