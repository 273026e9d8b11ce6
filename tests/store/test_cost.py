"""With 10,000 phases a transition costs the same as with 100: counted in bytes, syncs and calls, never in seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core import actions as act
from orchestrator.core import observations as obs
from orchestrator.core.draft import Mode
from orchestrator.core.events import Scope
from orchestrator.core.names import Moment
from orchestrator.core.outcome import EXITED, Failure, Outcome
from orchestrator.core.plan import Plan, Rules
from orchestrator.core.spec import Spec
from orchestrator.core.state import State
from orchestrator.engine import Engine
from orchestrator.store.store import LARGE, JournalStore
from tests.core.given import AGENT, ME, NOW
from tests.store.given import store_of

FEW, MANY = 100, 10_000
ROUNDS = 60  # of each, in the middle of the run
DEAR = 1.3


class Scripted:
    """Hands, inbox, heart and clock in one: an attempt starts at once, and ends in the next round; every tenth fails."""

    agent = "a1"

    def __init__(self) -> None:
        self.waiting: list[obs.Observation] = []
        self.tick = 0.0
        self.sleeps = False  # until its time has come, where there is no news

    def moment(self) -> Moment:
        return Moment(NOW + self.tick, self.tick, 0.5)

    def prepare(self) -> None:
        """The agent is there already."""

    def perform(self, actions: Sequence[act.Action]) -> None:
        for action in actions:
            if isinstance(action, act.StartAttempt):
                attempt = action.order.attempt
                failure = Failure("TRANSIENT", "not yet") if attempt.phase % 10 == 0 and attempt.number == 1 else None
                outcome = Outcome(EXITED, int(failure is not None), failure=failure, duration_seconds=1.0)
                self.waiting += [obs.Started(attempt, 9, 9), obs.Ended(attempt, outcome)]

    def put(self, observation: obs.Observation) -> None:
        self.waiting.append(observation)

    @property
    def is_empty(self) -> bool:
        return not self.waiting

    def get(self, wait_seconds: float) -> list[obs.Observation]:
        self.tick += wait_seconds if self.sleeps and not self.waiting else 0.001
        news, self.waiting = self.waiting[:1], self.waiting[1:]
        return news

    def beat(self, state: State, moment: Moment) -> float:
        return 3600.0


class Cost:
    """What was counted: steps of the interpreter, calls of functions (also of those written in C), bytes, syncs."""

    def __init__(self) -> None:
        self.steps = self.calls = self.bytes = self.syncs = self.moves = 0

    def per_move(self) -> dict[str, float]:
        return {name: getattr(self, name) / self.moves for name in ("steps", "calls", "bytes", "syncs")}


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cost]:
    cost = Cost()
    write, fdatasync, fsync = os.write, os.fdatasync, os.fsync

    def profile(frame: Any, event: str, argument: Any) -> None:
        cost.calls += event in ("call", "c_call")

    def trace(frame: Any, event: str, argument: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        cost.steps += event == "opcode"
        return trace

    def counted_write(fd: int, data: bytes) -> int:
        cost.bytes += len(data)
        return write(fd, data)

    def counted_sync(real: Any) -> Any:
        def sync(fd: int) -> None:
            cost.syncs += 1
            real(fd)

        return sync

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", counted_write)
        patch.setattr(os, "fdatasync", counted_sync(fdatasync))
        patch.setattr(os, "fsync", counted_sync(fsync))
        before = sys.gettrace()
        sys.setprofile(profile)
        sys.settrace(trace)
        try:
            yield cost
        finally:
            sys.settrace(before)
            sys.setprofile(None)


def engine_of(
    system: Path, phases: int, jobs: int = 4, hands: Scripted | None = None
) -> tuple[Engine, Scripted, JournalStore]:  # fmt: skip
    """Every phase needs the one four before it: a braid as broad as the jobs."""
    specs = [
        Spec(number, f"p{number}", "phases/all.toml", 1, run="true", needs=(number - 4,) if number > 4 else ())
        for number in range(1, phases + 1)
    ]
    plan, hands, store = Plan(specs, Rules(jobs=jobs), "digest"), hands or Scripted(), store_of(system)
    engine = Engine(plan, store, hands, hands, hands, [], hands, Mode(starts=True, jobs=jobs))
    hands.put(obs.AgentJoined("a1", AGENT))
    engine.step([obs.RunAsked("r1", Scope(), ME, "orch run")])
    return engine, hands, store


def cost_of(system: Path, phases: int, monkeypatch: pytest.MonkeyPatch) -> Cost:
    engine, hands, store = engine_of(system, phases)
    for _ in range(20):  # past the opening, which looks at every phase, once
        engine.step(hands.get(engine._patience()))
    before = store.position.seq
    with counting(monkeypatch) as cost:
        for _ in range(ROUNDS):
            engine.step(hands.get(engine._patience()))
    cost.moves = store.position.seq - before
    store.close()
    return cost


def test_a_transition_of_ten_thousand_phases_costs_what_one_of_a_hundred_costs(tmp_path, monkeypatch):
    few = cost_of(tmp_path / "few", FEW, monkeypatch).per_move()
    many = cost_of(tmp_path / "many", MANY, monkeypatch).per_move()
    ratios = {name: many[name] / few[name] for name in few}
    assert all(ratio <= DEAR for ratio in ratios.values()), (ratios, few, many)
    assert few["syncs"] == many["syncs"] == 1.0, "one decision, one line, one sync"


@pytest.mark.parametrize(("large", "apart"), [(LARGE, 1.0), (200_000, 4.0)], ids=["large", "huge"])
def test_the_snapshot_of_a_large_pipeline_is_written_once_a_second_however_fast_it_runs(
    tmp_path, monkeypatch, large, apart
):
    """That of a huge one more seldom: what is written in a second does not grow with it."""
    monkeypatch.setattr("orchestrator.store.store.LARGE", large)
    engine, hands, store = engine_of(tmp_path, 2000)
    written: list[float] = []
    real = JournalStore._write_snapshot
    monkeypatch.setattr(
        JournalStore,
        "_write_snapshot",
        lambda self, *, durable: written.append(hands.tick) or real(self, durable=durable),
    )
    while hands.tick < 2.2 * apart:
        hands.tick += 0.009
        engine.step(hands.get(engine._patience()))
    assert 2 <= len(written) <= 4 and min(b - a for a, b in pairwise(written)) >= 0.999 * apart
    store.close()
