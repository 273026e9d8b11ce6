"""Phase 5: how near layers of phases that only wait come to the ideal: what orch itself costs beside the work."""

from __future__ import annotations

import math
from typing import Any

from orchestrator import Context, phase
from phases._drill import Event, Figures, Project, Started, Trial, at, drill

LAYERS, WIDTH, JOBS = 3, 8, 4
PACE = 0.4  # seconds that a phase takes
LEAST_RATIO = 0.5
COMPLETED, BEGUN = "PhaseCompleted", "AttemptIntended"
PYTHON = """
import time
from orchestrator import phase

def make(number, needs):
    @phase(number, needs=needs, name=f"python{{number}}")
    def wait(ctx):
        time.sleep({pace})

for number, needs in {needs}.items():
    make(number, needs)
"""


@phase(5, needs=[1, 2, 3, 4, 6, 7, 8, 9, 10, 11], timeout="2m", retries=0)
def parallel(ctx: Context) -> dict[str, Any]:
    """Run layers of phases side by side, against the ideal."""
    return drill(ctx, in_layers, verdict, steps=2)


def verdict(figures: Figures) -> str:
    return (
        f"{figures['phases']} phases in {figures['layers']} layers, {figures['jobs']} at a time: "
        f"{figures['wall_seconds']:.2f} s where {figures['ideal_seconds']:.2f} s are ideal "
        f"({figures['efficiency']:.0%}), {figures['overhead_per_phase_ms']:.0f} ms a phase"
    )


def in_layers(project: Project, trial: Trial) -> None:
    needs = needs_of_layers()
    write(project, needs)
    trial.step(f"{LAYERS} layers of {WIDTH} phases")
    run = project.start("run", "--json", "--jobs", str(JOBS))
    run.wait()
    trial.figures |= figures_of(run)
    judge(needs, run, trial)


def needs_of_layers() -> dict[int, list[int]]:
    """Every phase of a layer needs all of the one before."""
    layers = [list(range(first, first + WIDTH)) for first in range(1, LAYERS * WIDTH, WIDTH)]
    return {number: before for before, layer in zip([[], *layers], layers, strict=False) for number in layer}


def write(project: Project, needs: dict[int, list[int]]) -> None:
    """Half of them commands, half Python."""
    project.commands(
        *(
            {"number": number, "name": f"command{number}", "needs": of, "run": ["sleep", str(PACE)]}
            for number, of in needs.items()
            if number % 2
        )
    )
    python = {number: of for number, of in needs.items() if number % 2 == 0}
    project.write("phases/python.py", PYTHON.format(pace=PACE, needs=python))


def figures_of(run: Started) -> Figures:
    """From the first start to the last end: what starting orch costs is measured in phase -1."""
    started, completed = run.events(BEGUN), run.events(COMPLETED)
    wall = max(map(at, completed)) - min(map(at, started))
    ideal = LAYERS * math.ceil(WIDTH / JOBS) * PACE
    return {
        "phases": len(completed),
        "layers": LAYERS,
        "jobs": JOBS,
        "ideal_seconds": round(ideal, 2),
        "wall_seconds": round(wall, 3),
        "efficiency": round(ideal / wall, 3),
        "overhead_per_phase_ms": round((wall - ideal) * JOBS / len(completed) * 1000, 1),
        "most_at_once": most_at_once(started, completed),
    }


def most_at_once(started: list[Event], completed: list[Event]) -> int:
    """Ends count before starts of the same moment."""
    changes = sorted([(at(event), 1) for event in started] + [(at(event), -1) for event in completed])
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def judge(needs: dict[int, list[int]], run: Started, trial: Trial) -> None:
    figures = trial.figures
    most, ratio = figures["most_at_once"], figures["efficiency"]
    trial.expect("all phases are completed", figures["phases"] == len(needs), f"{figures['phases']} of {len(needs)}")
    trial.expect(f"no more than {JOBS} run at once, and as many do", most == JOBS, f"at most {most} did")
    early = too_early(needs, run)
    trial.expect("none begins before what it needs is done", not early, f"too early: {early or 'none'}")
    trial.expect(
        f"side by side they come to {LEAST_RATIO:.0%} of the ideal at least", ratio >= LEAST_RATIO, f"{ratio:.0%}"
    )


def too_early(needs: dict[int, list[int]], run: Started) -> list[int]:
    done = {event["number"]: at(event) for event in run.events(COMPLETED)}
    began = {event["number"]: at(event) for event in run.events(BEGUN)}
    return [number for number, of in needs.items() if any(done[need] > began[number] for need in of)]
