"""Phase 2: process trees that do all they can to stay meet their deadline, and nobody of them is left."""

from __future__ import annotations

import sys
import time
from typing import Any

from orchestrator import Context, phase
from phases._drill import ORPHANED, Figures, Project, Started, Trial, at, drill, until

TIMEOUT, GRACE = 1.0, 0.3
PROMISED = 1.0  # seconds after deadline and grace, in which all of a tree is gone
DEN = "den"  # where the trees live: the folder they work in shows who belongs to them, however they hide
LEAST = 8  # processes that the two trees have at least, when they are as stubborn as they should be
CLEAN_LOOKS = 5  # whoever forks all the time may be between two pids at one look

STUBBORN = r'''
"""Ignores SIGTERM, stops itself, leaves its session with an empty environment, and keeps forking."""
import os, signal, time

for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)


def away(what):
    """Forked twice, in a session of its own: nobody's child, in nobody's group."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.closerange(0, 256)
    what()
    os._exit(0)


def nameless():
    os.execve("/bin/sleep", ["sleep", "1000"], {})


def stopped():
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)


def chain():
    """Each lives a moment, and is always replaced."""
    while True:
        if os.fork():
            os._exit(0)
        os.setsid()
        time.sleep(0.002)


def bush():
    while True:
        if os.fork() == 0:
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(1000)
        time.sleep(0.1)


os.chdir(os.environ["ORCH_PROJECT"] + "/den")
for what in (nameless, stopped, chain, bush):
    away(what)
while True:
    time.sleep(1000)
'''
AS_PYTHON = """
import runpy
from orchestrator import phase

@phase(2, needs=[])
def python(ctx):
    runpy.run_path(str(ctx.path("stubborn.py")))
"""


@phase(2, needs=[1, 4], timeout="2m", retries=0)
def deadline(ctx: Context) -> dict[str, Any]:
    """Let stubborn process trees meet their deadline."""
    return drill(ctx, outstay, verdict, steps=3)


def verdict(figures: Figures) -> str:
    return (
        f"trees of {figures['most_processes']} processes that ignore, hide, stop and fork were gone "
        f"{figures['late_seconds']:.2f} s after deadline and grace; survivors: {figures['survivors']}"
    )


def outstay(project: Project, trial: Trial) -> None:
    write(project)
    trial.step("plant stubborn trees")
    run = project.start("run", "--json")
    started = [run.await_event("AttemptStarted", number) for number in (1, 2)]
    trial.step("wait for their deadline")
    most, gone_at = watch(project, run)
    trial.step("look who is left")
    run.wait(1)
    survivors = project.processes(DEN)
    late = max(0.0, gone_at - max(map(at, started)) - TIMEOUT - GRACE)
    trial.figures |= {"most_processes": most, "late_seconds": round(late, 3), "survivors": len(survivors)}
    judge(project, trial)


def write(project: Project) -> None:
    project.write("orch.toml", f'kill_grace = "{GRACE}s"\ntimeout = "{TIMEOUT}s"\n')
    project.write("stubborn.py", STUBBORN)
    project.write(f"{DEN}/readme", "their folder")
    project.commands({"number": 1, "name": "command", "needs": [], "run": [sys.executable, "-I", "-S", "stubborn.py"]})
    project.write("phases/p2.py", AS_PYTHON)


def watch(project: Project, run: Started) -> tuple[int, float]:
    """How many there were at most, and when the last one was gone."""
    most, gone_at, clean = 0, 0.0, 0

    def all_gone() -> bool:
        nonlocal most, gone_at, clean
        found = len(project.processes(DEN))
        most, clean = max(most, found), 0 if found else clean + 1
        gone_at = time.time() if clean <= 1 else gone_at
        # once the run is over nobody will end what is still there
        return (clean >= CLEAN_LOOKS and most > 0) or run.is_over

    until(
        all_gone, "stubborn trees end at their deadline", lambda: f"{len(project.processes(DEN))} processes are there"
    )
    return most, gone_at


def judge(project: Project, trial: Trial) -> None:
    figures, phases = trial.figures, project.phases()
    survivors, late, most = figures["survivors"], figures["late_seconds"], figures["most_processes"]
    trial.expect("no process outlives its attempt", survivors == 0, f"{survivors} did", ORPHANED)
    trial.expect(
        f"a tree is gone within {PROMISED:g} s after deadline and grace", late <= PROMISED, f"after {late:g} s"
    )
    trial.expect("the trees are as stubborn as they should be", most >= LEAST, f"at most {most} processes")
    codes = [(phases[number]["error"] or {}).get("code") for number in (1, 2)]
    trial.expect("the phases are failed with TIMEOUT", codes == ["TIMEOUT"] * 2, f"codes: {codes}")
