"""The bridge with real agents: set up once for many, recovered without disturbing anybody, gone without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import process
from orchestrator.bridge import ahead, local
from orchestrator.bridge.ahead import Ahead
from orchestrator.bridge.local import LocalBridge
from orchestrator.bridge.survey import survey
from orchestrator.core import actions as act
from orchestrator.core import observations as obs
from orchestrator.core.integration import ACTIVE, DEGRADED, FAILED, FOLLOWS, UNINITIALIZED
from orchestrator.core.names import AttemptId
from orchestrator.core.spec import Limits
from orchestrator.core.wire import Order
from orchestrator.inbox import Inbox
from tests.driving import PACKAGE

SETTINGS: dict[str, Any] = {
    "beat_interval": 0.2, "load_timeout": 10.0, "python": sys.executable, "phase_files": {}, "forget_logs_after": 5,
}  # fmt: skip


class Rig:
    """A bridge, the inbox that it speaks into, and everything that it has said."""

    def __init__(self, root: Path, silence: float = 30.0, begun: Ahead | None = None) -> None:
        self.inbox = Inbox()
        self.log: list[str] = []
        self.bridge = LocalBridge(
            root, self.inbox, self.inbox, process.myself(), SETTINGS, silence, self.log.append, ahead=begun
        )
        self.inbox.every(self.bridge.tend)
        self.seen: list[obs.Observation] = []

    def until(self, happened: Callable[[], object], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < end, f"it did not happen; seen: {self.seen}"
            self.seen += self.inbox.get(0.05)

    def first(self, kind: type[obs.Observation]) -> Any:
        return next((one for one in self.seen if isinstance(one, kind)), None)

    def start(self, attempt: AttemptId, run: str) -> None:
        self.bridge.perform([act.StartAttempt(order(attempt, run))])


def order(attempt: AttemptId, run: str) -> Order:
    return Order(
        attempt=attempt, name="x", file="phases/x.toml", digest="", run=run, isolation="fork", timeout=60.0,
        heartbeat_timeout=None, kill_grace=1.0, cwd=".", env={}, limits=Limits(), due="", trace="", results={},
        log=f"system/logs/phases/{attempt.phase}/{attempt.number}.log", log_bytes=100_000,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "phases").mkdir()
    (tmp_path / "system").mkdir()
    return tmp_path


@pytest.fixture
def rig(root: Path) -> Iterator[Rig]:
    one = Rig(root)
    yield one
    pids = agents(root)
    one.bridge.shutdown()
    one.inbox.close()
    assert eventually(lambda: not any(alive(pid) for pid in pids)), "an agent outlived its shutdown"


def agents(root: Path) -> list[int]:
    return [found.identity.pid for found in survey(root / "system", {}) if found.identity and found.life == "alive"]


def alive(pid: int) -> bool:
    entry = process.entry_of(pid)
    return entry is not None and not entry.is_over


def eventually(check: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not check() and time.monotonic() < end:
        time.sleep(0.02)
    return check()


def test_many_callers_at_once_get_one_set_up(rig: Rig, root: Path) -> None:
    results: list[Any] = []
    callers = [threading.Thread(target=lambda: results.append(rig.bridge.ensure_integration())) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 8 and all(result.success and result.state == ACTIVE for result in results)
    assert len({result.agent for result in results}) == 1
    assert len(agents(root)) == 1
    assert rig.bridge.ensure_integration() == results[0]


def test_shut_down_is_idempotent_and_can_be_followed_by_another_set_up(rig: Rig, root: Path) -> None:
    assert rig.bridge.ensure_integration().success
    rig.bridge.shutdown()
    rig.bridge.shutdown()
    assert rig.bridge.health_check().state == UNINITIALIZED
    assert eventually(lambda: not agents(root))
    assert rig.bridge.ensure_integration().success


def test_two_bridges_live_in_one_process(rig: Rig, root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other_root = tmp_path_factory.mktemp("other")
    (other_root / "system").mkdir()
    other = Rig(other_root)
    try:
        assert rig.bridge.ensure_integration().agent != other.bridge.ensure_integration().agent
        for number, one in ((1, rig), (2, other)):
            one.start(AttemptId("r", number, 1), "true")
            one.until(lambda one=one: one.first(obs.Ended))
            assert one.first(obs.Ended).outcome.succeeded
    finally:
        other.bridge.shutdown()
        other.inbox.close()


def test_health_tells_latency_and_last_contact(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rig.bridge.health_check().state == UNINITIALIZED
    monkeypatch.setattr(local, "HEALTH_EVERY", 0.05)
    rig.bridge.ensure_integration()
    rig.until(lambda: rig.bridge.health_check().latency_seconds is not None)
    health = rig.bridge.health_check()
    assert health.state == ACTIVE and 0 <= health.latency_seconds < 5 and health.last_contact_seconds < 5
    assert [change.split(":")[0] for change in health.changes] == [UNINITIALIZED, "INITIALIZING", ACTIVE]
    assert [line.split(":")[1].strip() for line in rig.log] == ["INITIALIZING", ACTIVE]


def test_a_cut_link_is_taken_up_again_and_disturbs_no_work(rig: Rig, root: Path) -> None:
    rig.bridge.ensure_integration()
    attempt = AttemptId("r", 1, 1)
    rig.start(attempt, "sleep 1.5; echo done > done")
    rig.until(lambda: rig.first(obs.Started))
    own = rig.bridge._own
    assert own is not None
    own._sock.shutdown(2)
    rig.until(lambda: any(DEGRADED in change for change in rig.bridge.health_check().changes))
    rig.until(lambda: rig.first(obs.Ended))
    assert rig.first(obs.Ended).outcome.succeeded and (root / "done").exists()
    assert rig.bridge.health_check().state == ACTIVE and rig.bridge.health_check().restarts == 0
    assert sum(isinstance(one, obs.Ended) for one in rig.seen) == 1
    assert rig.first(obs.AgentGone) is None
    rig.start(AttemptId("r", 2, 1), "true")
    rig.until(lambda: sum(isinstance(one, obs.Ended) for one in rig.seen) == 2)


def test_a_killed_agent_is_known_at_once_and_leaves_nothing(rig: Rig, root: Path) -> None:
    process.become_subreaper()
    rig.bridge.ensure_integration()
    rig.start(AttemptId("r", 1, 1), "(setsid sleep 8881 &) ; sleep 8882 & sleep 8883")
    rig.until(lambda: rig.first(obs.Started))
    pid = rig.first(obs.Started).pid
    assert eventually(lambda: len(process.descendants(pid)) >= 2)
    tree = [pid, *process.descendants(pid)]
    os.kill(agents(root)[0], signal.SIGKILL)
    rig.until(lambda: rig.first(obs.AgentGone))
    assert eventually(lambda: not any(alive(one) for one in tree)), "what the attempt had started is still there"
    first = rig.first(obs.AgentGone).agent
    rig.until(lambda: rig.bridge.agent not in ("", first))
    rig.start(AttemptId("r", 2, 1), "true")
    rig.until(lambda: rig.first(obs.Ended))
    assert rig.bridge.health_check().restarts == 1


def test_the_loss_of_an_agent_does_not_cost_another_bridge_its_own(
    rig: Rig, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    process.become_subreaper()
    other_root = tmp_path_factory.mktemp("other")
    (other_root / "system").mkdir()
    other = Rig(other_root)
    try:
        rig.bridge.ensure_integration()
        other.bridge.ensure_integration()
        other.start(AttemptId("r", 2, 1), "sleep 1")
        other.until(lambda: other.first(obs.Started))
        os.kill(agents(root)[0], signal.SIGKILL)
        rig.until(lambda: rig.first(obs.AgentGone))
        other.until(lambda: other.first(obs.Ended))
        assert other.first(obs.Ended).outcome.succeeded and other.first(obs.AgentGone) is None
    finally:
        other.bridge.shutdown()
        other.inbox.close()


def test_one_that_was_begun_ahead_becomes_our_agent_as_any_other(root: Path) -> None:
    begun = Ahead(root, os.environ)
    (pid,) = ahead_of(root)
    rig = Rig(root, begun=begun)
    try:
        assert rig.bridge.ensure_integration().success and agents(root) == [pid]
        (log,) = root.glob("system/agents/*/agent.log")
        assert f"is up, pid {pid}" in log.read_text()
        begun.close()
        rig.start(AttemptId("r1", 1, 1), "true")
        rig.until(lambda: rig.first(obs.Ended))
        assert rig.first(obs.Ended).outcome.succeeded
        os.kill(pid, signal.SIGKILL)
        rig.until(lambda: rig.first(obs.AgentGone))
        rig.until(lambda: rig.bridge.agent)
        assert pid not in agents(root), "there was only one that had been begun ahead"
    finally:
        rig.bridge.shutdown()
        rig.inbox.close()
    assert eventually(lambda: not ahead_of(root))


@pytest.mark.parametrize("end", ["nobody needs it", "who began it is killed"])
def test_one_that_was_begun_ahead_and_never_called_goes_without_a_trace(root: Path, end: str) -> None:
    if end == "nobody needs it":
        begun = Ahead(root, os.environ)
        assert len(ahead_of(root)) == 1
        begun.close()
    else:
        code = "import os, sys, time; from pathlib import Path; from orchestrator.bridge.ahead import Ahead"
        code += f"; kept = Ahead(Path({str(root)!r}), os.environ); print(flush=True); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=PACKAGE) as who:
            assert who.stdout is not None and who.stdout.readline() and len(ahead_of(root)) == 1
            who.kill()
    assert eventually(lambda: not ahead_of(root)) and [*(root / "system").iterdir()] == []


def test_one_that_was_begun_ahead_and_has_died_is_replaced(root: Path) -> None:
    begun = Ahead(root, os.environ)
    (pid,) = ahead_of(root)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not ahead_of(root))
    rig = Rig(root, begun=begun)
    try:
        rig.until(lambda: rig.bridge.ensure_integration().success)
        assert len(agents(root)) == 1 and pid not in agents(root)
    finally:
        rig.bridge.shutdown()
        rig.inbox.close()
    assert eventually(lambda: not ahead_of(root))


def ahead_of(root: Path) -> list[int]:
    """Agents of that project that live, whatever they are called, and if they are called anything yet."""
    words = {int(name): command_of(name) for name in os.listdir("/proc") if name.isdigit()}
    return [pid for pid in words if str(ahead.AGENT_MAIN) in words[pid] and str(root) in words[pid] and alive(pid)]


def command_of(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def test_agents_that_die_at_their_start_are_given_up(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(ahead, "AGENT_MAIN", broken)
    rig = Rig(root)
    rig.bridge.prepare()
    rig.until(lambda: rig.first(obs.NoAgents))
    assert "5 agents in a row" in rig.first(obs.NoAgents).why
    result = rig.bridge.ensure_integration()
    assert not result.success and result.state == FAILED
    rig.inbox.close()


def test_an_agent_that_says_nothing_is_ended_and_replaced(root: Path) -> None:
    rig = Rig(root, silence=2.0)
    try:
        first = rig.bridge.ensure_integration().agent
        os.kill(agents(root)[0], signal.SIGSTOP)
        rig.until(lambda: rig.first(obs.AgentGone))
        assert rig.first(obs.AgentGone).agent == first
        rig.until(lambda: rig.bridge.agent not in ("", first))
    finally:
        rig.bridge.shutdown()
        rig.inbox.close()


def test_a_successor_takes_over_attempts_and_gives_the_old_agent_no_new_ones(rig: Rig, root: Path) -> None:
    first = rig.bridge.ensure_integration().agent
    attempt = AttemptId("r", 1, 1)
    rig.start(attempt, "sleep 1.5")
    rig.until(lambda: rig.first(obs.Started))
    later = Rig(root)
    try:
        findings = later.bridge.take_over(survey(root / "system", {}))
        assert [list(finding.roster or ()) for finding in findings] == [[attempt]]
        later.bridge.prepare()
        later.until(lambda: later.bridge.agent)
        assert later.bridge.agent != first
        later.start(AttemptId("r", 2, 1), "true")
        later.until(lambda: sum(isinstance(one, obs.Ended) for one in later.seen) == 2)
        ended = {one.attempt: one.outcome.succeeded for one in later.seen if isinstance(one, obs.Ended)}
        assert ended == {attempt: True, AttemptId("r", 2, 1): True}
        later.bridge.perform([act.TakeOutcome(one) for one in ended])
    finally:
        later.bridge.shutdown()
        later.inbox.close()


def test_an_agent_that_does_not_answer_a_successor_is_waited_for(rig: Rig, root: Path) -> None:
    """Its work may be alive: nobody says of it that it never started."""
    rig.bridge.ensure_integration()
    attempt = AttemptId("r", 1, 1)
    rig.start(attempt, "sleep 60")
    rig.until(lambda: rig.first(obs.Started))
    (pid,) = agents(root)
    os.kill(pid, signal.SIGSTOP)
    later = Rig(root)
    try:
        (finding,) = later.bridge.take_over(survey(root / "system", {}))
        assert finding.roster is None
        later.bridge.perform([act.StopAttempt(attempt, "cancelled")])
        assert later.inbox.get(0.1) == []
        os.kill(pid, signal.SIGCONT)
        later.until(lambda: later.first(obs.AgentJoined))
        joined = later.first(obs.AgentJoined)
        assert joined.attempts == (attempt,) and not joined.takes_work
        later.bridge.perform([act.StopAttempt(attempt, "cancelled")])
        later.until(lambda: later.first(obs.Ended))
        assert later.first(obs.Ended).outcome.kind == "stopped"
        later.bridge.perform([act.TakeOutcome(attempt)])
    finally:
        os.kill(pid, signal.SIGCONT)
        later.bridge.shutdown()
        later.inbox.close()


def test_the_folder_of_one_that_lives_stays_whatever_is_taken_from_it(rig: Rig, root: Path) -> None:
    rig.bridge.ensure_integration()
    (folder,) = (root / "system" / "agents").iterdir()
    (folder / "outcomes").mkdir()
    (folder / "outcomes" / "1.1.json").write_text("{}")
    rig.bridge.perform([act.TakeOutcome(AttemptId("r", 1, 1))])
    assert not any((folder / "outcomes").iterdir()) and (folder / "identity.json").exists()


def test_no_two_agents_of_one_bridge_share_a_name(rig: Rig, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when the first was lost long after its start."""
    monkeypatch.setattr(local, "STARTS_WITHIN", 0.0)
    first = rig.bridge.ensure_integration().agent
    (pid,) = agents(root)
    os.kill(pid, signal.SIGKILL)
    rig.until(lambda: rig.first(obs.AgentGone) and rig.bridge.agent)
    assert rig.bridge.agent != first


def test_a_stop_of_what_nobody_has_is_answered() -> None:
    inbox = Inbox()
    bridge = LocalBridge(Path("/nowhere"), inbox, inbox, process.myself(), SETTINGS, 1.0, print)
    bridge.perform([act.StopAttempt(AttemptId("r", 1, 1), "gone")])
    (ended,) = inbox.get(0)
    assert isinstance(ended, obs.Ended) and ended.outcome.kind == "never_started"
    inbox.close()


def test_every_state_of_a_bridge_can_be_left() -> None:
    assert set(FOLLOWS) == set().union(*FOLLOWS.values()) | {UNINITIALIZED}
    assert all(FOLLOWS[state] for state in FOLLOWS)
