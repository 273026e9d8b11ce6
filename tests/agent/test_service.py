"""Owners of an agent: how they come, go, and are succeeded; what becomes of outcomes nobody takes."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import process
from orchestrator.core.outcome import Outcome, failure_of
from orchestrator.core.wire import VERSION
from tests.agent.driving import Driven, order, wait_for


def outcomes(agent: Driven) -> dict[str, dict[str, object]]:
    folder = agent.folder / "outcomes"
    return {path.name: json.loads(path.read_text()) for path in folder.glob("[!.]*.json")} if folder.exists() else {}


def test_welcome_says_who_it_is(agents: Callable[..., Driven]) -> None:
    agent = agents(greet=False)
    agent.owner.hello()
    welcome = agent.owner.wait("welcome")
    assert welcome["v"] == VERSION
    assert welcome["agent"] == agent.agent
    assert welcome["identity"] == agent.identity.as_dict()
    assert (welcome["epoch"], welcome["attempts"]) == (1, [])
    assert json.loads((agent.folder / "identity.json").read_text()) == {
        "agent": agent.agent,
        **agent.identity.as_dict(),
        "version": 1,
    }
    assert stat.S_IMODE((agent.folder / "sock").stat().st_mode) == 0o600


def test_it_inherits_nothing_and_has_its_own_session(agent: Driven) -> None:
    entry = process.entry_of(agent.pid)
    assert entry is not None
    assert entry.session == agent.pid
    targets = [os.readlink(f"/proc/{agent.pid}/fd/{fd}") for fd in range(3)]
    assert targets == ["/dev/null", "/dev/null", str(agent.folder / "agent.log")]


def test_beats_come_also_when_there_is_nothing_to_say(agent: Driven) -> None:
    assert agent.owner.wait("beat")["attempts"] == {}
    agent.owner.wait("beat")


def test_ping(agent: Driven) -> None:
    agent.owner.put("ping", t=17)
    assert agent.owner.wait("pong")["t"] == 17


def test_leave_with_nothing_in_hand_leaves_nothing(agent: Driven) -> None:
    assert agent.owner.run(order(1)).succeeded
    agent.owner.put("leave")
    agent.await_end()
    assert not agent.folder.exists()


def test_leave_waits_for_the_work_in_hand(agent: Driven) -> None:
    what = order(1, "sleep 0.5")
    agent.owner.start(what)
    agent.owner.put("leave")
    assert agent.owner.outcome(what).succeeded
    agent.await_end()
    assert not agent.folder.exists()


def test_without_an_owner_it_goes_on_and_writes_what_came_of_it(agent: Driven) -> None:
    what = order(1, "sleep 0.4; echo '5' > $ORCH_RESULT")
    late = order(2, "sleep 1000.25", timeout=0.8, kill_grace=0.2, phase=4)
    agent.owner.start(what)
    agent.owner.start(late)
    agent.owner.wait("started", late)
    agent.owner.close()
    agent.await_end()
    found = outcomes(agent)
    assert set(found) == {"3.1.json", "4.2.json"}
    assert found["3.1.json"]["attempt"] == what.attempt.key
    assert found["3.1.json"]["version"] == 1
    first = Outcome.from_dict(found["3.1.json"]["outcome"])  # type: ignore[arg-type]
    assert first.succeeded
    assert first.result == 5
    assert Outcome.from_dict(found["4.2.json"]["outcome"]).kind == "timed_out"  # type: ignore[arg-type]
    assert sorted(os.listdir(agent.folder)) == ["agent.log", "outcomes"]


def test_an_outcome_that_the_owner_does_not_take_is_written_and_removed_when_taken(agent: Driven) -> None:
    what = order(1)
    agent.owner.start(what)
    agent.owner.outcome(what, take=False)
    wait_for(lambda: outcomes(agent))
    agent.owner.put("taken", attempt=what.attempt.key)
    wait_for(lambda: not outcomes(agent))
    agent.owner.close()
    agent.await_end()
    assert not agent.folder.exists()


def test_an_outcome_taken_at_once_never_reaches_the_disk(agent: Driven) -> None:
    for number in range(1, 4):
        assert agent.owner.run(order(number)).succeeded
    time.sleep(0.4)
    assert not (agent.folder / "outcomes").exists()


def test_as_long_as_the_write_fails_it_stays(agent: Driven) -> None:
    (agent.folder / "outcomes").write_text("in the way")
    what = order(1)
    agent.owner.start(what)
    agent.owner.outcome(what, take=False)
    agent.owner.close()
    time.sleep(0.6)
    assert not agent.is_gone()
    assert "cannot be written" in agent.log()
    (agent.folder / "outcomes").unlink()
    agent.await_end()
    assert set(outcomes(agent)) == {"3.1.json"}


def test_a_start_in_a_dead_owners_buffer_never_runs(agent: Driven) -> None:
    for round_ in range(5):
        ghost = order(round_ + 1, f"echo > ghost{round_}", phase=5)
        os.kill(agent.pid, signal.SIGSTOP)
        successor = agent.connect(agent.owner.epoch + 1)
        successor.hello()
        if round_ == 0:
            agent.owner.start(ghost)
        os.kill(agent.pid, signal.SIGCONT)
        successor.wait("welcome")
        agent.owner = successor
    # whichever of the two the agent read first: after the takeover nothing may begin
    time.sleep(0.3)
    assert agent.owner.run(order(99, "echo > late")).kind == "never_started"
    assert not (agent.project / "late").exists()


def test_takeover_hands_over_attempts_and_outcomes_but_takes_no_new_work(agent: Driven) -> None:
    running, ended = order(1, "sleep 0.8; echo done"), order(1, "exit 3", phase=4)
    agent.owner.start(running)
    agent.owner.start(ended)
    pid = agent.owner.wait("started", running)["pid"]
    agent.owner.outcome(ended, take=False)
    successor = agent.connect(2)
    successor.hello()
    welcome = successor.wait("welcome")
    assert [(each["attempt"], each["step"], each["pid"]) for each in welcome["attempts"]] == [
        (running.attempt.key, "running", pid)
    ]
    assert welcome["epoch"] == 2
    assert successor.outcome(ended).exit_status == 3
    refused = successor.run(order(1, "echo > new", phase=6))
    assert refused.kind == "never_started"
    assert "no new work" in failure_of(refused).message
    assert successor.outcome(running).succeeded
    while agent.owner.listen(0.5):
        pass
    assert agent.owner.is_closed
    assert not (agent.project / "new").exists()
    successor.close()
    agent.await_end()
    assert not agent.folder.exists()


def test_a_lower_epoch_is_turned_away(agent: Driven) -> None:
    old = agent.connect(0)
    old.hello()
    while old.listen(1.0):
        pass
    assert old.is_closed
    assert agent.owner.run(order(1)).succeeded
    assert "epoch 0" in agent.log()


def test_another_version_is_told_ours(agents: Callable[..., Driven]) -> None:
    agent = agents(greet=False)
    agent.owner.hello(version=VERSION + 1)
    assert agent.owner.wait("welcome")["v"] == VERSION
    while agent.owner.listen(1.0):
        pass
    assert agent.owner.is_closed
    agent.await_end()
    assert not agent.folder.exists()


def test_a_reconnect_of_the_same_owner_replays_what_it_missed(agent: Driven) -> None:
    what = order(1, "sleep 0.3; exit 6")
    agent.owner.start(what)
    agent.owner.wait("started", what)
    seen = agent.owner.link.seen
    again = agent.connect(agent.owner.epoch)
    agent.owner.link.reconnected()
    again.link = agent.owner.link
    again.hello(seen=seen)
    agent.owner.sock.close()
    agent.owner = again
    again.wait("welcome")
    assert again.outcome(what).exit_status == 6
    assert again.run(order(2)).succeeded  # the same owner may go on starting


def test_twice_is_once(agent: Driven) -> None:
    what = order(1, "echo x >> ran; sleep 0.3")
    agent.owner.start(what)
    agent.owner.start(what)
    agent.owner.outcome(what, take=False)
    agent.owner.start(what)  # ended, but not taken: told again
    assert agent.owner.outcome(what).succeeded
    assert (agent.project / "ran").read_text() == "x\n"
    agent.owner.put("taken", attempt=what.attempt.key)


def test_stop_of_the_unknown_is_answered(agent: Driven) -> None:
    ghost = order(77)
    agent.owner.stop(ghost)
    assert agent.owner.outcome(ghost).kind == "never_started"


@pytest.mark.parametrize(
    "text", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b'{"kind":"start"}\n', b'{"kind":"hello"}\n', b'["x"]\n']
)
def test_strangers_at_the_door_harm_nobody(agent: Driven, text: bytes) -> None:
    stranger = agent.connect(9)
    stranger.sock.sendall(text)
    stranger.sock.shutdown(socket.SHUT_WR)
    assert agent.owner.run(order(1)).succeeded
    stranger.close()


def test_an_order_that_is_none_harms_nobody(agent: Driven) -> None:
    agent.owner.put("start", order={"attempt": 5})
    assert agent.owner.run(order(1)).succeeded
    assert "fault" in agent.log()


def test_told_to_end_it_ends_its_work_and_says_so(agent: Driven) -> None:
    what = order(1, "trap '' TERM; sleep 1000.25; sleep 1000.25", kill_grace=0.5)
    agent.owner.start(what)
    pid = agent.owner.wait("started", what)["pid"]
    os.kill(agent.pid, signal.SIGHUP)
    os.kill(agent.pid, signal.SIGINT)
    time.sleep(0.1)
    os.kill(agent.pid, signal.SIGTERM)
    outcome = agent.owner.outcome(what, take=False)
    assert outcome.kind == "lost"
    assert failure_of(outcome).code == "INTERRUPTED"
    agent.await_end()
    assert process.entry_of(pid) is None
    assert set(outcomes(agent)) == {"3.1.json"}


def test_if_the_agent_is_killed_its_attempts_die_with_it(agent: Driven) -> None:
    what = order(1, "exec sleep 1000.25")
    agent.owner.start(what)
    pid = agent.owner.wait("started", what)["pid"]
    who = process.identity(pid)
    assert who is not None
    os.kill(agent.pid, signal.SIGKILL)
    agent.await_end()
    assert process.await_end(who, 5)


def test_what_survives_even_that_is_found_by_its_tags(agent: Driven) -> None:
    """Agent and attempt killed at once: the grandchild in a session of its own carries their names."""
    what = order(1, "setsid sleep 1000.25 & exec sleep 1000.25")
    agent.owner.start(what)
    started = agent.owner.wait("started", what)
    wait_for(lambda: len(process.descendants(started["pid"])) == 1)
    os.kill(agent.pid, signal.SIGKILL)
    agent.await_end()
    names = process.end_orphans(agent.project, [agent.agent])
    assert any("sleep 1000.25" in name for name in names)
    assert process.find_tagged(agent.project, [agent.agent]) == []


def test_a_long_path_is_no_fault(tmp_path: Path) -> None:
    project = tmp_path / ("x" * 120)
    project.mkdir()
    agent = Driven(project)
    try:
        agent.owner.hello()
        agent.owner.wait("welcome")
        successor = agent.connect(2)
        successor.hello()
        assert successor.wait("welcome")["epoch"] == 2
    finally:
        agent.end()


def test_an_owner_that_does_not_read_stops_nobody(agent: Driven) -> None:
    quiet, successor = order(1, "sleep 0.2; echo > quiet"), None
    agent.owner.start(quiet)
    for number in range(300):
        agent.owner.sock.sendall(agent.owner.link.send("stop", attempt=f"r1/9.{number}", insist=False, why="x" * 2000))
    wait_for((agent.project / "quiet").exists)
    successor = agent.connect(2)
    successor.hello()
    assert successor.outcome(quiet).succeeded


def test_the_agent_imports_nothing_heavy(agent: Driven) -> None:
    maps = Path(f"/proc/{agent.pid}/maps").read_text()
    assert "_ssl" not in maps
    assert "site-packages" not in maps
