"""Phase 7: what has not changed is kept by a new run, what has is run again, and half a file is never taken as good."""

from __future__ import annotations

from typing import Any

from orchestrator import Context, phase
from phases._drill import LOST, TWICE, Figures, Project, Trial, drill, until

SORT, COUNT, SLOW = 1, 2, 3
PHASES: tuple[dict[str, Any], ...] = (
    {"number": SORT, "needs": [], "inputs": ["in"], "outputs": ["sorted"],
     "run": "sort in/* > sorted; echo 1 >> ran"},
    {"number": COUNT, "needs": [SORT], "inputs": ["sorted"], "outputs": ["count"],
     "run": "wc -l < sorted > count; echo 2 >> ran"},
    {"number": SLOW, "needs": [], "outputs": ["slow"],
     "run": "echo half > slow; echo 3 >> began; while ! test -e go; do sleep 0.02; done; echo whole > slow"},
)  # fmt: skip


@phase(7, needs=[6], timeout="2m", retries=0)
def cache(ctx: Context) -> dict[str, Any]:
    """Change some of what phases are made from, and some of what they made."""
    return drill(ctx, change, verdict, steps=6)


def verdict(figures: Figures) -> str:
    return (
        f"a new run over what has not changed took {figures['unchanged_ms']:.0f} ms and ran nothing; "
        "each change ran what it touches, and no more"
    )


def change(project: Project, trial: Trial) -> None:
    project.write("in/a", "b\na\n")
    project.commands(*PHASES)
    trial.step("run, and be cut off half-way")
    cut_off(project, trial)
    trial.step("begin a new run over what has not changed")
    trial.figures["unchanged_ms"] = again(project, trial, "what has not changed is kept", [])
    trial.step("touch an input")
    (project.root / "in/a").touch()
    again(project, trial, "an input that was only touched has not changed", [])
    trial.step("change an input")
    project.write("in/b", "c\n")
    named(project, trial)
    again(project, trial, "an input that has changed runs what is made from it", ["1", "2"])
    trial.step("change it without effect")
    project.write("in/a", "a\nb\n")
    again(project, trial, "what comes out the same ends the change there", ["1"])
    trial.step("lose an output")
    (project.root / "count").unlink()
    again(project, trial, "an output that is gone is made again", ["2"])
    found = (project.root / "count").read_text().strip()
    trial.expect("what is there at the end is right", found == "3", f"it counts {found}, there are 3", LOST)


def cut_off(project: Project, trial: Trial) -> None:
    """It is ended with a file half written."""
    run = project.start("run", "--jobs", "3")
    run.await_lines("began", 1)
    until(lambda: project.phases()[COUNT]["status"] == "completed", "the others come to their end")
    project.orch("cancel", str(SLOW))
    run.wait(1)
    project.write("go", "")
    ended = project.orch("run", codes=(0, 1))
    whole = (project.root / "slow").read_text()
    trial.expect("what was cut off is run again", len(project.lines("began")) == 2, f"it left with {ended.code}", LOST)
    trial.expect("half a file is not taken as good", whole == "whole\n", f"it says {whole.strip()}", LOST)


def again(project: Project, trial: Trial, what: str, expected: list[str]) -> float:
    before = len(project.lines("ran"))
    ended = project.orch("run", "--new", codes=(0, 1))
    ran = project.lines("ran")[before:]
    statuses = {phase["status"] for phase in project.phases().values()}
    kept = ran == expected and statuses == {"completed"} and len(project.lines("began")) == 2
    trial.expect(what, kept, f"run were {', '.join(ran) or 'none'}; {', '.join(statuses)}", TWICE)
    return ended.ms


def named(project: Project, trial: Trial) -> None:
    """`plan` looks at a run that goes on; a new one is looked at dry."""
    told = project.orch("run", "--new", "--dry-run").out
    trial.expect("the change is named before anything runs", "in/b is new" in told, told.strip().splitlines()[0])
