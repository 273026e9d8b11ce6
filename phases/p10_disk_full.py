"""Phase 10: the disk is full in the middle of a run; it says so and leaves, loses nothing, and goes on with room again.

No disk is filled: the run may make no file larger than some kilobytes (RLIMIT_FSIZE). The kernel then does what it does
at the end of a disk: it writes the part that fits, and refuses the rest.
"""

from __future__ import annotations

import re
import time
from typing import Any

from orchestrator import Context, phase
from phases._drill import (
    DISK_FULL,
    LOST,
    STUCK,
    TWICE,
    Figures,
    Project,
    Trial,
    drill,
    until,
)

LONG, SHORT = 1, range(2, 42)
ROOM_BYTES = 25 * 1024  # state.json reaches it half-way, and nothing else does
WORK = "echo {number} >> ran"
PHASES: tuple[dict[str, Any], ...] = (
    {"number": LONG, "needs": [], "run": "echo 1 >> ran; while ! test -e go; do sleep 0.02; done; echo 1 >> ended"},
    {"number": 2, "needs": [], "run": WORK.format(number=2)},
    *({"number": number, "run": WORK.format(number=number)} for number in SHORT[1:]),  # one after the other
)


@phase(10, needs=[6], timeout="2m", retries=0)
def disk_full(ctx: Context) -> dict[str, Any]:
    """Let the disk be full in the middle of a run."""
    return drill(ctx, fill, verdict, steps=4)


def verdict(figures: Figures) -> str:
    return (
        f"with the disk full after {figures['done_before']} of {figures['phases']} the run left with {DISK_FULL} "
        f"and named the file; with room again it came to its end, each phase ran once"
    )


def fill(project: Project, trial: Trial) -> None:
    project.commands(*PHASES)
    trial.step("run until the disk is full")
    full = project.start("run", "--jobs", "2", room=ROOM_BYTES).wait(DISK_FULL)
    named = re.search(r"/system/(state\.json|journal/\d+\.jsonl): File too large", full.err) is not None
    trial.expect("who cannot write names the file and the reason", named, full.last_words)
    trial.step("look at what was kept")
    look(project, trial)
    trial.step("let the phase in hand end")
    in_hand(project, trial)
    trial.step("go on with room")
    again = project.orch("run", codes=(0, 1, 3, DISK_FULL))
    trial.figures |= {"phases": len(PHASES), "room_bytes": ROOM_BYTES, "rest_ms": again.ms}
    judge(project, trial, again.code)


def look(project: Project, trial: Trial) -> None:
    """What is on the disk is what happened: nothing is told as done that was not."""
    phases = project.phases()
    told = {number for number, phase in phases.items() if phase["status"] == "completed"}
    intended = {number for number, phase in phases.items() if phase["attempts"]}
    ran = {int(line) for line in project.lines("ran")}
    trial.figures["done_before"] = len(told)
    trial.expect("phases that are told as done were run", told <= ran, f"never run: {sorted(told - ran)}", LOST)
    unwritten = sorted(ran - intended)
    trial.expect("nothing is started that was not written down", not unwritten, f"begun: {unwritten}", TWICE)
    expected = "the disk was full in the middle of the run"
    trial.expect(expected, 0 < len(told) < len(PHASES) - 1, f"{len(told)} of {len(PHASES)} phases were done")


def in_hand(project: Project, trial: Trial) -> None:
    """The orchestrator is gone; the agent goes on with what it has, and keeps how it ended."""
    state = project.status()["run"]["state"]
    trial.expect("the phase in hand goes on with its agent", state == "detached", f"the run is {state}", LOST)
    project.write("go", "")
    until(lambda: project.lines("ended"), "the phase in hand comes to its end")
    began = time.monotonic()
    until(lambda: not any(agent["alive"] for agent in project.status()["agents"]), "its agent leaves when it is over")
    trial.figures["agent_left_ms"] = round((time.monotonic() - began) * 1000, 1)


def judge(project: Project, trial: Trial, code: int) -> None:
    trial.expect("with room again `orch run` comes to its end", code == 0, f"it left with {code}", STUCK)
    statuses = {phase["status"] for phase in project.phases().values()}
    trial.expect("then all is done", statuses == {"completed"}, f"phases: {', '.join(sorted(statuses))}", LOST)
    ran = sorted(int(line) for line in project.lines("ran"))
    twice = sorted({number for number in ran if ran.count(number) > 1})
    trial.expect("no phase ran twice", not twice, f"twice: {twice or 'none'}", TWICE)
