"""Phase 1: the orchestrator is killed with -9, twice, and the next `orch run` takes over what goes on without it."""

from __future__ import annotations

import time
from typing import Any

from orchestrator import Context, phase
from phases._drill import LOST, STUCK, TWICE, Figures, Project, Started, Trial, drill, until

NUMBERS = (1, 2)
SLOW_SECONDS = 5.0
SHELL = "echo 1 >> began; while ! test -e go; do sleep 0.02; done; echo 1 >> ended"
PYTHON = """
import os, time
from orchestrator import phase

@phase(2, needs=[])
def long_work(ctx):
    with open("began", "a") as file:
        file.write("2\\n")
    while not os.path.exists("go"):
        time.sleep(0.02)
    with open("ended", "a") as file:
        file.write("2\\n")
"""


@phase(1, needs=[0], timeout="2m", retries=0)
def take_over(ctx: Context) -> dict[str, Any]:
    """Kill orch with -9 in the middle of its work; go on."""
    return drill(ctx, killed_twice, verdict, steps=4)


def verdict(figures: Figures) -> str:
    return (
        f"after {figures['kills']} x kill -9 the next `orch run` went on within {figures['usable_seconds']:.1f} s; "
        f"each phase was executed {figures['times_executed']} time(s), none was lost"
    )


def killed_twice(project: Project, trial: Trial) -> None:
    project.commands(
        {"number": 1, "name": "command", "needs": [], "run": SHELL},
        {"number": 3, "name": "after", "needs": [1, 2], "run": "echo 3 >> began; echo 3 >> ended"},
    )
    project.write("phases/p2.py", PYTHON)
    trial.step("begin a run")
    first = project.start("run", "--json")
    first.await_lines("began", len(NUMBERS))
    for number in NUMBERS:
        first.await_event("AttemptStarted", number)
    trial.step("kill it, and run again")
    first.kill()
    second = project.start("run", "--json")
    taken_over = usable_after(second)
    trial.step("kill that one, and look")
    second.kill()
    goes_on_alone(project, trial)
    trial.step("let the work end without anybody, and run again")
    project.write("go", "")
    until(lambda: len(project.lines("ended")) >= len(NUMBERS), "the work goes on without an orchestrator")
    third = project.start("run", "--json")
    collected = usable_after(third)
    third.wait()
    executed_once(project, trial)
    trial.figures |= {"kills": 2, "usable_seconds": round(max(taken_over, collected), 2)}
    trial.expect(
        f"a run that was killed goes on within {SLOW_SECONDS:g} s",
        trial.figures["usable_seconds"] < SLOW_SECONDS,
        f"after {taken_over:.2f} s and {collected:.2f} s",
    )


def usable_after(run: Started) -> float:
    """Seconds from its start until it has said that it goes on."""
    run.await_event("RunContinued")
    return time.monotonic() - run.began


def goes_on_alone(project: Project, trial: Trial) -> None:
    told = project.status()
    busy = sorted(attempt for agent in told["agents"] if agent["alive"] for attempt in agent["attempts"])
    trial.expect(
        "`orch status` says that the agent works on without its orchestrator",
        told["run"]["state"] == "detached" and len(busy) == len(NUMBERS),
        f"{told['run']['state']}, {len(busy)} attempts with a live agent",
        LOST,
    )


def executed_once(project: Project, trial: Trial) -> None:
    began, ended, phases = project.lines("began"), project.lines("ended"), project.phases()
    times = {number: began.count(str(number)) for number in (*NUMBERS, 3)}
    trial.figures["times_executed"] = max(times.values())
    trial.expect("no phase is executed twice", max(times.values()) == 1, f"times executed: {told(times)}", TWICE)
    statuses = {number: phases[number]["status"] for number in times}
    trial.expect(
        "every phase is executed to its end and completed",
        sorted(ended) == ["1", "2", "3"] and set(statuses.values()) == {"completed"},
        f"ended: {' '.join(sorted(ended)) or 'none'}; {told(statuses)}",
        LOST,
    )
    attempts = {number: phases[number]["attempts"] for number in times}
    trial.expect("being killed costs no phase a try", set(attempts.values()) == {1}, f"attempts: {told(attempts)}")
    again = project.orch("run").out
    trial.expect("after that nothing is to do", again.startswith("nothing to do"), again.partition("\n")[0], STUCK)


def told(each: dict[int, Any]) -> str:
    return ", ".join(f"phase {number} {value}" for number, value in each.items())
