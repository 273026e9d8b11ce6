"""Phase 8: back to a checkpoint, exactly or not at all, also where the way back is cut off."""

from __future__ import annotations

import time
from typing import Any

from orchestrator import Context, phase
from phases._drill import LOST, STUCK, Figures, Project, Trial, drill

TABLE, INDEX = 1, 2
CUTS = (0.1, 0.2, 0.3, 0.4)  # seconds after which the way back is killed
FILES = 40
PHASES: tuple[dict[str, Any], ...] = (
    {"number": TABLE, "needs": [], "outputs": ["table"],
     "run": f"mkdir -p table; for i in $(seq {FILES}); do cp word table/$i; done"},
    {"number": INDEX, "needs": [TABLE], "outputs": ["index"], "run": "cat table/* > index"},
)  # fmt: skip


@phase(8, needs=[6], timeout="2m", retries=0)
def rollback(ctx: Context) -> dict[str, Any]:
    """Go back to a checkpoint; be killed on the way."""
    return drill(ctx, back, verdict, steps=4)


def verdict(figures: Figures) -> str:
    return (
        f"back in {figures['rollback_ms']:.0f} ms, {figures['files']} files and the state as they were; "
        f"killed {len(CUTS)} times on the way, never half"
    )


def back(project: Project, trial: Trial) -> None:
    project.commands(*PHASES)
    trial.step("make something, and keep it")
    make(project, "good")
    project.orch("checkpoint", "create")
    old = seen(project)
    kept = project.orch("checkpoint", "list").out.split()[0]
    trial.step("make something else")
    make(project, "worse")
    new = seen(project)
    told = project.orch("rollback", kept, "--dry-run")
    trial.expect("a look ahead changes nothing", seen(project) == new and "would be" in told.out, told.last_words, LOST)
    trial.step("be killed on the way back")
    halves = [cut for cut in CUTS if cut_off(project, kept, cut, (old, new))]
    trial.expect("cut off, it is all old or all new", not halves, f"neither after {halves or 'none'} s", LOST)
    trial.step("go back")
    ended = project.orch("rollback", kept, codes=(0, 1))
    trial.figures |= {"rollback_ms": ended.ms, "files": FILES + 1}
    trial.expect("all is as it was", seen(project) == old, f"it left with {ended.code}: {ended.last_words}", LOST)
    again = project.orch("run", codes=(0, 1))
    trial.expect("there is nothing to do again", "nothing" in again.out, again.last_words, STUCK)


def make(project: Project, word: str) -> None:
    project.write("word", f"{word}\n" * 1000)
    project.orch("run", "--new")


def seen(project: Project) -> tuple[object, ...]:
    """The files, whole, and where the phases stand."""
    files = sorted((project.root / "table").glob("*"))
    told = {path.name: path.read_text() for path in files}
    phases = {number: (phase["status"], phase["attempts"]) for number, phase in project.phases().items()}
    index = project.root / "index"
    return told, index.read_text() if index.exists() else None, phases


def cut_off(project: Project, checkpoint: str, seconds: float, either: tuple[object, ...]) -> bool:
    """Whether something else is there than one of the two, once the next command has put it in order."""
    command = project.start("rollback", checkpoint)
    time.sleep(seconds)
    command.kill()
    project.orch("recover")
    found = seen(project)
    if found == either[0]:
        make(project, "worse")
    return found not in either
