from __future__ import annotations

import signal
from pathlib import Path

import pytest

from orchestrator import clock, process
from orchestrator.core.names import Moment, iso
from orchestrator.core.state import State
from orchestrator.errors import RunActive
from orchestrator.store import taking
from orchestrator.store.heartbeat import Heartbeat
from orchestrator.store.lock import RUN, TURN, Holder, StateLock, holder
from orchestrator.store.taking import Patience, silent_for, take
from tests.core.given import ME
from tests.store.given import Holding

HUNG_AFTER = 120.0


def patience(*, takeover: bool = False, ends_hung: bool = True, grace: float = 1.0) -> Patience:
    return Patience(HUNG_AFTER, grace, takeover=takeover, ends_hung=ends_hung)


def taking_of(system: Path, how: Patience) -> list[str]:
    lock = StateLock(system)
    notes = take(lock, system, RUN, process.myself(), "orch run", how)
    assert holder(system).identity == process.myself()
    lock.release()
    return notes


def await_state(holding: Holding, state: str) -> None:
    until = clock.ticking() + 20
    while process.is_alive(holding.identity) != state:
        assert clock.ticking() < until
        clock.pause(0.01)


def test_from_nobody_it_is_taken_at_once(tmp_path):
    assert taking_of(tmp_path, patience()) == []


@pytest.mark.parametrize("takeover", [False, True])
def test_a_run_that_is_alive_keeps_it_and_is_named(tmp_path, takeover):
    with Holding(tmp_path, RUN, "beats", "old") as other:
        since = clock.ticking()
        with pytest.raises(RunActive, match=rf"another run is active \(pid {other.identity.pid} on .*: orch run\)"):
            taking_of(tmp_path, patience(takeover=takeover))
        assert clock.ticking() - since < taking.TURN_PATIENCE / 2, "nobody waits for a run"
        assert not other.is_over


def test_one_that_just_took_it_and_has_not_beaten_yet_is_alive(tmp_path):
    with Holding(tmp_path, RUN) as other:
        with pytest.raises(RunActive):
            taking_of(tmp_path, patience())
        assert not other.is_over


def test_a_turn_is_waited_for(tmp_path):
    with Holding(tmp_path, TURN, "0.5"):
        assert taking_of(tmp_path, patience()) == []


def test_a_turn_that_does_not_end_is_named_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(taking, "TURN_PATIENCE", 0.3)
    with Holding(tmp_path, TURN) as other:
        with pytest.raises(RunActive, match=f"pid {other.identity.pid}"):
            taking_of(tmp_path, patience(takeover=True))
        assert not other.is_over


def test_a_stopped_run_is_named_with_what_helps_and_not_touched(tmp_path):
    with Holding(tmp_path, RUN, "silent") as other:
        other.signal(signal.SIGSTOP)
        await_state(other, process.STOPPED)
        with pytest.raises(RunActive, match="somebody stopped it with a signal") as caught:
            taking_of(tmp_path, patience())
        assert f"kill -CONT {other.identity.pid}" in caught.value.remedy and "--takeover" in caught.value.remedy
        assert process.is_alive(other.identity) == process.STOPPED


def test_a_stopped_run_is_ended_when_that_was_asked_for(tmp_path):
    with Holding(tmp_path, RUN, "beats") as other:
        other.signal(signal.SIGSTOP)
        await_state(other, process.STOPPED)
        notes = taking_of(tmp_path, patience(takeover=True))
        assert notes == [f"took over from pid {other.identity.pid}, which was stopped; it was ended"]
        assert process.is_alive(other.identity) == process.DEAD


@pytest.mark.parametrize("stubborn", [[], ["stubborn"]], ids=["obeys", "insists"])
def test_a_hung_run_is_ended_and_taken_over(tmp_path, stubborn):
    with Holding(tmp_path, RUN, "silent", *stubborn) as other:
        notes = taking_of(tmp_path, patience(grace=0.3))
        expected = f"took over from pid {other.identity.pid}, which hung: its loop had been silent for 16m"
        assert len(notes) == 1 and notes[0].startswith(expected)
        assert process.is_alive(other.identity) == process.DEAD


def test_one_that_never_beat_counts_from_when_it_took_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "lifetime", lambda who: 7200.0)
    with Holding(tmp_path, RUN, "old") as other:
        assert (
            "silent for 1h" in taking_of(tmp_path, patience())[0] and process.is_alive(other.identity) == process.DEAD
        )


@pytest.mark.parametrize("how", [["silent"], ["beats"]])
def test_a_command_that_only_asks_ends_nobody(tmp_path, how):
    with Holding(tmp_path, RUN, *how) as other:
        with pytest.raises(RunActive):
            taking_of(tmp_path, patience(takeover=True, ends_hung=False))
        assert not other.is_over


def test_a_holder_on_another_host_is_never_ended(tmp_path):
    with Holding(tmp_path, RUN, "silent") as other:
        path = tmp_path / "state.lock"
        path.write_text(path.read_text().replace(other.identity.host, "far/1"))
        with pytest.raises(RunActive, match="on far"):
            taking_of(tmp_path, patience(takeover=True))
        assert not other.is_over


@pytest.mark.parametrize("signature", ["", '{"half'])
def test_one_that_holds_it_and_has_not_signed_gets_a_moment_and_is_then_said_to_start(tmp_path, monkeypatch, signature):
    monkeypatch.setattr(taking, "SIGNING_PATIENCE", 0.2)
    with Holding(tmp_path, RUN) as other:
        (tmp_path / "state.lock").write_text(signature)
        with pytest.raises(RunActive, match="somebody who is just starting"):
            taking_of(tmp_path, patience(takeover=True))
        assert not other.is_over


def test_the_signature_of_a_dead_holder_condemns_nobody(tmp_path, monkeypatch):
    """Somebody took the lock just now; the file still names the one before."""
    monkeypatch.setattr(taking, "SIGNING_PATIENCE", 0.2)
    with Holding(tmp_path, RUN, "beats") as other:
        path = tmp_path / "state.lock"
        path.write_text(path.read_text().replace(f'"ticks": {other.identity.ticks}', '"ticks": 1'))
        with pytest.raises(RunActive):
            taking_of(tmp_path, patience(takeover=True))
        assert not other.is_over


def test_one_that_never_beat_is_not_silent_for_longer_than_it_is_there(tmp_path):
    with Holding(tmp_path, RUN, "old") as other:  # the clock was set forward since
        with pytest.raises(RunActive, match=f"pid {other.identity.pid}"):
            taking_of(tmp_path, patience())
        assert not other.is_over


def test_silence_is_measured_by_the_holders_own_pulse(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "lifetime", lambda who: 7200.0)
    now = clock.now()
    found = Holder(ME, RUN, iso(now - 500), "orch run")
    assert silent_for(found, tmp_path) == pytest.approx(500, abs=30)
    Heartbeat(tmp_path, ME.replace(pid=11), HUNG_AFTER).beat(State(), Moment(now, 0.0))
    assert silent_for(found, tmp_path) == pytest.approx(500, abs=30), "somebody else's pulse proves nothing"
    Heartbeat(tmp_path, ME, HUNG_AFTER).beat(State(), Moment(now - 40, 0.0))
    assert silent_for(found, tmp_path) == pytest.approx(40, abs=30)
    assert silent_for(found.replace(since=iso(now + 900), identity=ME.replace(pid=12)), tmp_path) == 0.0


@pytest.mark.parametrize("stops", [False, True], ids=["hung", "stopped"])
def test_one_that_does_not_end_although_it_was_told_to_keeps_the_lock(tmp_path, monkeypatch, stops):
    """As a process does that waits for a disk that does not answer."""
    monkeypatch.setattr(process, "end_by_identity", lambda who, grace: False)
    monkeypatch.setattr(process, "await_end", lambda who, grace: False)
    monkeypatch.setattr(process, "send", lambda who, number: None)
    with Holding(tmp_path, RUN, "silent") as other:
        if stops:
            other.signal(signal.SIGSTOP)
            await_state(other, process.STOPPED)
        with pytest.raises(RunActive, match=f"pid {other.identity.pid}"):
            taking_of(tmp_path, patience(takeover=True))
        assert not other.is_over and holder(tmp_path).identity == other.identity
