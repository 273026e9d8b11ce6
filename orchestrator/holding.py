"""The lock is ours: all that its holder has open (store, agents, asks, inbox, watchers), joined around the loop."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator import clock, disk, process, secret
from orchestrator.beginning import Recovered
from orchestrator.bridge.ahead import Ahead
from orchestrator.bridge.local import LocalBridge
from orchestrator.bridge.survey import survey
from orchestrator.config import Settings
from orchestrator.core import observations as obs
from orchestrator.core.actions import Action, AnswerAsk, ListFiles
from orchestrator.core.eta import Eta
from orchestrator.core.names import Identity, Moment
from orchestrator.core.observations import Observation
from orchestrator.core.plan import Plan
from orchestrator.core.reconcile import DEAD, UNKNOWABLE, reconcile
from orchestrator.core.state import State
from orchestrator.disk import unwritable
from orchestrator.engine import Engine
from orchestrator.errors import OrchError, StateUnwritable
from orchestrator.files.ground import Ground
from orchestrator.files.listing import list_files
from orchestrator.files.measuring import Measurer
from orchestrator.inbox import Inbox
from orchestrator.keeper import Keeper
from orchestrator.look import cache_of
from orchestrator.outgoing import Outgoing, linger
from orchestrator.ports import Watcher
from orchestrator.recovery import TURN_MODE
from orchestrator.store import schedules
from orchestrator.store.asks import POLL, Asks
from orchestrator.store.heartbeat import Heartbeat
from orchestrator.store.lock import StateLock, warnings_of
from orchestrator.store.store import JournalStore
from orchestrator.store.taking import Patience, take
from orchestrator.supervisor import SUPERVISOR
from orchestrator.watch.archive import Archive
from orchestrator.watch.guard import Guarded
from orchestrator.watch.outlook import Outlook
from orchestrator.watch.record import Record
from orchestrator.watch.structured import StructuredLog

_WRITTEN_WITHIN = 60.0  # seconds: an older draft is nobody's any more


class Hands:
    """Everything that acts, behind one door: agents, answers, checkpoints, and looks at files."""

    def __init__(
        self, root: Path, bridge: LocalBridge, asks: Asks, keeper: Keeper, measurer: Measurer,
        news: Callable[[Observation], None],
    ) -> None:  # fmt: skip
        self._root, self._bridge, self._asks, self._keeper = root, bridge, asks, keeper
        self._measurer, self._news = measurer, news

    @property
    def agent(self) -> str:
        return self._bridge.agent

    def prepare(self) -> None:
        self._bridge.prepare()

    def perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, AnswerAsk):
                self._asks.answer(action.ask, accepted=action.accepted, text=action.text)
            elif isinstance(action, ListFiles):
                self._news(list_files(self._root, action))
        self._measurer.perform(actions)
        self._bridge.perform(actions)
        self._keeper.perform(actions)


class Holding:
    """The lock is ours: store, agents, asks and inbox are open, and what the last holder left is recovered."""

    def __init__(
        self, root: Path, settings: Settings, plan: Callable[[], Plan], purpose: str, watchers: Sequence[Watcher] = (),
        *, takeover: bool = False, ends_hung: bool = True, secrets: Mapping[str, str] | None = None,
        ahead: Ahead | None = None,
    ) -> None:  # fmt: skip
        self._secrets, self._ahead = secrets or {}, ahead
        self.root, self.system, self.settings = root, root / "system", settings
        self.me, self.command = process.myself(), secret.hidden(shlex.join(["orch", *sys.argv[1:]]))
        self._closing: list[Callable[[], object]] = []
        self._give_up: Callable[[Any], None] = lambda error: None
        patience = Patience(settings.heartbeat_timeout, settings.kill_grace, takeover=takeover, ends_hung=ends_hung)
        _make_system(self.system)
        lock = StateLock(self.system)
        self.found = Recovered(take(lock, self.system, purpose, self.me, self.command, patience))
        self._closing += (lambda: linger(root, settings), lock.release, SUPERVISOR.rests)
        try:
            self._open(lock, plan(), watchers)
        except BaseException as error:
            self.__exit__(type(error), error)
            raise

    def __enter__(self) -> Holding:
        return self

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        cause = error.__cause__ if isinstance(error, StateUnwritable) else error
        is_ours = isinstance(cause, OSError) and (cause is not error or self._is_of_our_disk(cause))
        if is_ours:
            self._give_up(cause)
        self.close()
        if isinstance(error, OSError) and is_ours:
            raise unwritable(error, self.system) from error

    def _is_of_our_disk(self, error: OSError) -> bool:
        """Heartbeat, agents' folders, answers: not the journal, but the same advice. A write names no file."""
        if error.filename is None:
            return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)
        return Path(os.fsdecode(error.filename)).is_relative_to(self.system)

    @property
    def state(self) -> State:
        return self.store.state

    def close(self) -> None:
        """Backwards, each whatever became of the others."""
        error: BaseException | None = None
        while self._closing:
            try:
                self._closing.pop()()
            except OrchError as fault:
                error = error or fault
            except OSError as fault:
                error = error or unwritable(fault, self.system)
        if error is not None and sys.exc_info()[0] is None:
            raise error

    def _open(self, lock: StateLock, plan: Plan, watchers: Sequence[Watcher]) -> None:
        settings = self.settings
        self.store = JournalStore(self.system, lock.still_mine)
        self._give_up = self.store.give_up
        self._closing.append(self.store.close)
        for folder in (schedules.folder_of(self.system), cache_of(self.root)):
            disk.remove_drafts(folder, clock.now() - _WRITTEN_WITHIN)
        self.found.notes += [*self.store.notices, *warnings_of(self.system)]
        self.inbox = Inbox()
        self._closing.append(self.inbox.close)
        self.asks = Asks(self.system)
        self._closing.append(self.asks.close)
        self.found.notes += self.asks.notices
        process.become_subreaper()
        record = Record(self.system / "logs" / "orchestrator.log")
        self.bridge = LocalBridge(
            self.root, self.inbox, self.inbox, self.me, self._agent_settings(plan), settings.heartbeat_timeout,
            record, secret.without_sources(settings.secrets, os.environ), {"secrets": self._told_secrets()},
            self._ahead,
        )  # fmt: skip
        self._closing.append(self.bridge.shutdown)
        self.keeper = Keeper(self.root, settings, plan, lambda: self.state, self.inbox.put)
        self._closing.append(self.keeper.close)
        self.ground = Ground(self.root)
        self._closing.append(self.ground.tidy)
        self._measurer = Measurer(self.ground, self.inbox.put)
        self._outlook = Outlook(record)
        self._archive = Archive(self.system / "logs", settings.logs_max_age, self._written_to)
        self._closing.append(self._archive.close)
        self.outgoing = Outgoing(self.root, settings, lambda: self.store.position.seq, record)
        self._closing.append(self.outgoing.close)
        own: list[Watcher] = [self._structured_log(record), self._outlook, *self.outgoing.watchers]
        told = [Guarded(one, record) for one in (*watchers, *own)]
        heart = Heartbeat(self.system, self.me, settings.heartbeat_timeout, self._expect, tell=SUPERVISOR.alive)
        self._closing.append(lambda: heart.stop(self.store.state, clock.System().moment()))
        hands = Hands(self.root, self.bridge, self.asks, self.keeper, self._measurer, self.inbox.put)
        self.engine = Engine(plan, self.store, self.inbox, hands, heart, told, clock.System(), TURN_MODE)
        self.outgoing.begin(self.state)
        self.found.notes += self.keeper.finish_what_was_begun(lambda event: self.engine.step([obs.WentBack(event)]))
        self._recover()
        self._listen()

    def _structured_log(self, complain: Callable[[str], None]) -> StructuredLog:
        path = self.system / "logs" / "structured_execution.jsonl"
        return StructuredLog(path, self.settings.logs_structured_bytes, complain, self._archive.compress)

    def _told_secrets(self) -> dict[str, tuple[str, str]]:
        """For our agent, and no other: of each the variable that a command finds it in, and the value."""
        sources = self.settings.secrets
        return {name: (secret.variable_of(name, sources[name]), value) for name, value in self._secrets.items()}

    def _written_to(self) -> set[tuple[str, str]]:
        """The logs of attempts that are not over."""
        attempts = map(self.state.attempt_id, self.state.live)
        return {(str(attempt.phase), str(attempt.number)) for attempt in attempts}

    def keep_logs(self) -> None:
        """Compress and remove what is old, while the run goes on."""
        self.inbox.every(self._archive.tend)

    def _expect(self, state: State, moment: Moment) -> Eta | None:
        """When the run will be over; a turn is no run."""
        return self._outlook.eta(state, moment) if self.engine.mode.starts else None

    def _recover(self) -> None:
        """All of recovery: what the world says, as observations, decided and written in one turn of the loop."""
        findings = self.bridge.take_over(survey(self.system, self.state.agents))
        gone = {finding.agent for finding in findings if finding.life == DEAD}
        self._hidden = {one.agent: one.identity for one in findings if one.life == UNKNOWABLE and one.identity}
        orphans = [
            Identity(phase.pid, phase.ticks, self.me.boot, self.me.host)
            for phase in map(self.state.phase, self.state.live)
            if phase.agent in gone and phase.pid and phase.ticks and self._was_here(phase.agent)
        ]
        swept = self.bridge.sweep(findings, orphans)
        self.found.swept = [*map(process.only_program, swept)] if self.settings.secrets else swept
        self.found.events = self.engine.step(reconcile(self.state, findings, clock.now())).events
        self.bridge.clear(gone)
        untold = [number for number in self.state.live if self.state.phase(number).agent in self._hidden]
        self.found.untold = dict.fromkeys(sorted(untold), self.state.run.stale_after)

    def _was_here(self, agent: str | None) -> bool:
        """Did that agent live in this boot of this machine? Else its pids mean nothing."""
        who = self.state.agents.get(agent or "")
        return who is not None and (who.boot, who.host) == (self.me.boot, self.me.host)

    def _listen(self) -> None:
        self.inbox.every(self.bridge.tend)
        self.inbox.every(self.keeper.tend)
        self.inbox.every(self._measurer.tend)
        self.inbox.seldom(self._look_at_asks)
        self.inbox.seldom(self.outgoing.tend)
        if self.asks.bell is not None:
            self.inbox.watch(self.asks.bell, self.asked)

    def _look_at_asks(self) -> float:
        for ask in self.asked():
            self.inbox.put(ask)
        return POLL

    def asked(self) -> list[obs.Observation]:
        """What is asked now; whoever could not be told to be alive when the lock was taken is looked at once more."""
        asks = list[obs.Observation](self.asks.take())
        if asks and self._hidden:
            untold = (agent for agent, who in self._hidden.items() if process.is_alive(who) == UNKNOWABLE)
            self.engine.mode = self.engine.mode.replace(hidden=tuple(untold))
        return asks

    def _agent_settings(self, plan: Plan) -> dict[str, object]:
        files = {spec.file: spec.digest for spec in plan.specs.values() if spec.run is None and not spec.broken}
        return {
            "beat_interval": self.settings.beat_interval, "load_timeout": self.settings.load_timeout,
            "python": sys.executable, "phase_files": files, "forget_logs_after": self.settings.logs_keep,
            "starts_programs": any(spec.run is not None for spec in plan.specs.values()),
        }  # fmt: skip


def _make_system(system: Path) -> None:
    try:
        disk.make_folder(system)
    except OSError as error:
        raise unwritable(error, system) from error
