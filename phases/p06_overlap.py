"""Phase 6: a second run beside one that is going on leaves at once, and other commands are answered meanwhile."""

from __future__ import annotations

from typing import Any

from orchestrator import Context, phase, process
from phases._drill import (
    LOST,
    ORPHANED,
    STUCK,
    TWICE,
    Figures,
    Project,
    Started,
    Trial,
    alive,
    drill,
    identities,
)

ACTIVE = 75
SLOW_MS = 5000.0
LONG, WAITING, ENDED = 1, 2, 3
PHASES: tuple[dict[str, Any], ...] = (
    {"number": LONG, "name": "long", "needs": [], "run": "echo 1 >> began; while ! test -e go; do sleep 0.02; done"},
    {"number": WAITING, "name": "waiting", "needs": [], "run": 'test "$ORCH_ATTEMPT" -gt 1 || exit 75'},
    {"number": ENDED, "name": "ended", "needs": [], "run": "echo $$ > pid; echo 3 >> began; sleep 1000 & wait"},
)


@phase(6, needs=[3], timeout="2m", retries=0)
def overlap(ctx: Context) -> dict[str, Any]:
    """Start a second run; cancel, retry and look meanwhile."""
    return drill(ctx, meanwhile, verdict, steps=6)


def verdict(figures: Figures) -> str:
    return (
        f"a second run left after {figures['second_run_ms']:.0f} ms and named the first; meanwhile "
        f"status {figures['status_ms']:.0f}, retry {figures['retry_ms']:.0f}, cancel {figures['cancel_ms']:.0f} ms"
    )


def meanwhile(project: Project, trial: Trial) -> None:
    project.commands(*PHASES)
    trial.step("begin a run")
    run = project.start("run", "--json")
    run.await_lines("began", 2)
    run.await_event("RetryScheduled", WAITING)
    for number in (LONG, ENDED):
        run.await_event("AttemptStarted", number)
    trial.step("begin a second one")
    second(project, run, trial)
    trial.step("look")
    look(project, run, trial)
    trial.step("have a retry now")
    retry(project, run, trial)
    trial.step("cancel a phase")
    cancel(project, trial)
    trial.step("let the first one end")
    project.write("go", "")
    run.wait(1)  # one of its phases was cancelled
    undisturbed(project, trial)
    slow = {name: ms for name, ms in trial.figures.items() if name.endswith("_ms") and ms > SLOW_MS}
    trial.expect(f"every command is answered within {SLOW_MS:g} ms", not slow, f"slower: {slow or 'none'}", STUCK)


def second(project: Project, run: Started, trial: Trial) -> None:
    ended = project.orch("run", codes=(0, 1, 3, ACTIVE))
    trial.figures["second_run_ms"] = ended.ms
    trial.expect(
        f"a second run leaves with {ACTIVE} and names the first",
        ended.code == ACTIVE and f"pid {run.pid}" in ended.err,
        f"it left with {ended.code}: {ended.last_words}",
        "" if ended.code == ACTIVE else TWICE,
    )


def look(project: Project, run: Started, trial: Trial) -> None:
    ended = project.orch("status")
    state, trial.figures["status_ms"] = project.status()["run"], ended.ms
    trial.expect(
        "`orch status` names the run that is going on",
        (state["state"], state["pid"], state["alive"]) == ("running", run.pid, True),
        f"{state['state']}, pid {state['pid']}, {'alive' if state['alive'] else 'not alive'}",
    )


def retry(project: Project, run: Started, trial: Trial) -> None:
    ended = project.orch("retry", str(WAITING), codes=(0, 1, ACTIVE))
    trial.figures["retry_ms"] = ended.ms
    trial.expect("`orch retry` is accepted", ended.code == 0, f"it left with {ended.code}: {ended.last_words}", STUCK)
    if ended.code == 0:
        run.await_event("PhaseCompleted", WAITING)


def cancel(project: Project, trial: Trial) -> None:
    """Whoever is of the phase: its shell, and what that started."""
    shell = int(project.lines("pid")[0])
    tree = identities([shell, *process.descendants(shell)])
    ended = project.orch("cancel", str(ENDED), codes=(0, 1, ACTIVE))
    left = alive(tree)
    trial.figures["cancel_ms"] = ended.ms
    trial.expect("`orch cancel` is accepted", ended.code == 0, f"it left with {ended.code}: {ended.last_words}", STUCK)
    trial.expect("`orch cancel` returns when all is gone", not left, f"{len(left)} of {len(tree)} are there", ORPHANED)


def undisturbed(project: Project, trial: Trial) -> None:
    phases, began = project.phases(), project.lines("began")
    statuses = [phases[number]["status"] for number in (LONG, WAITING, ENDED)]
    expected = ["completed", "completed", "cancelled"]
    trial.expect("the first run comes to its end as asked", statuses == expected, f"phases: {statuses}", LOST)
    trial.expect("nothing was begun twice", sorted(began) == ["1", "3"], f"begun: {sorted(began)}", TWICE)
