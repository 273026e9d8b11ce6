"""Phase 9: a person is asked, from another shell; nobody is held meanwhile, and exactly one answer counts."""

from __future__ import annotations

from typing import Any

from orchestrator import Context, phase
from phases._drill import STUCK, TWICE, Figures, Project, Trial, drill, until

ASKED, AFTER, LATE = 1, 2, 3
WAITING = 3  # the exit code of a run in which only people can go on
ROUNDS = 2
PHASES: tuple[dict[str, Any], ...] = (
    {"number": ASKED, "needs": [], "approval": "before", "run": "echo 1 >> ran"},
    {"number": AFTER, "needs": [ASKED], "run": "echo 2 >> ran"},
    {"number": LATE, "needs": [], "approval": {"when": "before", "deadline": "1s"}, "run": "echo 3 >> ran"},
)  # fmt: skip


@phase(9, needs=[6], timeout="2m", retries=0)
def approval(ctx: Context) -> dict[str, Any]:
    """Ask, answer from elsewhere, answer twice at once, and let a deadline pass."""
    return drill(ctx, ask, verdict, steps=ROUNDS + 2)


def verdict(figures: Figures) -> str:
    return (
        f"{ROUNDS} times two answers came at once and one counted; waiting held no process; "
        f"an approval was taken in {figures['approve_ms']:.0f} ms"
    )


def ask(project: Project, trial: Trial) -> None:
    project.commands(*PHASES)
    trial.step("ask, and leave")
    leave(project, trial)
    for number in range(ROUNDS):
        trial.step(f"two answers at once, {number + 1} of {ROUNDS}")
        two_at_once(project, trial)
    trial.step("be answered")
    answered(project, trial)


def leave(project: Project, trial: Trial) -> None:
    ended = project.orch("run", codes=(0, 1, WAITING))
    told = project.phases()[ASKED]["status"]
    trial.expect(
        "a run in which only people can go on leaves and says so", ended.code == WAITING,
        f"it left with {ended.code}; the phase is {told}", STUCK,
    )  # fmt: skip
    until(lambda: not project.processes(), "whoever ran leaves")
    left = project.processes()
    trial.expect("while it waits no process is held", not left, f"{len(left)} are there")
    refused = project.orch("approve", str(LATE), codes=(0, 1)) if expired(project) else None
    trial.expect(
        "after its deadline nobody is asked any more", refused is not None and refused.code == 1,
        refused.last_words if refused else "it still waits", STUCK,
    )  # fmt: skip


def expired(project: Project) -> bool:
    def denied() -> bool:
        project.orch("recover")
        return project.phases()[LATE]["status"] == "failed"

    return until(denied, "the deadline passes, and the default holds")


def two_at_once(project: Project, trial: Trial) -> None:
    """A yes and a no, from two shells; whichever counts, the other is told."""
    project.orch("run", "--new", "--only", f"{ASKED},{AFTER}", codes=(WAITING,))
    yes, no = project.start("approve", str(ASKED)), project.start("reject", str(ASKED), "--why", "not today")
    codes = [each.wait(0, 1).code for each in (yes, no)]
    status = project.phases()[ASKED]["status"]
    trial.expect(
        "of two answers at once exactly one counts",
        sorted(codes) == [0, 1] and (status == "failed") == (codes[1] == 0),
        f"they left with {codes[0]} and {codes[1]}; the phase is {status}",
        TWICE,
    )


def answered(project: Project, trial: Trial) -> None:
    project.orch("run", "--new", "--only", f"{ASKED},{AFTER}", codes=(WAITING,))
    before = project.lines("ran")
    said = project.orch("approve", str(ASKED), "--why", "seen")
    again = project.orch("approve", str(ASKED))
    trial.figures["approve_ms"] = said.ms
    ended = project.orch("run", codes=(0, 1, WAITING))
    ran = project.lines("ran")[len(before) :]
    trial.expect("the same answer twice is harmless", again.code == 0, again.last_words)
    trial.expect("what was approved runs, once", ran == ["1", "2"], f"run were {ran}; left with {ended.code}", TWICE)
    told = project.orch("story", str(ASKED)).out
    trial.expect("who said yes, and why, is in the story", "seen" in told, told.strip().splitlines()[-1])
