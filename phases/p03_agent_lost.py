"""Phase 3: the agent is killed with -9; its attempts die with it, orch knows at once and runs them again."""

from __future__ import annotations

import signal
import time
from typing import Any

from orchestrator import Context, phase, process
from phases._drill import (
    LOST,
    ORPHANED,
    TWICE,
    Event,
    Figures,
    Project,
    Started,
    Trial,
    alive,
    at,
    drill,
    identities,
    until,
)

NUMBERS = (1, 2)
PROMISED_MS = 1000.0
DEN = "den"
# The second attempt looks whether anybody of the first one is still there.
SHELL = """
cd den
if test "$ORCH_ATTEMPT" -gt 1; then touch ../again-1; exit; fi
setsid sleep 1000 &
echo 1 >> ../began
sleep 1000
"""
PYTHON = """
import os, subprocess, time
from orchestrator import phase

@phase(2, needs=[], retries=0)
def python(ctx):
    os.chdir("den")
    if ctx.attempt > 1:
        open("../again-2", "w").close()
        return
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    with open("../began", "a") as file:
        file.write("2\\n")
    time.sleep(1000)
"""


@phase(3, needs=[2], timeout="2m", retries=0)
def agent_lost(ctx: Context) -> dict[str, Any]:
    """Kill an agent with -9 under its attempts."""
    return drill(ctx, lose, verdict, steps=3)


def verdict(figures: Figures) -> str:
    return (
        f"the loss of an agent was known after {figures['noticed_ms']:.0f} ms, "
        f"its {figures['processes_lost']} processes died with it (leftovers: {figures['leftovers']}), "
        f"{figures['run_again']} attempts were run again at no cost of a try"
    )


def lose(project: Project, trial: Trial) -> None:
    project.write("orch.toml", 'kill_grace = "0.3s"\n')
    project.write(f"{DEN}/readme", "the folder in which attempts work")
    project.commands({"number": 1, "name": "command", "needs": [], "retries": 0, "run": SHELL})
    project.write("phases/p2.py", PYTHON)
    trial.step("begin a run")
    run = project.start("run", "--json")
    run.await_lines("began", len(NUMBERS))
    for number in NUMBERS:
        run.await_event("AttemptStarted", number)
    first = identities(project.processes(DEN))
    agent = agent_of(project)
    trial.step("kill its agent")
    killed_at = time.time()
    process.send(agent, signal.SIGKILL)
    lost = [run.await_event("RetryScheduled", number) for number in NUMBERS]
    again = [begun_again(run, number) for number in NUMBERS]
    left = alive(first)
    trial.step("let the run end")
    run.wait()
    trial.figures |= {
        "noticed_ms": round(max(0.0, *(at(event) - killed_at for event in lost)) * 1000, 1),
        "processes_lost": len(first),
        "leftovers": len(left),
        "run_again": len(again),
    }
    judge(project, trial, [event["failure"]["code"] for event in lost])


def agent_of(project: Project) -> Any:
    def busy() -> Any:
        pids = [agent["pid"] for agent in project.status()["agents"] if len(agent["attempts"]) == len(NUMBERS)]
        return process.identity(pids[0]) if pids else None

    return until(busy, "`orch status` names the agent and its attempts")


def begun_again(run: Started, number: int) -> Event:
    def second() -> Event | None:
        return next(iter(run.events("AttemptIntended", number)[1:]), None)

    return run.until(second, f"phase {number} is run again")


def judge(project: Project, trial: Trial, codes: list[str]) -> None:
    figures, phases = trial.figures, project.phases()
    noticed, left = figures["noticed_ms"], figures["leftovers"]
    trial.expect(f"a lost agent is known within {PROMISED_MS:g} ms", noticed <= PROMISED_MS, f"after {noticed:g} ms")
    trial.expect(
        "attempts die with their agent", left == 0, f"{left} of {figures['processes_lost']} outlived it", ORPHANED
    )
    trial.expect("the loss is named INTERRUPTED", set(codes) == {"INTERRUPTED"}, f"codes: {codes}")
    statuses = [phases[number]["status"] for number in NUMBERS]
    trial.expect(
        "without any retries left, what was lost is run again", set(statuses) == {"completed"}, f"{statuses}", LOST
    )
    attempts = [phases[number]["attempts"] for number in NUMBERS]
    trial.expect("it is run again once", attempts == [2, 2], f"attempts: {attempts}", TWICE)
