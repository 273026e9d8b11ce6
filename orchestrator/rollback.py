"""Checkpoints by hand, and the way back to one: a turn with the lock, in which nothing else happens."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from orchestrator import app, clock
from orchestrator.config import Settings
from orchestrator.core import checkpoint as values
from orchestrator.core.checkpoint import Changes, Checkpoint
from orchestrator.core.events import RolledBack
from orchestrator.core.observations import WentBack
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.errors import Conflict, OrchError, Refused, RunActive, StateUnwritable, UsageError
from orchestrator.fitting import definitions_of
from orchestrator.holding import Holding
from orchestrator.look import Look, known_plan, rules_of
from orchestrator.store import restoring
from orchestrator.store.checkpoints import Vault
from orchestrator.store.lock import TURN, active, holder

T = TypeVar("T")


class Way(NamedTuple):
    """Back to a checkpoint: what changes, or has changed."""

    checkpoint: Checkpoint
    changes: Changes
    phases: dict[str, dict[str, Any]]  # how those stand then that stand otherwise now
    run: dict[str, Any]
    undo: str = ""  # the checkpoint of what was before
    refusal: OrchError | None = None  # with which it would be answered now

    @property
    def is_empty(self) -> bool:
        return self.changes.is_empty and not self.phases


def create(root: Path, settings: Settings, number: int | None) -> Checkpoint:
    """RunActive while a run is: what it does meanwhile would be half in it."""
    definitions = definitions_of(root, settings)
    plan = Plan(definitions.specs, rules_of(settings), definitions.digest)
    with _turn(root, settings, plan) as holding:
        _refuse_live(holding.state, "a checkpoint can be made")
        made = _make(holding, _before_which(plan, holding.state, number), "by hand")
        holding.keeper.retire()
        return made


def _before_which(plan: Plan, state: State, number: int | None) -> int:
    """The phase that comes next, unless another is named."""
    if not plan.specs:
        raise UsageError("there are no phases, so there is nothing to keep", "write one into phases/")
    if number is None:
        return next((one for one in sorted(plan.specs) if not state.phase(one).is_done), max(plan.specs))
    if number not in plan.specs:
        near = min(plan.specs, key=lambda known: abs(known - number))
        raise UsageError(f"there is no phase {number}", f"the nearest is {near}; `orch plan` lists them all")
    return number


def look(root: Path, name: str) -> Way:
    """What would be done, without the lock and without doing it."""
    found, now = Vault(root).read(name), Look(root)
    way = _way(root, found, now.state)
    return way._replace(refusal=_refusal(now, way))


def _refusal(now: Look, way: Way) -> OrchError | None:
    name = way.checkpoint.id
    try:
        if now.is_alive:
            raise _has_to_wait(active(holder(now.system)))
        _refuse_live(now.state, f"{name} can come back")
    except OrchError as error:
        return error
    return Refused(f"{name}: {way.changes.blocked}") if way.changes.blocked else None


def go_back(root: Path, settings: Settings, name: str) -> Way:
    """All comes back exactly, or nothing changes."""
    Vault(root).read(name)  # else it could wait long for the lock, to be told that there is none
    with _turn(root, settings, known_plan(root, settings)) as holding:
        vault, state = holding.keeper.vault, holding.state
        _refuse_live(state, f"{name} can come back")
        way = _way(root, vault.read(name), state)
        if way.is_empty:
            return way
        if way.changes.blocked:
            raise Refused(f"{name}: {way.changes.blocked}; nothing was changed")
        try:
            return _gone_back(holding, way)
        except OSError as error:
            where = error.filename or vault.folder
            raise StateUnwritable(f"{name} did not come back: {where}: {error.strerror}", _UNCHANGED) from error


def _gone_back(holding: Holding, way: Way) -> Way:
    vault, name = holding.keeper.vault, way.checkpoint.id
    undo = _make(holding, way.checkpoint.phase, f"before the rollback to {name}", way.checkpoint.patterns)
    event = RolledBack(
        name, secrets.token_hex(8), app.who_asks(), way.run, way.phases, len(way.changes.put), len(way.changes.remove)
    )  # fmt: skip
    plan = _end_of(restoring.prepare(vault, way.checkpoint, way.changes, event.token, event.as_dict()))
    restoring.apply(vault, plan)
    holding.engine.step([WentBack(event)])
    restoring.settle(vault, plan)
    return way._replace(undo=undo.id)


def _way(root: Path, found: Checkpoint, state: State) -> Way:
    changes = _end_of(restoring.survey(root, found))
    return Way(found, changes, values.differing(found, state), found.state["run"])


def _make(holding: Holding, number: int, why: str, then: Mapping[str, Iterable[str]] | None = None) -> Checkpoint:
    """Of what is declared now, and was declared `then`."""
    vault, declared = holding.keeper.vault, {one: [*listed] for one, listed in holding.keeper.patterns().items()}
    for text, listed in (then or {}).items():
        known = declared.setdefault(int(text), [])
        known += [pattern for pattern in listed if pattern not in known]
    try:
        return _end_of(vault.make(number, why, holding.state, declared, clock.now()))
    except Conflict as error:
        raise Refused(f"no checkpoint could be made: {error}; nothing was changed") from error
    except OSError as error:
        where = error.filename or vault.folder
        raise StateUnwritable(f"no checkpoint could be made: {where}: {error.strerror}", _UNCHANGED) from error


_UNCHANGED = "nothing was changed; mend that, then try again"


def _refuse_live(state: State, what: str) -> None:
    if state.live:
        number = min(state.live)
        busy = ", ".join(f"{one} {state.phase(one).name}".rstrip() for one in sorted(state.live))
        raise Refused(f"in progress: {busy}; `orch cancel {number}` ends it, then {what}")


def _turn(root: Path, settings: Settings, plan: Plan) -> Holding:
    try:
        return Holding(root, settings, lambda: plan, TURN, ends_hung=False)
    except RunActive as error:
        raise _has_to_wait(error) from None


def _has_to_wait(error: RunActive) -> RunActive:
    return RunActive(error.message, f"{error.remedy}; this has to wait until it is over")


def _end_of(pieces: Generator[None, None, T]) -> T:
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            found: T = end.value
            return found
