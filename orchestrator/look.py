"""What a reader sees: the state, and what recovery would write over it. No lock, no writing, no user code.

Apart from app.py so that a command that only looks loads neither the lock's library nor the bridge.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path

from orchestrator import clock, process
from orchestrator.bridge.survey import survey
from orchestrator.config import Settings, settings
from orchestrator.core.eta import Eta
from orchestrator.core.events import Event
from orchestrator.core.names import epoch
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import Plan, Rules
from orchestrator.core.pools import waits_for
from orchestrator.core.reconcile import Finding
from orchestrator.core.spec import Spec
from orchestrator.core.state import State
from orchestrator.core.table import DONE, PENDING, RETRY_WAIT, STATUSES
from orchestrator.errors import SettingsError
from orchestrator.load.definitions import Definitions
from orchestrator.load.loading import glance, knows, peek
from orchestrator.store import heartbeat
from orchestrator.store.reading import is_being_rolled_back, read_state

CUT_OFF = "a rollback is under way, or was cut off: `orch recover` or `orch run` then finishes it, or takes it back"


class Look:
    def __init__(self, root: Path, *, reads_files: bool = True) -> None:
        """Without `reads_files` phases/ is not looked at: enough for whoever asks only what is in progress."""
        self.system = root / "system"
        loaded = read_state(self.system)
        self.notices = loaded.notices
        self.state, self.findings = loaded.state, survey(self.system, loaded.state.agents)
        self.pulse = heartbeat.read(self.system, clock.now())
        self.owner = self._life_of_owner()
        self.recovered: tuple[Event, ...] = ()
        self._items: dict[int, Counter[str]] | None = None
        if is_being_rolled_back(self.system):
            self.notices = [*self.notices, CUT_OFF]
        self._root, self._reads_files = root, reads_files
        if reads_files and not knows(root, cache_of(root)):
            self._reads_files = False
            self.notices = [*self.notices, *(f"{fault}" for fault in glance(root))]
        if self.owner == process.DEAD and not is_settled(self.state, self.findings):
            # On an outcome that waits the project's rules decide; else reading them would only cost time.
            rules = self._rules(root) if any(finding.outcomes for finding in self.findings) else Rules()
            self._lay_over(_plan(self._definitions, rules))

    def _life_of_owner(self) -> str:
        """One of whom nobody can say from here whether it lives (another host, a container) lives while it beats."""
        run, pulse = self.state.run, self.pulse
        life = process.is_alive(run.owner) if run.owner else process.DEAD
        if life != process.UNKNOWABLE:
            return life
        beats = pulse is not None and pulse.identity == run.owner and not pulse.stopped
        return process.ALIVE if beats and pulse and pulse.age <= run.heartbeat_timeout else process.DEAD

    def _rules(self, root: Path) -> Rules:
        try:
            return rules_of(settings(root, {}, os.environ))
        except SettingsError as error:
            self.notices.append(f"{error}; what depends on them is shown as the defaults would have it")
            return Rules()

    @cached_property
    def _definitions(self) -> Definitions | None:
        return peek(self._root, cache_of(self._root)) if self._reads_files else None

    @cached_property
    def _specs(self) -> dict[int, Spec]:
        return {spec.number: spec for spec in self._definitions.specs} if self._definitions else {}

    def _lay_over(self, plan: Plan) -> None:
        self.recovered = import_module("orchestrator.recovery").decided(plan, self.state, self.findings).events
        for event in self.recovered:
            self.state.apply(event, clock.now())

    @property
    def is_alive(self) -> bool:
        return self.state.run.verdict is None and self.owner in (process.ALIVE, process.STOPPED)

    @property
    def is_hung(self) -> bool:
        run, pulse = self.state.run, self.pulse
        if not self.is_alive or pulse is None or pulse.identity != run.owner:
            return False
        return pulse.age > run.heartbeat_timeout

    @property
    def eta(self) -> Eta | None:
        """What the loop itself expects; only of a run that is alive."""
        if self.state.run.paused is not None:
            return None
        if not self.is_alive or self.is_hung or self.pulse is None or self.pulse.identity != self.state.run.owner:
            return None
        return self.pulse.eta

    @property
    def run_state(self) -> str:
        run = self.state.run
        if not run.id:
            return "none"
        if self.is_alive and run.paused is not None:
            return "paused"
        if self.is_alive:
            return "running" if self.state.live or not self._waits() else "waiting"
        if self.state.live:
            return "detached"
        if run.verdict is None:
            return "interrupted"
        if run.paused is not None:
            return "paused"
        return "waiting" if run.verdict == "waiting" else "finished"

    def _waits(self) -> bool:
        return bool(self.state.retrying()) or any(self.state.phase(number).planned for number in self.state.awaiting)

    def waits_for_tokens(self) -> dict[int, str]:
        """Phases that could start but for a token of a pool: which, and who has it."""
        state = self.state
        if not state.live or not any(spec.pools for spec in self._specs.values()):
            return {}
        pools = self._rules(self._root).pools
        found = dict[int, str]()
        for number, spec in self._specs.items():
            if spec.pools and number in state.run.scope and self._could_start(state.phase(number), spec):
                found[number] = waits_for(number, pools, self._specs, sorted(state.live))
        return {number: why for number, why in found.items() if why}

    def _could_start(self, phase: PhaseState, spec: Spec) -> bool:
        """A retry that is not due yet waits for its time, whoever has the token."""
        is_due = phase.status == RETRY_WAIT and epoch(phase.retry_at or "") <= clock.now()
        return (phase.status == PENDING or is_due) and all(self.state.phase(need).is_done for need in spec.needs)

    def items(self, number: int) -> dict[str, int] | None:
        """How many items of a phase that has fanned out stand where; None of any other phase."""
        items = self.state.phase(number).items
        if items is None:
            return None
        if self._items is None:
            self._items = {}
            for one, phase in self.state.items.items():
                self._items.setdefault(one.phase, Counter())[phase.status] += one.index < len(
                    self.state.phase(one.phase).items or ()
                )
        begun = self._items.get(number, Counter())
        waiting = len(items) - begun.total() + begun[PENDING]
        counts = {**begun, PENDING: waiting}
        return {status: counts[status] for status in STATUSES if counts.get(status)}

    def counts(self) -> tuple[int, int]:
        """Done, and all, of what the run was asked for."""
        scope = self.state.run.scope
        planned = [phase for number, phase in self.state.phases.items() if phase.planned and number in scope]
        return sum(phase.status in DONE for phase in planned), len(planned)


def is_settled(state: State, findings: Sequence[Finding]) -> bool:
    """Is there nothing that recovery could decide about? Most looks are at such a state."""
    return not (findings or state.live or state.agents or state.awaiting or state.restoring or state.fans)


def rules_of(settings: Settings) -> Rules:
    return Rules(
        settings.jobs, settings.timeout, settings.kill_grace, settings.heartbeat_timeout, settings.stale_after,
        settings.logs_phase_bytes, settings.retry, settings.pools, settings.params,
    )  # fmt: skip


def known_plan(root: Path, settings: Settings) -> Plan:
    """The plan as far as the cache knows it: nothing is imported, nothing written. Empty if it does not."""
    return _plan(peek(root, cache_of(root)), rules_of(settings))


def _plan(found: Definitions | None, rules: Rules) -> Plan:
    return Plan(found.specs, rules, found.digest) if found and not found.faults else Plan((), rules, "")


def cache_of(root: Path) -> Path:
    return root / "system" / "cache"
