"""Phase 0: whether this machine is fit for unattended runs, from all that was found before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator import ConfigurationFault, Context, ValidationFault, phase

GROUND = (-8, -7, -6, -5, -4, -3, -2, -1)
MB = 10**6
LEAST_MEMORY, LEAST_DISK, LEAST_INODES = 100 * MB, 200 * MB, 1000
OPEN_FILES, OPEN_FILES_A_JOB = 64, 10  # of orch itself, and of each attempt in its agent
PROCESSES, PROCESSES_A_JOB = 32, 4
MOST_DRIFT_PPM = 50_000.0  # more than an hour a day
CRON_EVERY_MS = 60_000.0

Figures = dict[int, dict[str, Any]]


@phase(0, needs=list(GROUND), timeout="30s", retries=0)
def gate(ctx: Context) -> dict[str, Any]:
    """Weigh what the ground phases found: fit or not."""
    results = {number: result_of(ctx, number) for number in GROUND}
    figures = {number: result["figures"] for number, result in results.items()}
    if faults := list(unsafe(figures)):
        told = "; ".join(f"({place}) {fault}" for place, fault in enumerate(faults, 1))
        raise ConfigurationFault(f"this machine is not fit for unattended runs: {told}. `orch run --new` looks again")
    noted = [f"phase {number}: {text}" for number, result in results.items() for text in result.get("warnings", ())]
    noted += [f"together: {text}" for text in unwise(figures)]
    for text in noted:
        print(text)  # for `orch logs 0`
    return {
        "verdict": "fit for unattended runs, " + counted(len(noted)),
        "figures": {"phases_weighed": len(results), "warnings": len(noted)},
        "warnings": noted,
    }


def result_of(ctx: Context, number: int) -> dict[str, Any]:
    found = ctx.result(number)
    if not isinstance(found, dict) or not isinstance(found.get("figures"), dict) or not found.get("verdict"):
        raise ValidationFault(
            f"phase {number} left no verdict and figures: `orch run --only {number} --force`, then `orch run`"
        )
    return found


def counted(warnings: int) -> str:
    return {0: "no warnings", 1: "1 warning"}.get(warnings, f"{warnings} warnings")


def unsafe(figures: Figures) -> Iterator[str]:
    """What nobody would be awake to put right."""
    host, clock, files, settings, state = (figures[number] for number in (-8, -7, -6, -4, -3))
    jobs = settings["jobs"]
    if host["memory_free_bytes"] < LEAST_MEMORY:
        yield f"{megabytes(host['memory_free_bytes'])} of memory are free, {megabytes(LEAST_MEMORY)} are needed"
    if files["disk_free_bytes"] < LEAST_DISK:
        yield f"{megabytes(files['disk_free_bytes'])} are free on {files['mount']}, {megabytes(LEAST_DISK)} are needed"
    if files["inodes_free"] is not None and files["inodes_free"] < LEAST_INODES:
        yield f"{files['inodes_free']} more files can be made on {files['mount']}, {LEAST_INODES} are needed"
    if host["open_files_limit"] < (needed := OPEN_FILES + OPEN_FILES_A_JOB * jobs):
        yield f"{host['open_files_limit']} files may be open, {jobs} jobs need {needed}: raise ulimit -n, or lower jobs"
    for name in ("processes_limit", "processes_limit_group"):
        if host[name] is not None and host[name] < (needed := PROCESSES + PROCESSES_A_JOB * jobs):
            yield f"{host[name]} processes are allowed ({name}), {jobs} jobs need {needed}: raise it, or lower jobs"
    if abs(clock["wall_drift_ppm"]) > MOST_DRIFT_PPM + clock["drift_uncertainty_ppm"]:
        yield f"the wall clock is wrong by {clock['wall_drift_ppm'] / 1e6:+.1%} of what passes: due times mean nothing"
    if state["commit_p95_ms"] > settings["beat_interval_seconds"] * 1000:
        yield f"a decision takes {state['commit_p95_ms']:.0f} ms to be safe, longer than the time between two beats"


def unwise(figures: Figures) -> Iterator[str]:
    """What only shows when the findings of several phases are held together."""
    host, files, control, settings, base = (figures[number] for number in (-8, -6, -5, -4, -1))
    if settings["logs_of_one_phase_bytes"] > files["disk_free_bytes"] / 10:
        yield (
            f"the logs of one phase may grow to {megabytes(settings['logs_of_one_phase_bytes'])}, "
            f"{megabytes(files['disk_free_bytes'])} are free: lower logs.keep or logs.phase_bytes"
        )
    if host["memory_free_bytes"] / settings["jobs"] < LEAST_MEMORY:
        yield f"{settings['jobs']} attempts at once share {megabytes(host['memory_free_bytes'])} of memory: lower jobs"
    if control["kill_ms"] > settings["kill_grace_seconds"] * 1000 > 0:
        yield f"a killed process takes {control['kill_ms']:.0f} ms to go, longer than kill_grace"
    if base["nothing_to_do_ms"] > CRON_EVERY_MS / 4:
        yield f"orch takes {base['nothing_to_do_ms'] / 1000:.0f} s to find nothing to do: do not start it every minute"


def megabytes(amount: float) -> str:
    return f"{amount / MB:.0f} MB"
