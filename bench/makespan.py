"""How long recorded workflows take in real runs, their run times scaled to sleeps, against what no order can beat.

python bench/makespan.py [FOLDER [SECONDS]]   FOLDER holds graphs of WfCommons (default: ../shared/wf or $ORCH_WF);
each graph is scaled so that the best order would take SECONDS (default 60)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.eta_check import Graph, folder, graphs
from tests.core.test_priority import least

SLOTS = (4, 8, 16)
ORCH = (sys.executable, "-m", "orchestrator.cli")


def simple_bound(graph: Graph, slots: int) -> float:
    """The longest path, or all the work shared by the slots: no run is quicker, and often none can be as quick."""
    finish: dict[int, float] = {}

    def end(number: int) -> float:
        if number not in finish:
            finish[number] = graph.seconds[number] + max((end(need) for need in graph.needs[number]), default=0.0)
        return finish[number]

    return max(sum(graph.seconds.values()) / slots, *(end(number) for number in graph.needs))


def definitions(graph: Graph, scale: float) -> str:
    return "\n".join(
        f'[[phase]]\nnumber = {number}\nname = "p{number}"\nneeds = {[*needs]}\n'
        f'run = ["sleep", "{graph.seconds[number] * scale:.4f}"]\n'
        for number, needs in graph.needs.items()
    )


def measured(graph: Graph, slots: int, scale: float) -> float:
    """The second run: the first has told how long each takes. Start and end of the command are in it."""
    with tempfile.TemporaryDirectory() as root:
        for name in ("phases", "system"):
            (Path(root) / name).mkdir()
        (Path(root) / "orch.toml").write_text("")
        (Path(root) / "phases" / "all.toml").write_text(definitions(graph, scale))
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        for _ in range(2):
            begun = time.monotonic()
            words = (*ORCH, "run", "--new", "--quiet", "--jobs", str(slots))
            subprocess.run(words, cwd=root, env=environment, check=True)
            took = time.monotonic() - begun
        return took


def main() -> None:
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else folder()
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    print("graph, slots: seconds; times max(longest path, work / slots); times what no order can beat")
    for graph in graphs(where):
        for slots in SLOTS:
            simple, best = simple_bound(graph, slots), least(graph.needs, graph.seconds, slots)
            scale = seconds / best
            took = measured(graph, slots, scale)
            print(f"{graph.name}, {slots}: {took:.1f}; {took / scale / simple:.3f}; {took / seconds:.3f}", flush=True)


if __name__ == "__main__":
    main()
