"""Measures orch beside its rivals and a floor: the same workloads, whole processes, cold, in turns.

python -m bench.compare [--full] [--home DIR] [--scratch DIR] [--out FILE] [--only WORD]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench import results
from bench.graphs import GRAPHS
from bench.measuring import Run, environment, measured
from bench.rivals import ready, version_of
from bench.tools import AGAIN, COLD, FIRE, FLOOR, ORCH, RIVALS, STATE, Tool, places

ROOT = Path(__file__).resolve().parents[1]
SLOW, SLOW_OF_ORCH = 5.0, 90.0  # seconds: a figure from there on is taken once
LIMIT, LIMIT_OF_ORCH = 120.0, 400.0


class Workload(NamedTuple):
    graph: str
    modes: tuple[str, ...]
    rounds: int
    slots: int = 2


WORKLOADS = (
    Workload("chain24", (COLD, AGAIN, STATE, FIRE), 11, slots=1),
    Workload("layered1000", (COLD, AGAIN), 5),
    Workload("layered10000", (COLD, AGAIN), 3),
    Workload("sleepy", (COLD,), 3),
)


class Place:
    """Where one tool has one workload: a folder that a cold run has filled, and its figures so far."""

    def __init__(self, workload: Workload, tool: Tool, programs: Path, home: Path, scratch: Path) -> None:
        self.workload, self.tool = workload, tool
        self._programs, self._home, self._scratch = programs, home, scratch
        self._tasks = GRAPHS[workload.graph]()
        self._folder: Path | None = None
        self.runs: dict[str, list[Run]] = {mode: [] for mode in workload.modes if mode in tool.words}
        self.fault = ""

    @property
    def is_asked_for(self) -> bool:
        return len(self._tasks) <= self.tool.most and not self.fault

    def round(self) -> None:
        """Each mode once; what is slow is left out when it has been measured, and the folder that is there kept."""
        for mode, runs in self.runs.items():
            slow = SLOW_OF_ORCH if self.tool is ORCH else SLOW
            if self.is_asked_for and not (runs and runs[0].wall > slow):
                self._take(mode, runs)

    def _take(self, mode: str, runs: list[Run]) -> None:
        folder = self._anew() if mode == COLD or self._folder is None else self._folder
        known = places(self._programs, self._home, folder, self.workload.slots)
        limit = LIMIT_OF_ORCH if self.tool is ORCH else LIMIT
        environ = environment(HOME=str(self._scratch), **self.tool.environment(known))
        run = measured(self.tool.argv(mode, known), folder, environ, limit)
        tell(f"{self.workload.graph} {mode} {self.tool.name}: {run.wall:.3f} s, processor {run.processor:.3f} s")
        if run.code:
            self.fault = f"over {limit:.0f} s" if not run.wall or run.wall >= limit else f"ended with {run.code}"
            tell(f"{self.tool.name} is left out of {self.workload.graph}: {self.fault}\n{run.said}")
            return
        runs.append(run)

    def _anew(self) -> Path:
        self.leave()
        self._folder = Path(tempfile.mkdtemp(dir=self._scratch))
        self.tool.write(self._tasks, self._folder)
        return self._folder

    def leave(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def forget(self) -> None:
        for runs in self.runs.values():
            runs.clear()


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def in_turns(places: list[Place]) -> None:
    """Round after round, in each every workload with every tool: what slows the machine meanwhile slows all of them."""
    for warm in (place for place in places if place.workload is WORKLOADS[0]):
        warm.round()  # whatever is compiled or looked up at the very first start
        warm.forget()
    for number in range(max((place.workload.rounds for place in places), default=0)):
        for place in places:
            if number < place.workload.rounds and place.is_asked_for:
                place.round()
    for place in places:
        place.leave()


def figures(places: Iterable[Place]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Of each workload and mode, of each tool: medians, and how far the wall times lie apart."""
    for place in places:
        for mode, runs in place.runs.items():
            walls = [run.wall for run in runs]
            told: dict[str, Any] = {"fault": place.fault} if place.fault and not runs else {}
            if runs:
                told = {
                    "wall": round(statistics.median(walls), 4),
                    "least": round(min(walls), 4), "most": round(max(walls), 4),
                    "processor": round(statistics.median(run.processor for run in runs), 4),
                    "runs": len(runs),
                }  # fmt: skip
            if told:
                yield f"{place.workload.graph} {mode}", place.tool.name, told


def absolute(path: str) -> Path:
    """What is measured runs in a folder of its own."""
    return Path(path).absolute()


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--full", action="store_true", help="also the rivals that take long to install and to run")
    parser.add_argument("--home", type=absolute, default=ROOT / ".bench" / "rivals", help="where rivals are installed")
    parser.add_argument("--scratch", type=absolute, default=ROOT / ".bench", help="below it everything runs")
    parser.add_argument(
        "--orch", type=absolute, default=Path(sys.executable).parent, help="the folder with the program orch"
    )
    parser.add_argument("--out", type=absolute, default=results.PATH)
    parser.add_argument("--only", default="", help="workloads and tools, by words: chain24,orch,doit")
    given = parser.parse_args()
    given.home.mkdir(parents=True, exist_ok=True)
    given.scratch.mkdir(parents=True, exist_ok=True)
    return given


def main() -> None:
    given, begun = options(), time.monotonic()
    words = set(filter(None, given.only.split(",")))
    workloads = [each for each in WORKLOADS if not words & set(GRAPHS) or each.graph in words]
    chosen = [tool for tool in RIVALS if given.full or tool.is_quick]
    if named := words - set(GRAPHS):
        chosen = [tool for tool in RIVALS if tool.key in named]
    found, missing = ready(chosen, given.home)
    found = [(ORCH, given.orch), (FLOOR, given.orch), *found]
    with tempfile.TemporaryDirectory(dir=given.scratch, prefix="run-") as scratch:
        everything = [
            Place(workload, tool, programs, given.home, Path(scratch))
            for workload in workloads for tool, programs in found
        ]  # fmt: skip
        in_turns(everything)
    table: dict[str, dict[str, Any]] = {}
    for row, tool, told in figures(everything):
        table.setdefault(row, {})[tool] = told
    versions = {tool.name: version_of(tool, programs) for tool, programs in found}
    results.put("compare", {"rows": table, "versions": versions, "missing": missing}, given.out, given.scratch)
    tell(f"measured in {time.monotonic() - begun:.0f} s: {given.out}")


if __name__ == "__main__":
    main()
