"""The stage: everything that orch asks of the machine, replaced by the simulated world while a story is played."""

from __future__ import annotations

import os
import random
import select
import selectors
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from orchestrator import app, clock, holding, inbox, look, process
from orchestrator.bridge import ahead, local
from orchestrator.bridge.conversation import Conversation
from orchestrator.core import observations as obs
from orchestrator.core.draft import Decision
from orchestrator.core.observations import Observation
from orchestrator.engine import Engine
from orchestrator.store.store import JournalStore
from tests.crash.sim_faults import Sim
from tests.crash.sim_world import Cut

A_ROUND = 2e-5  # seconds that even a round in which nothing happens takes
POLL = 5.0  # between two looks for asks whose bell nobody heard


class Select:
    """In place of the selector: sockets of the world, and the real pipe of the bell."""

    def __init__(self, world: Sim) -> None:
        self._world, self._keys = world, dict[int, Any]()

    def register(self, fd: int, events: int, data: Any) -> None:
        self._keys[fd] = SimpleNamespace(data=data)

    def unregister(self, fd: int) -> None:
        del self._keys[fd]

    def close(self) -> None: ...

    def select(self, seconds: float) -> list[tuple[Any, int]]:
        self._world.next_round()
        listen(self._world, "select", seconds, self._ready)
        return [(self._keys[fd], selectors.EVENT_READ) for fd in self._ready()]

    def _ready(self) -> list[int]:
        ends = self._world.ends
        found = [fd for fd in self._keys if fd in ends and ends[fd].is_readable]
        real = [fd for fd in self._keys if fd not in ends]
        return found + (select.select(real, [], [], 0)[0] if real else [])


def listen(world: Sim, where: str, seconds: float, ready: Callable[[], object]) -> None:
    """Until there is something to hear, or that long: where a process may be killed, or stopped for a while."""
    world.point(where)
    if world.dead:
        raise Cut("dead")
    if world.frozen_for:
        seconds_stopped, world.frozen_for = world.frozen_for, 0.0
        world.advance(world.time + seconds_stopped)
        world.rules.life_began = world.time  # whatever is to happen within a time may take that long from now
    if not ready():
        world.advance(world.time + max(seconds, A_ROUND), ready)


class SimConversation(Conversation):
    world: Sim

    def wait(self, seconds: float) -> None:
        listen(self.world, "wait", seconds, lambda: self.world.ends[self.fileno()].is_readable)


class SimStore(JournalStore):
    world: Sim

    def __init__(self, system: Path, still_mine: Callable[[], None]) -> None:
        super().__init__(system, still_mine, segment_bytes=self.world.segment)
        self.world.rules.reopened(self.state, self.position.seq)

    def commit(self, decision: Decision, now: float) -> Any:
        self.world.point("commit")
        self.world.rules.intends(decision, now)
        moves = super().commit(decision, now)
        self.world.rules.acknowledged()
        self.world.point("after a commit")
        return moves


class SimEngine(Engine):
    world: Sim

    def step(self, batch: list[Observation]) -> Decision:
        rules = self.world.rules
        rules.mode, rules.decided_at, rules.decided_shift = self.mode, self.world.time, self.world.wall_shift
        rules.known_ends = {seen.attempt for seen in batch if isinstance(seen, obs.Ended)}
        decision = super().step(batch)
        self.world.rules.check_step(self)
        return decision

    def _patience(self) -> float:
        wait = super()._patience()
        self.world.rules.check_wait(self, wait)
        return wait


class SimSignals:
    world: Sim

    def __init__(self, box: Any) -> None:
        self._box = box

    def __enter__(self) -> None:
        self.world.signals = self._box

    def __exit__(self, *_: object) -> None:
        self.world.signals = None


class Quiet:
    """In place of what only tells, or looks ahead: the structured log, the record, the outlook (half of the time)."""

    def __init__(self, *_: Any) -> None: ...

    def tell(self, *_: Any) -> None: ...

    def __call__(self, text: str) -> None: ...

    def eta(self, *_: Any) -> None: ...


@contextmanager
def installed(world: Sim) -> Iterator[None]:
    definitions = SimpleNamespace(specs=list(world.plan.specs.values()), digest="digest", faults=[])
    classes = [
        type(cls.__name__, (cls,), {"world": world}) for cls in (SimStore, SimEngine, SimSignals, SimConversation)
    ]
    count = [0]

    def new_run_id(now: float) -> str:
        count[0] += 1
        return f"run-{count[0]}"

    changes: list[tuple[Any, str, Any]] = [
        (clock, "now", world.now), (clock, "ticking", world.ticking), (clock, "pause", world.pause),
        (clock, "System", lambda: world),
        (process, "is_alive", world.is_alive), (process, "identity", world.identity),
        (process, "myself", world.myself), (process, "become_subreaper", lambda: None),
        (process, "spawn_detached", world.spawn), (process, "end_by_identity", world.end),
        (process, "end_groups_of", lambda pid: []), (process, "end_orphans", world.end_orphans),
        (process, "end_strays", lambda agents: []), (process, "children_of", lambda pid: []),
        (local, "connect", world.connect), (local, "connect_or_none", world.connect_or_none), (ahead, "socket", world),
        (local, "Conversation", classes[3]),
        (inbox.selectors, "DefaultSelector", lambda: Select(world)),
        (holding, "JournalStore", classes[0]), (holding, "Engine", classes[1]), (app, "Signals", classes[2]),
        (holding, "StructuredLog", Quiet), (holding, "Record", Quiet), (holding, "Outlook", Quiet), (holding, "POLL", POLL),
        (app, "definitions_of", lambda root, settings: definitions), (app, "known_plan", lambda root, settings: world.plan),
        (app, "new_run_id", new_run_id), (app, "_agent_ahead", lambda *_: None), (look, "peek", lambda root, cache: definitions), (look, "knows", lambda root, cache: True),
        (look, "settings", lambda root, flags, environ: world.settings),
        (os, "getpid", lambda: world.me.pid), (sys, "argv", ["orch", "run"]),
    ]  # fmt: skip
    before = [(where, name, getattr(where, name)) for where, name, _ in changes]
    dice = random.getstate()
    random.seed(world.seed)
    with ExitStack() as stack:
        stack.enter_context(world.disk())
        stack.callback(lambda: random.setstate(dice))
        stack.callback(lambda: [setattr(where, name, value) for where, name, value in before])
        for where, name, value in changes:
            setattr(where, name, value)
        yield
