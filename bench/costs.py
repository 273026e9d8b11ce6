"""How the cost of a run grows with the number of its phases: time, memory, bytes and syncs at 1, 100, 1,000 and 10,000.

python -m bench.costs [--orch FOLDER] [--scratch DIR] [--out FILE] [--most PHASES] [--simulated PHASES]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import inputs, results, tracing
from bench.compare import ROOT, absolute, tell
from bench.graphs import chain, of_size
from bench.growth import simulated
from bench.measuring import MEBIBYTE, Run, environment, measured

SIZES = (1, 100, 1_000, 10_000)
SIMULATED = (1, 1_000, 10_000, 100_000)
LIMIT = 900.0
LOOK_EACH = 0.05
SEVERAL = 1_000  # phases: what takes longer is measured once


class Bench:
    def __init__(self, orch: Path, scratch: Path) -> None:
        self._argv = [str(orch / "orch"), "run", "--quiet", "--jobs", "2"]
        self._scratch = scratch
        self._environment = environment(HOME=str(scratch))

    def of(self, phases: int) -> dict[str, Any]:
        """Time and bytes of a run that nobody disturbs; memory and syncs of another."""
        runs = [self._run(phases) for _ in range(3 if phases <= SEVERAL else 1)]
        found = {
            "phases": phases,
            "wall": round(statistics.median(run.wall for run in runs), 4),
            "processor": round(statistics.median(run.processor for run in runs), 4),
            "written": round(statistics.median(run.written for run in runs)),
            "memory_mib": round(self._run(phases, LOOK_EACH).together, 1),
            "syncs": self._syncs(phases),
        }
        tell(", ".join(f"{name} {value}" for name, value in found.items()))
        return found

    def _run(self, phases: int, look_each: float = 0.0) -> Run:
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            inputs.orch(of_size(phases), Path(folder))
            run = measured(self._argv, Path(folder), self._environment, LIMIT, look_each)
        if run.code:
            raise SystemExit(f"{phases} phases: orch ended with {run.code}: {run.said}")
        return run

    def _syncs(self, phases: int) -> int | None:
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            inputs.orch(of_size(phases), Path(folder))
            try:
                return tracing.syncs(self._argv, Path(folder), self._environment, Path(folder) / "strace")
            except tracing.CannotTrace as why:
                tell(f"syncs are not counted: {why}")
                return None

    def calls(self) -> dict[str, Any]:
        """Where the system calls of a phase are made: one after the other, and two at a time in layers."""
        found = {}
        for name, tasks in (("24 in a chain", chain(24)), ("100 in layers", of_size(100))):
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
                inputs.orch(tasks, Path(folder))
                try:
                    record = Path(folder) / "strace"
                    counts = tracing.counted(self._argv, Path(folder), self._environment, record, len(tasks))
                except tracing.CannotTrace as why:
                    tell(f"system calls are not counted: {why}")
                    return {}
            found[name] = {
                "calls": {part: _calls(counts, part) for part in counts.calls},
                "syncs": round(counts.syncs, 2),
                "written": round(counts.bytes_written),
                "processes": round(counts.processes / counts.phases, 2),
            }
        return found


def _calls(counts: tracing.Counted, part: str) -> Mapping[str, float]:
    most = {name: round(counts.per_phase(part, name), 1) for name, _ in counts.calls[part].most_common(8)}
    return {"all": round(counts.per_phase(part), 1), **most}


def _simulated(phases: int) -> dict[str, Any]:
    """The loop and the store alone, their attempts played by nobody: where real ones would take too long."""
    grown = simulated(phases)
    found = {
        "phases": phases,
        "processor": round(grown.seconds, 4),
        "written": grown.written_bytes,
        "memory_mib": round(grown.peak_bytes / MEBIBYTE, 1),
        "syncs": grown.syncs,
    }
    tell("simulated: " + ", ".join(f"{name} {value}" for name, value in found.items()))
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.costs", description=__doc__)
    parser.add_argument(
        "--orch", type=absolute, default=Path(sys.executable).parent, help="the folder with the program orch"
    )
    parser.add_argument("--scratch", type=absolute, default=ROOT / ".bench", help="below it everything runs")
    parser.add_argument("--out", type=absolute, default=results.PATH)
    parser.add_argument("--most", type=int, default=SIZES[-1], metavar="PHASES", help="no larger real runs")
    parser.add_argument(
        "--simulated", type=int, default=SIMULATED[-1], metavar="PHASES", help="no larger simulated ones"
    )
    given = parser.parse_args()
    given.scratch.mkdir(parents=True, exist_ok=True)
    return given


def main() -> None:
    given = options()
    with tempfile.TemporaryDirectory(dir=given.scratch, prefix="run-") as scratch:
        bench = Bench(given.orch, Path(scratch))
        found = {
            "real": [bench.of(phases) for phases in SIZES if phases <= given.most],
            "simulated": [_simulated(phases) for phases in SIMULATED if phases <= given.simulated],
            "calls": bench.calls(),
        }
    results.put("growth", found, given.out, given.scratch)


if __name__ == "__main__":
    main()
