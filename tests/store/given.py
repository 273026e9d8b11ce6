"""What the tests of the store begin from: a folder, decisions to commit, and other processes that hold the lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from orchestrator import process
from orchestrator.core import events as ev
from orchestrator.core.draft import Decision
from orchestrator.core.names import Identity
from orchestrator.core.state import State
from orchestrator.store.journal import base_of, path_of, segments
from orchestrator.store.reading import read_state
from orchestrator.store.store import JournalStore
from tests.core.given import NOW, completed, intended, run_started

ROOT = Path(__file__).resolve().parents[2]


def still_mine() -> None:
    """Nobody takes the lock from a test of the store."""


def store_of(system: Path, **keys: int) -> JournalStore:
    return JournalStore(system, still_mine, **keys)


def decision(*events: ev.Event) -> Decision:
    return Decision(events, (), ("a test",) * len(events))


def opening(phases: int = 1) -> Decision:
    plan = {str(number): [f"p{number}", ""] for number in range(1, phases + 1)}
    return decision(run_started(), ev.PlanAdopted("digest", plan))


def turns(number: int, attempt: int) -> list[Decision]:
    """One whole life of an attempt, and the phase pending again."""
    again = ev.PhaseReset(number, "again")
    return [decision(intended(number, attempt)), decision(completed(number, attempt)), decision(again)]


def commit_all(store: JournalStore, decisions: Iterable[Decision], *, settle: bool = True) -> None:
    for one in decisions:
        store.commit(one, NOW)
        if settle:
            store.settle(NOW)


def seen(state: State) -> tuple[object, ...]:
    """All of a state, to be compared."""
    return (state.run, {**state.phases}, {**state.agents}, {**state.answers}, [*state.runs], {*state.live})


def read(system: Path) -> tuple[object, ...]:
    return seen(read_state(system).state)


def journal(system: Path) -> list[str]:
    return sorted(path.name for path in (system / "journal").iterdir())


HOLDER = """
import os, signal, sys, time
from pathlib import Path
from orchestrator import clock, process
from orchestrator.core.names import Moment
from orchestrator.core.state import State
from orchestrator.store.heartbeat import Heartbeat
from orchestrator.store.lock import StateLock
system, purpose, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
if "stubborn" in how:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock, me = StateLock(system), process.myself()
held = lock.acquire(purpose, me, "orch " + purpose, clock.now() - (3600 if "old" in how else 0))
if "child" in how:
    if os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", "60"])
if "beats" in how or "silent" in how:
    now = clock.now() - (1000 if "silent" in how else 0)
    late = clock.now() - now
    Heartbeat(system, me, 120.0, awake=lambda: clock.awake() - late).beat(State(), Moment(now, 0.0))
print("held" if held else "refused", flush=True)
time.sleep(float(next((word for word in how if word[0].isdigit()), 60)))
"""


class Holding:
    """Another process that takes the lock: `how` says what it does then. Ended with the test."""

    def __init__(self, system: Path, purpose: str = "run", *how: str) -> None:
        argv = [sys.executable, "-c", HOLDER, str(system), purpose, *how]
        self._child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._child.stdout is not None
        self.said = self._child.stdout.readline().strip()
        found = process.identity(self._child.pid)
        assert found is not None
        self.identity: Identity = found

    def __enter__(self) -> Holding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in [*process.descendants(self._child.pid), self._child.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def kill(self) -> int:
        """At once; the pid of the child that it leaves behind, or 0."""
        left = process.descendants(self._child.pid)
        self._child.kill()
        self._child.wait()
        return left[0] if left else 0

    @property
    def is_over(self) -> bool:
        return self._child.poll() is not None


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    def sync(fd: int) -> None:
        raise AssertionError("nobody needs it after a power cut")

    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr(os, "fsync", sync)


def remark(why: str = "gone") -> Any:
    return decision(ev.AgentLeft("a1", why))


def number_of(path: Path) -> int:
    return path.stat().st_ino


def compacted(system: Path) -> JournalStore:
    """Two segments, and the newer one holds a few lines."""
    store = store_of(system, segment_bytes=1000)
    commit_all(store, [opening()])
    for attempt in range(1, 9):
        commit_all(store, turns(1, attempt))
    commit_all(store, [remark()])
    assert store.position.offset > 0
    return store


def parts(system: Path) -> tuple[list[Path], list[Path]]:
    """The segments and their bases, oldest first."""
    folder = system / "journal"
    firsts = [one.first for one in segments(folder)]
    return [path_of(folder, first) for first in firsts], [base_of(folder, first) for first in firsts]


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def end_of(pieces: Any) -> Any:
    """What a job that is done in pieces comes to."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value
