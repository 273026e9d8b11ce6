"""The bridge to agents on this machine: one of our own for new work, and those of dead predecessors for theirs.

Everything it hears goes into the inbox as observations; what it is told comes as actions. It decides nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator import clock, disk, process
from orchestrator.bridge import survey
from orchestrator.bridge.ahead import AGENT_MAIN, Ahead, begin
from orchestrator.bridge.conversation import Conversation, connect, connect_or_none
from orchestrator.core import actions as act
from orchestrator.core import observations as obs
from orchestrator.core.integration import (
    ACTIVE,
    DEGRADED,
    FAILED,
    FOLLOWS,
    INITIALIZING,
    UNINITIALIZED,
    HealthStatus,
    IntegrationResult,
    RecoveryResult,
)
from orchestrator.core.names import AttemptId, Identity
from orchestrator.core.outcome import NEVER_STARTED, Outcome
from orchestrator.core.reconcile import ALIVE, DEAD, UNKNOWABLE, Finding
from orchestrator.core.wire import VERSION
from orchestrator.errors import InternalFault
from orchestrator.ports import Inbox, Sources

HEALTH_EVERY = 10.0
WELCOME_WITHIN = 10.0
STARTS, STARTS_WITHIN = 5, 10.0  # more agents lost at the start than this, and trying again is given up
CHANGES_KEPT = 20
_OURS = (str(AGENT_MAIN), str(Path(__file__).parent.parent / "services" / "__main__.py"))


class LocalBridge:
    def __init__(
        self, root: Path, inbox: Inbox, sources: Sources, owner: Identity, settings: dict[str, Any], silence: float,
        log: Callable[[str], None], environ: dict[str, str] | None = None, own: Mapping[str, Any] | None = None,
        ahead: Ahead | None = None,
    ) -> None:  # fmt: skip
        """`settings` is what every agent is told, `own` only ours; one that says nothing for `silence` is ended."""
        self._log, self._environ, self._told_own = log, environ, {**settings, **(own or {})}
        self._ahead = ahead
        self._root, self._agents = root, root / "system" / "agents"
        self._inbox, self._sources, self._owner, self._settings = inbox, sources, owner, settings
        self._silence = silence
        # Ordered by the lock, that clock and this boot: a later holder always has the higher number, wherever it runs.
        self._epoch = int((clock.ticking() - clock.shift("boottime")) * 1e9)
        self._state, self._changes = UNINITIALIZED, [UNINITIALIZED]
        self._own: Conversation | None = None
        self._others: dict[str, Conversation] = {}
        self._keeper: dict[AttemptId, str] = {}  # which agent has it
        self._starts: list[float] = []
        self._spawned = self._restarts = 0
        self._hidden = False  # is there an agent of which nobody can say from here whether it lives?
        self._pinged_at = clock.ticking()
        self._setting_up = threading.RLock()

    # ---- the interface that every bridge has

    def ensure_integration(self) -> IntegrationResult:
        """An agent takes work, and has said so. Idempotent: of many callers at once one sets up, all get its result."""
        with self._setting_up:
            if self._state == FAILED:
                return IntegrationResult(False, FAILED, why=self._changes[-1])
            self.prepare()
            own, until = self._own, clock.ticking() + WELCOME_WITHIN
            while own is not None and own.identity is None and not own.closed and clock.ticking() < until:
                own.wait(until - clock.ticking())
                self._put_all(self._read(own))
            return IntegrationResult(self._state == ACTIVE, self._state, self.agent, self._changes[-1])

    def health_check(self) -> HealthStatus:
        own, common = self._own, (len(self._keeper), self._restarts, tuple(self._changes))
        if own is None:
            return HealthStatus(self._state, None, None, *common)
        silence = clock.ticking() - own.heard_at
        return HealthStatus(self._state, own.latency, silence, *common, own.sent, own.received, own.unacknowledged)

    def recover_integration(self) -> RecoveryResult:
        """Reach again who is still there, undisturbed in its work; if it is gone, another takes its place."""
        with self._setting_up:
            if self._state in (ACTIVE, FAILED, UNINITIALIZED) or self._own is None:
                return RecoveryResult(self._state == ACTIVE, self._state, why=self._changes[-1])
            own, until = self._own, clock.ticking() + self._silence
            while own.closed and own is self._own and clock.ticking() < until:
                clock.pause(min(0.05, self.tend()))
            return RecoveryResult(self._state == ACTIVE, self._state, own.backoff.tries, self._changes[-1])

    def shutdown(self) -> None:
        """No more work will come: our agent ends by itself when nothing is left in its hands."""
        for conversation in self._conversations():
            conversation.say("leave")
            conversation.finish()
            self._drop(conversation)
        self._own = None
        self._become(UNINITIALIZED, "shut down")

    # ---- what the loop uses

    @property
    def agent(self) -> str:
        return self._own.agent if self._own is not None and self._state == ACTIVE else ""

    def prepare(self) -> None:
        if self._own is None and self._state != FAILED:
            self._own = self._spawn()

    def perform(self, actions: Sequence[act.Action]) -> None:
        for action in actions:
            if isinstance(action, act.StartAttempt):
                self._start(action)
            elif isinstance(action, act.StopAttempt):
                self._stop(action)
            elif isinstance(action, act.TakeOutcome):
                self._take(action.attempt)
            elif isinstance(action, act.EndAgent):
                self._end(action)
        for conversation in self._conversations():
            conversation.flush()

    def take_over(self, findings: list[Finding]) -> list[Finding]:
        """Become the owner of every agent that is alive; each finding comes back with what that agent has in hand.

        One whose folder somebody took away can never be reached again: it is ended, as a dead one is swept after.
        """
        self._hidden = any(finding.life == UNKNOWABLE for finding in findings)
        return [self._greeted(finding) if finding.life == ALIVE else finding for finding in findings]

    def sweep(self, findings: list[Finding], attempts: list[Identity]) -> list[str]:
        """What dead agents left running, because everything that could have ended it was killed at once."""
        dead = [finding.agent for finding in findings if finding.life == DEAD]
        swept: list[str] = []
        for finding in findings:
            if finding.life == DEAD and finding.identity is not None and process.is_alive(finding.identity) == DEAD:
                swept += process.end_groups_of(finding.identity.pid)
        return swept + (process.end_orphans(self._root, dead, attempts) if dead or attempts else [])

    def clear(self, agents: Iterable[str]) -> None:
        """Dead agents' folders, as soon as nothing in them waits to be taken."""
        for agent in agents:
            survey.clear(self._agents / agent)

    def tend(self) -> float:
        """Called each time round: whoever does not answer in time is dealt with; returns when to be called again."""
        now = clock.ticking()
        for conversation in self._conversations():
            conversation.flush()
            if conversation.closed:
                self._put_all(self._lost(conversation))
                continue
            if now - conversation.heard_at > self._patience(conversation):
                self._put_all(self._read(conversation))  # it was we who did not listen?
                if clock.ticking() - conversation.heard_at <= self._patience(conversation) or conversation.closed:
                    continue
                self._end(act.EndAgent(conversation.agent, "it says nothing any more"))
        if now - self._pinged_at >= HEALTH_EVERY:
            self._pinged_at = now
            for conversation in self._conversations():
                conversation.ping()
        return min((one.wants_to_be_tended_in() for one in self._conversations()), default=HEALTH_EVERY)

    # ---- agents come and go

    def _spawn(self) -> Conversation | None:
        if not self._may_start():
            return None
        self._spawned += 1  # no two agents ever share a name: it is their folder, and says whose an attempt is
        name = f"{os.getpid()}-{self._epoch % 10**9:09d}-{self._spawned}"
        folder = self._agents / name
        disk.make_folder(folder)
        begun = self._ahead.called(name) if self._ahead is not None else None
        begun = begun or begin(self._root, self._environ, folder / "agent.log", name)
        self._become(INITIALIZING, f"agent {name} is starting")
        conversation = Conversation(begun.sock, name, process.identity(begun.pid))
        conversation.greet(self._epoch, self._owner, self._told_own)
        self._watch(conversation)
        return conversation

    def _may_start(self) -> bool:
        now = clock.ticking()
        self._starts = [at for at in self._starts if now - at < STARTS_WITHIN] + [now]
        if len(self._starts) <= STARTS:
            return True
        why = f"{STARTS} agents in a row ended within {STARTS_WITHIN:.0f}s of their start"
        self._become(FAILED, why)
        self._inbox.put(obs.NoAgents(f"{why}; see system/agents/*/agent.log"))
        return False

    def _greeted(self, finding: Finding) -> Finding:
        """The finding with its roster; without if it does not answer: it keeps what it has, and is waited for."""
        folder = self._agents / finding.agent
        if not folder.exists() and finding.identity is not None:
            process.end_by_identity(finding.identity, 1.0)
            return finding.replace(life=DEAD)
        conversation = Conversation(connect_or_none(folder), finding.agent, finding.identity)
        conversation.greet(self._epoch, self._owner, self._settings)
        until = clock.ticking() + 2.0
        news: list[obs.Observation] = []
        while conversation.roster is None and not conversation.closed and clock.ticking() < until:
            conversation.wait(until - clock.ticking())
            news += self._read(conversation)
        self._others[finding.agent] = conversation
        self._watch(conversation)
        told = {seen.attempt: seen.outcome for seen in news if isinstance(seen, obs.Ended)}
        return finding.replace(roster=conversation.roster, outcomes={**finding.outcomes, **told})

    def _end(self, action: act.EndAgent) -> None:
        conversation = self._conversation(action.agent)
        if conversation is not None and conversation.process is not None:
            process.end_by_identity(conversation.process, 0.0)
            conversation.closed = action.why
            self._note(f"agent {action.agent} was ended: {action.why}")
            self._put_all(self._lost(conversation))

    def _lost(self, conversation: Conversation) -> list[obs.Observation]:
        """Its socket is closed: is it only the socket, or is it gone? Gone, its outcomes on disk still count."""
        self._unwatch(conversation)
        if self._may_be_reached(conversation):
            if conversation is self._own:
                self._become(DEGRADED, f"agent {conversation.agent}: {conversation.closed}")
            if conversation.backoff.is_due():
                self._reach_again(conversation)
            return []
        self._drop(conversation)
        folder = self._agents / conversation.agent
        ended: list[obs.Observation] = [obs.Ended(attempt, outcome) for attempt, outcome, _ in survey.outcomes(folder)]
        self._sweep_after(conversation)
        if conversation is self._own:
            self._own = None
            self._restarts += 1
            self._become(DEGRADED, f"agent {conversation.agent} is gone")
            self.prepare()
        return [*ended, obs.AgentGone(conversation.agent, conversation.closed or "its process ended")]

    def _sweep_after(self, conversation: Conversation) -> None:
        """Attempts die with their agent, but not what they started: that has come to us, the next subreaper."""
        agent, who = conversation.agent, conversation.process
        swept = process.end_groups_of(who.pid) if who is not None else []
        swept += process.end_orphans(self._root, [agent], [], grace=0.0)
        # Another bridge in this process may have an agent of its own among our children; one may send messages.
        told = {pid: process.describe(pid, 4096) for pid in process.children_of(os.getpid())}
        swept += process.end_strays({pid for pid in told if any(main in told[pid] for main in _OURS)})
        if swept:
            self._note(f"ended what agent {agent} left behind: {', '.join(map(process.only_program, swept))}")

    def _reach_again(self, conversation: Conversation) -> None:
        """One try. What is said meanwhile is kept by the link, and said again after the welcome."""
        try:
            sock = connect(self._agents / conversation.agent)
        except OSError:
            conversation.backoff.failed()
            return
        conversation.resume(sock)
        conversation.greet(self._epoch, self._owner, self._settings)
        self._watch(conversation)
        if conversation is self._own:
            self._become(ACTIVE, f"agent {conversation.agent} was reached again")

    def _may_be_reached(self, conversation: Conversation) -> bool:
        """Alive, and silent for no longer than we bear; whoever is given up is ended, so that nobody works twice."""
        who = conversation.process
        if who is None or process.is_alive(who) not in (process.ALIVE, process.STOPPED):
            return False
        if clock.ticking() - conversation.heard_at <= self._patience(conversation):
            return True
        process.end_by_identity(who, 0.0)
        return False

    def _drop(self, conversation: Conversation) -> None:
        self._unwatch(conversation)
        conversation.close()
        self._others.pop(conversation.agent, None)

    def _unwatch(self, conversation: Conversation) -> None:
        if conversation.is_watched:
            self._sources.forget(conversation.fileno())
            conversation.is_watched = False

    def _watch(self, conversation: Conversation) -> None:
        self._sources.watch(conversation.fileno(), lambda: self._read(conversation))
        conversation.is_watched = True

    # ---- what is told, and what is heard

    def _start(self, action: act.StartAttempt) -> None:
        attempt = action.order.attempt
        if self._own is None or self._own.closed or not self.agent:  # the one it was meant for was ended just now
            self._inbox.put(obs.Ended(attempt, Outcome(NEVER_STARTED)))
            return
        self._keeper[attempt] = self._own.agent
        self._own.say("start", order=action.order.as_dict())

    def _stop(self, action: act.StopAttempt) -> None:
        conversation = self._conversation(self._keeper.get(action.attempt, ""))
        if conversation is not None:
            conversation.say("stop", attempt=action.attempt.key, insist=action.insist, why=action.why)
        elif not self._hidden and all(one.roster is not None for one in self._others.values()):
            # Else it may be with one that has not been heard yet: said again when it is, and after a while by the net.
            self._inbox.put(obs.Ended(action.attempt, Outcome(NEVER_STARTED)))

    def _take(self, attempt: AttemptId) -> None:
        keeper = self._keeper.pop(attempt, None)
        conversation = self._conversation(keeper or "")
        if conversation is not None:
            conversation.say("taken", attempt=attempt.key)
            return
        for folder in self._agents.glob("*"):
            if (folder / "outcomes" / f"{attempt}.json").exists():
                survey.take(folder, attempt)
                if survey.is_dead(folder):
                    survey.clear(folder)

    def _read(self, conversation: Conversation) -> list[obs.Observation]:
        seen: list[obs.Observation] = []
        for message in conversation.hear():
            seen += self._understand(conversation, message)
        if conversation.closed:
            seen += self._lost(conversation) if conversation in self._conversations() else []
        return seen

    def _understand(self, conversation: Conversation, message: dict[str, Any]) -> list[obs.Observation]:
        kind = message["kind"]
        if kind == "welcome":
            return self._welcomed(conversation, message)
        if kind == "started":
            return [obs.Started(AttemptId.parse(message["attempt"]), message["pid"], message["ticks"])]
        if kind == "ended":
            attempt = AttemptId.parse(message["attempt"])
            self._keeper.setdefault(attempt, conversation.agent)
            return [obs.Ended(attempt, Outcome.from_dict(message["outcome"]))]
        if kind == "beat":
            return [obs.Beat(conversation.agent, message["attempts"])]
        return []

    def _welcomed(self, conversation: Conversation, message: dict[str, Any]) -> list[obs.Observation]:
        if message["v"] != VERSION:
            conversation.closed = f"it speaks version {message['v']} of the protocol, we speak {VERSION}"
            return []
        again = conversation.roster is not None
        conversation.identity = Identity.from_dict(message["identity"])
        conversation.roster = {
            AttemptId.parse(one["attempt"]): (one["pid"] or 0, one["ticks"] or 0) for one in message["attempts"]
        }
        for attempt in conversation.roster:
            self._keeper[attempt] = conversation.agent
        conversation.replay(message["seen"])
        if conversation is not self._own:
            known = again or conversation.agent not in self._others  # else it was waited for
            joined = obs.AgentJoined(conversation.agent, conversation.identity, tuple(conversation.roster), False)
            return [] if known else [joined]
        if self._state != ACTIVE:
            self._become(ACTIVE, f"agent {conversation.agent} welcomed us")
        return [obs.AgentJoined(conversation.agent, conversation.identity, tuple(conversation.roster))]

    # ---- small things

    def _conversations(self) -> list[Conversation]:
        return [*([self._own] if self._own is not None else []), *self._others.values()]

    def _conversation(self, agent: str) -> Conversation | None:
        return next((one for one in self._conversations() if one.agent == agent), None)

    def _patience(self, conversation: Conversation) -> float:
        return WELCOME_WITHIN if conversation is self._own and conversation.identity is None else self._silence

    def _put_all(self, seen: list[obs.Observation]) -> None:
        for observation in seen:
            self._inbox.put(observation)

    def _become(self, following: str, why: str) -> None:
        if following == self._state:
            return
        if following not in FOLLOWS[self._state]:
            raise InternalFault(f"bridge: {following} cannot follow {self._state} ({why})")
        self._state = following
        self._note(f"{following}: {why}")

    def _note(self, what: str) -> None:
        self._changes = [*self._changes, what][-CHANGES_KEPT:]
        self._log(f"bridge: {what}")
