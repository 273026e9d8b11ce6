"""How the orchestrator's own price grows: the real loop, the real store on a disk, hands that do nothing.

python bench/growth.py [PHASES …]   a line for each number: milliseconds, bytes and syncs per phase, memory at its peak.
Each in a process of its own, as its memory would otherwise be that of the largest before it.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import clock
from orchestrator.core import actions as act
from orchestrator.core import observations as obs
from orchestrator.core.draft import Mode
from orchestrator.core.events import Scope
from orchestrator.core.names import Identity
from orchestrator.core.outcome import EXITED, Outcome
from orchestrator.core.plan import Plan, Rules
from orchestrator.core.spec import Spec
from orchestrator.engine import Engine
from orchestrator.store.heartbeat import Heartbeat
from orchestrator.store.lock import RUN, StateLock
from orchestrator.store.store import JournalStore
from orchestrator.watch.outlook import Outlook
from orchestrator.watch.structured import StructuredLog

PHASES = (100, 1_000, 10_000, 100_000)
WIDE, NEEDS, SLOTS = 50, 3, 2  # phases in a layer; how many of the layer before each needs; attempts at a time
ME, AGENT = Identity(os.getpid(), 1, "boot", "here/1"), Identity(2, 2, "boot", "here/1")
FOLDER = "/dev/shm"  # there a sync costs nothing: they are counted, not waited for


class Grown(NamedTuple):
    """`seconds` are of the processor, from the plan to the end; bytes and syncs are of the whole run."""

    phases: int
    seconds: float
    peak_bytes: int
    written_bytes: int
    syncs: int
    snapshots: int


class Idle:
    """Hands and inbox in one: an attempt has started and ended when the loop looks again, each a news of its own."""

    agent = "a1"

    def __init__(self) -> None:
        self._news = deque[list[obs.Observation]]()

    def prepare(self) -> None:
        """The agent is there already."""

    def perform(self, actions: Sequence[act.Action]) -> None:
        for action in actions:
            if isinstance(action, act.StartAttempt):
                attempt = action.order.attempt
                outcome = Outcome(EXITED, 0, duration_seconds=0.001, log=action.order.log)
                self._news.append([obs.Started(attempt, 9, 9), obs.Ended(attempt, outcome)])

    def put(self, observation: obs.Observation) -> None:
        self._news.append([observation])

    @property
    def is_empty(self) -> bool:
        return not self._news

    def get(self, wait_seconds: float) -> list[obs.Observation]:
        return self._news.popleft() if self._news else []


def layered(phases: int) -> Iterator[Spec]:
    """As layered1000 of the peers: layers, each phase needs some of the layer before."""
    dice, above, here = random.Random(7), list[int](), list[int]()
    for number in range(1, phases + 1):
        needs = tuple(sorted(dice.sample(above, min(NEEDS, len(above)))))
        yield Spec(number, f"t{number:06d}", "phases/all.toml", 5 * number, run=("true",), needs=needs)
        here.append(number)
        if len(here) == WIDE:
            above, here = here, []


def simulated(phases: int, folder: str = "") -> Grown:
    """A run of so many phases, in a process of its own; in `folder`, or where a sync costs nothing."""
    with tempfile.TemporaryDirectory(dir=folder or (FOLDER if os.path.isdir(FOLDER) else None)) as where:
        here = Path(__file__).resolve().parents[1]
        environment = {**os.environ, "PYTHONPATH": str(here)}
        words = (sys.executable, __file__, "--in", where, str(phases))
        told = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE).stdout
        return Grown(**json.loads(told))


def _run(system: Path, phases: int) -> Grown:
    counts = _counting()
    lock = StateLock(system)
    lock.acquire(RUN, ME, "orch run", clock.now())
    plan, hands, mode = Plan(layered(phases), Rules(jobs=SLOTS), "digest"), Idle(), Mode(starts=True, jobs=SLOTS)
    store, outlook = JournalStore(system, lock.still_mine), Outlook(print)
    heart = Heartbeat(system, ME, 120.0, outlook.eta)
    (system / "logs").mkdir()
    log = StructuredLog(system / "logs" / "structured_execution.jsonl", 10**9, print)
    engine = Engine(plan, store, hands, hands, heart, [log, outlook], clock.System(), mode)
    hands.put(obs.AgentJoined(hands.agent, AGENT))
    before, begun = _written(), time.process_time()
    engine.step([obs.RunAsked("r1", Scope(), ME, "orch run")])
    engine.run()
    store.close()
    seconds, peak = time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert store.state.run.verdict == "completed"
    return Grown(phases, seconds, peak, _written() - before, counts["fdatasync"] + counts["fsync"], counts["snapshot"])


def _counting() -> dict[str, int]:
    """How often the disk was waited for, and how often state.json was written."""
    counts = {"fdatasync": 0, "fsync": 0, "snapshot": 0}

    def counted(name: str, real: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            counts[name] += 1
            return real(*given, **named)

        return call

    for name in ("fdatasync", "fsync"):
        setattr(os, name, counted(name, getattr(os, name)))
    JournalStore._write_snapshot = counted("snapshot", JournalStore._write_snapshot)  # type: ignore[method-assign]
    return counts


def _written() -> int:
    """What this process has handed to the kernel."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def main() -> None:
    if sys.argv[1:2] == ["--in"]:
        print(json.dumps(_run(Path(sys.argv[2]), int(sys.argv[3]))._asdict()))
        return
    print("phases: ms, bytes written and syncs per phase; snapshots; memory at its peak")
    for phases in map(int, sys.argv[1:] or PHASES):
        found = simulated(phases)
        per = found.seconds / phases * 1000, found.written_bytes / phases, found.syncs / phases
        told = f"{per[0]:.3f} ms, {per[1]:,.0f} bytes, {per[2]:.2f} syncs; {found.snapshots}"
        print(f"{phases:,}: {told}; {found.peak_bytes / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
