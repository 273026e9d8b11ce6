"""Phase 4: what failed is tried again by its class, as often and as late as the settings say, also by a later run."""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestrator import Context, phase
from phases._drill import LOST, STUCK, Event, Figures, Project, Started, Trial, at, drill, pairs

SLOW_MS = 1000.0  # a retry that is so much later than due
EARLY_MS = 20.0  # the clock of the disk against that of the waiting
LATER, LATER_SECONDS = 9, 2.5
SETTINGS = "\n".join(
    f'[retry.{code}]\ntries = {tries}\ndelay = "{delay}s"\nfactor = {factor}\njitter = 0\n'
    for code, tries, delay, factor in (
        ("TRANSIENT", 2, 0.2, 2), ("DEPENDENCY", 1, 0.3, 1), ("RESOURCE", 1, 0.3, 1), ("FAILED", 1, 0.2, 1),
    )
)  # fmt: skip
PYTHON = """
from orchestrator import ValidationFault, phase

@phase(5, needs=[])
def cut_off(ctx):
    if ctx.attempt == 1:
        raise ConnectionResetError("the other end has gone")

@phase(6, needs=[])
def out_of_memory(ctx):
    if ctx.attempt == 1:
        raise MemoryError("for the sake of the drill")

@phase(7, needs=[])
def invalid(ctx):
    raise ValidationFault("the data are wrong, and will be")

@phase(8, needs=[])
def unknown(ctx):
    raise RuntimeError("nobody knows why")
"""


class Case(NamedTuple):
    """How a phase fails, what that means, and how it must end."""

    way: str
    code: str
    attempts: int
    status: str


CASES = {
    1: Case("exit 75, twice", "TRANSIENT", 3, "completed"),
    2: Case("exit 69, once", "DEPENDENCY", 2, "completed"),
    3: Case("exit 78", "CONFIGURATION", 1, "failed"),
    4: Case("exit 1", "FAILED", 2, "failed"),
    5: Case("ConnectionResetError, once", "TRANSIENT", 2, "completed"),
    6: Case("MemoryError, once", "RESOURCE", 2, "completed"),
    7: Case("ValidationFault", "VALIDATION", 1, "failed"),
    8: Case("RuntimeError", "FAILED", 2, "failed"),
}


@phase(4, needs=[0], timeout="2m", retries=0)
def retries(ctx: Context) -> dict[str, Any]:
    """Fail in eight ways; see what is tried again, and when."""
    return drill(ctx, fail_in_all_ways, verdict, steps=4)


def verdict(figures: Figures) -> str:
    return (
        f"{figures['ways_to_fail']} ways to fail, each tried again as its class says ({figures['retries']} retries, "
        f"at most {figures['late_ms']:.0f} ms late); one that was due later outlived `orch run`"
    )


def fail_in_all_ways(project: Project, trial: Trial) -> None:
    write(project)
    trial.step("fail in eight ways")
    run = project.start("run", "--json", "--to", str(LATER - 1))
    run.wait(1)
    by_class(project, run, trial)
    trial.step("leave with a retry still due")
    left = project.start("run", "--json", "--only", str(LATER), "--no-wait")
    left.wait(3)
    trial.step("let the next run honour it")
    honoured = project.start("run", "--json", "--only", str(LATER))
    honoured.wait(0, 1)
    over_the_end(project, left, honoured, trial)


def write(project: Project) -> None:
    project.write("orch.toml", SETTINGS)
    later = {"TRANSIENT": {"tries": 1, "delay": f"{LATER_SECONDS:g}s", "jitter": 0}}
    project.commands(
        {"number": 1, "name": "busy", "needs": [], "run": 'test "$ORCH_ATTEMPT" -gt 2 || exit 75'},
        {"number": 2, "name": "not-there", "needs": [], "run": 'test "$ORCH_ATTEMPT" -gt 1 || exit 69'},
        {"number": 3, "name": "misconfigured", "needs": [], "run": "exit 78"},
        {"number": 4, "name": "failing", "needs": [], "run": "exit 1"},
        {"number": LATER, "name": "later", "needs": [], "retry": later, "run": 'test "$ORCH_ATTEMPT" -gt 1 || exit 75'},
    )
    project.write("phases/python.py", PYTHON)


def by_class(project: Project, run: Started, trial: Trial) -> None:
    phases, failures = project.phases(), run.events("RetryScheduled") + run.events("PhaseFailed")
    for number, case in CASES.items():
        codes = {event["failure"]["code"] for event in failures if event["number"] == number}
        found = Case(case.way, ",".join(sorted(codes)), phases[number]["attempts"], phases[number]["status"])
        trial.expect(f"{case.way}: {meant(case)}", found == case, meant(found))
    late = [lateness(*pair) for pair in pairs(run.events("RetryScheduled"), run.events("AttemptIntended"))]
    trial.figures |= {"ways_to_fail": len(CASES), "retries": len(late), "late_ms": round(max(0.0, *late), 1)}
    trial.expect(
        f"a retry begins when it is due, at most {SLOW_MS:g} ms later",
        min(late) >= -EARLY_MS and max(late) <= SLOW_MS,
        f"{min(late):.0f} to {max(late):.0f} ms after it was due",
    )


def meant(case: Case) -> str:
    return f"{case.code}, {case.attempts} attempt(s), {case.status}"


def lateness(scheduled: Event, begun: Event, opened_at: float = 0.0) -> float:
    """Milliseconds by which an attempt began later than it was due, or than the run that found it due."""
    due_at = at(scheduled) + float(scheduled["delay_seconds"])
    return (at(begun) - max(due_at, opened_at)) * 1000


def over_the_end(project: Project, left: Started, honoured: Started, trial: Trial) -> None:
    phase = project.phases()[LATER]
    trial.expect(
        "a retry that is due later is not lost with the end of `orch run`",
        (phase["status"], phase["attempts"]) == ("completed", 2),
        f"{phase['status']} after {phase['attempts']} attempt(s)",
        LOST,
    )
    both = list(pairs(left.events("RetryScheduled"), honoured.events("AttemptIntended")))
    late = lateness(*both[0], at(honoured.await_event("RunContinued"))) if both else None
    trial.figures["later_late_ms"] = None if late is None else round(max(0.0, late), 1)
    trial.expect(
        "the next run waits for its time, and no longer",
        late is not None and -EARLY_MS <= late <= SLOW_MS,
        "it was never begun" if late is None else f"it began {late:.0f} ms after it was due",
        STUCK if late is None else "",
    )
