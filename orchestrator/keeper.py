"""The hand that makes checkpoints and puts files back, in pieces: between two of them the loop goes round."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from orchestrator import clock
from orchestrator.config import Settings
from orchestrator.core import actions as act
from orchestrator.core import observations as obs
from orchestrator.core.causes import code_of
from orchestrator.core.checkpoint import needed_by
from orchestrator.core.events import Event, RolledBack
from orchestrator.core.names import AttemptId
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.core.wire import Order
from orchestrator.errors import OrchError, PhaseError
from orchestrator.store import restoring
from orchestrator.store.checkpoints import Vault

Job = Generator[None, None, None]

AT_ONCE = 0.02  # seconds that it may take before the loop has its turn
NOTHING_TO_DO = 3600.0


class Keeper:
    def __init__(
        self, root: Path, settings: Settings, plan: Plan, state: Callable[[], State],
        put: Callable[[obs.Observation], None],
    ) -> None:  # fmt: skip
        self.vault = Vault(root)
        self._settings, self._plan, self._state, self._put = settings, plan, state, put
        self._jobs = deque[Job]()

    def perform(self, actions: Sequence[act.Action]) -> None:
        for action in actions:
            if isinstance(action, act.MakeCheckpoint):
                self._jobs.append(self._make(action.order))
            elif isinstance(action, act.RestoreCheckpoint):
                self._jobs.append(self._restore(action.number, action.checkpoint))

    def tend(self) -> float:
        """Called each time round; one job after the other."""
        until = clock.ticking() + AT_ONCE
        while self._jobs and clock.ticking() < until:
            try:
                next(self._jobs[0])
            except StopIteration:
                self._jobs.popleft()
        return 0.0 if self._jobs else NOTHING_TO_DO

    def close(self) -> None:
        """What is half made is thrown away; what was half put back is taken back."""
        while self._jobs:
            self._jobs.popleft().close()

    def retire(self) -> None:
        settings = self._settings
        needed = needed_by(self._state())
        self.vault.retire(needed, settings.checkpoints_keep, settings.checkpoints_max_age, clock.now())

    def finish_what_was_begun(self, commit: Callable[[RolledBack], object]) -> list[str]:
        """A rollback that was cut off: all of it, or nothing. Before anything else is decided."""
        self.vault.clear_drafts()
        plan = restoring.under_way(self.vault)
        if plan is None:
            return []
        is_written = plan.event is not None and self._state().run.rollback == plan.token
        told = restoring.finish(self.vault, plan, is_written=is_written)
        if told:
            return [told]
        if plan.event is not None:
            event = Event.from_dict(plan.event)
            assert isinstance(event, RolledBack)
            commit(event)
        restoring.settle(self.vault, plan)
        return [f"a rollback to {plan.checkpoint} was cut off, and is finished"]

    def patterns(self) -> dict[int, tuple[str, ...]]:
        return {number: spec.outputs for number, spec in self._plan.specs.items() if spec.outputs}

    def _make(self, order: Order) -> Job:
        attempt: AttemptId = order.attempt
        number = attempt.phase
        try:
            why = f"before attempt {attempt}"
            made = yield from self.vault.make(number, why, self._state(), self.patterns(), clock.now())
            self._put(obs.CheckpointMade(order, made.id))
            self.retire()
        except (OSError, OrchError, PhaseError) as error:
            self._put(obs.CheckpointFailed(attempt, code_of(error), _said(error)))

    def _restore(self, number: int, name: str) -> Job:
        try:
            checkpoint = self.vault.read(name).only(number)
            changes = yield from restoring.survey(self.vault.root, checkpoint)
            if not changes.is_empty:
                token = f"{name}-{int(clock.now() * 1000)}"
                plan = yield from restoring.prepare(self.vault, checkpoint, changes, token)
                restoring.apply(self.vault, plan)
                restoring.settle(self.vault, plan)
            self._put(obs.Restored(number, name, len(changes.put), len(changes.remove)))
        except (OSError, OrchError) as error:
            if restoring.under_way(self.vault) is not None:
                raise  # half of it: nothing may go on from there
            self._put(obs.Restored(number, name, fault=_said(error)))


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
    return str(error)
