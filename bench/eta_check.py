"""How good the ETA is: workflows replayed with durations that vary, asked at many moments, held against the truth.

python bench/eta_check.py [FOLDER [MOMENTS]]   FOLDER holds graphs of WfCommons (default: ../shared/wf or $ORCH_WF)
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import NamedTuple

from orchestrator.core.eta import Forecast
from orchestrator.core.events import Scope
from orchestrator.core.names import iso
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import Plan, Rules
from orchestrator.core.priority import places
from orchestrator.core.spec import Spec
from orchestrator.core.state import State

NOW = 1_800_000_000.0
WITHIN = 0.2


class Graph(NamedTuple):
    name: str
    needs: dict[int, tuple[int, ...]]
    seconds: dict[int, float]


class Chance(NamedTuple):
    """How durations vary (sigma of the logarithm): each by itself, and all of one run together."""

    spread: float = 0.2
    together: float = 0.0
    runs: int = 5  # how many there were before


class Score(NamedTuple):
    moments: int
    within: float  # share of the moments at which `likely` was within 20 % of the truth
    held: float  # at which the band held the truth
    width: float  # of the band, against the truth, in the middle of all moments
    slowest: float  # processor seconds of one asking


def folder() -> Path:
    return Path(os.environ.get("ORCH_WF") or Path(__file__).resolve().parents[2] / "shared" / "wf")


def graphs(where: Path) -> list[Graph]:
    return [_graph(path) for path in sorted(where.glob("*.json"))]


def _graph(path: Path) -> Graph:
    tasks = json.loads(path.read_text())["tasks"]
    numbers = {task["id"]: number for number, task in enumerate(tasks, 1)}
    needs = {numbers[task["id"]]: tuple(numbers[parent] for parent in task["parents"]) for task in tasks}
    return Graph(path.stem, needs, {numbers[task["id"]]: max(0.001, task["runtime_s"]) for task in tasks})


class Replay:
    """One run of the graph as it would go, with the history that it would have."""

    def __init__(self, graph: Graph, jobs: int, seed: int, chance: Chance) -> None:
        dice = random.Random(seed)
        self.before = [_varied(graph, dice, chance) for _ in range(chance.runs)]
        self.truth = _varied(graph, dice, chance)
        specs = [
            Spec(number, f"p{number}", "f", 1, run="x", needs=needs, timeout=1e7)
            for number, needs in graph.needs.items()
        ]
        self.plan = Plan(specs, Rules(jobs=jobs), "digest")
        self.state = State()
        self.state.run = self.state.run.replace(id="r1", jobs=jobs)
        for number in self.plan.needs:
            self.state._put(number, PhaseState("pending", durations=tuple(run[number] for run in self.before)))
        self.place = places(self.plan, self.state, Scope())
        self.started, self.ended = _play(self.plan, self.truth, jobs, self.place)
        self.seconds = max(self.ended.values())

    def at(self, moment: float) -> State:
        """The state as it was then."""
        for number in self.plan.needs:
            phase, known = self.state.phases.get(number), tuple(run[number] for run in self.before)
            if self.ended[number] <= moment:
                status = "completed"
            else:
                status = "in_progress" if self.started[number] <= moment else "pending"
            if phase is None or phase.status != status:
                self.state._put(number, self._phase(number, status, known))
        return self.state

    def _phase(self, number: int, status: str, known: tuple[float, ...]) -> PhaseState:
        started, ended, took = iso(NOW + self.started[number]), iso(NOW + self.ended[number]), self.truth[number]
        if status == "completed":
            return PhaseState(status, None, started, ended, took, durations=(*known, took))
        if status == "in_progress":
            return PhaseState(status, "running", started, durations=known)
        return PhaseState(status, durations=known)


def _varied(graph: Graph, dice: random.Random, chance: Chance) -> dict[int, float]:
    run = dice.lognormvariate(0, chance.together)
    return {number: took * run * dice.lognormvariate(0, chance.spread) for number, took in graph.seconds.items()}


def _play(
    plan: Plan, seconds: dict[int, float], jobs: int, place: dict[int, int]
) -> tuple[dict[int, float], dict[int, float]]:
    """Written apart from the forecast's own, so that a fault of that one shows."""
    unmet = {number: len(set(needs)) for number, needs in plan.needs.items()}
    ready = [(place[number], number) for number, many in unmet.items() if not many]
    heapify(ready)
    started: dict[int, float] = {}
    ended: dict[int, float] = {}
    busy: list[tuple[float, int]] = []
    now = 0.0
    while ready or busy:
        while ready and len(busy) < jobs:
            number = heappop(ready)[1]
            started[number] = now
            heappush(busy, (now + seconds[number], number))
        now, number = heappop(busy)
        ended[number] = now
        for dependent in plan.dependents[number]:
            unmet[dependent] -= 1
            if not unmet[dependent]:
                heappush(ready, (place[dependent], dependent))
    return started, ended


def score(graph: Graph, jobs: int, seeds: range, moments: int, chance: Chance) -> Score:
    within = held = count = 0
    widths, slowest = [], 0.0
    for seed in seeds:
        replay = Replay(graph, jobs, seed, chance)
        forecast = Forecast(replay.plan, replay.place, Scope(), jobs)
        for step in range(moments):
            moment = replay.seconds * (step + 0.5) / moments
            state, begun = replay.at(moment), time.process_time()
            eta = forecast.eta(state, NOW + moment)
            slowest, left = max(slowest, time.process_time() - begun), replay.seconds - moment
            count += 1
            if eta is not None:
                within += abs(eta.likely - left) <= WITHIN * left
                held += eta.low <= left <= eta.high
                widths.append((eta.high - eta.low) / left)
    return Score(count, within / count, held / count, sorted(widths)[len(widths) // 2], slowest)


def told(graph: Graph, jobs: int, chance: Chance, result: Score) -> str:
    return (
        f"{graph.name:<34} {jobs:>3} slots, {chance.runs} before, spread {chance.spread:.1f} and {chance.together:.1f}:"
        f" within 20 % {result.within:4.0%}, band holds {result.held:4.0%}, band/left {result.width:.2f},"
        f" slowest {1000 * result.slowest:.0f} ms"
    )


def main() -> None:
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else folder()
    moments = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    for graph in graphs(where):
        for jobs in (4, 16):
            for chance in (Chance(), Chance(runs=1), Chance(spread=0.3), Chance(together=0.2)):
                print(told(graph, jobs, chance, score(graph, jobs, range(10), moments, chance)), flush=True)


if __name__ == "__main__":
    main()
