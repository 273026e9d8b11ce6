"""Phase -1: what orch itself costs here, measured on a throw-away project through the commands that a user has."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import ConfigurationFault, Context, Resource, TimeoutFault, phase
from phases._ground import environment, milliseconds, scratch

PHASES = 24
STARTS = 2
PATIENCE = 60.0


@phase(-1, needs=[-6, -5, -3], timeout="3m", retries=0)
def baseline(ctx: Context) -> dict[str, Any]:
    """Measure orch on a chain of 24 command phases."""
    with scratch(ctx) as project:
        write_chain(project)
        measures = {
            "bare_python": lambda: seconds_of([sys.executable, "-I", "-S", "-c", "pass"]),
            "version": lambda: orch(project, "--version"),
            "status": lambda: orch(project, "status", "--project", str(project)),
        }
        took = {name: fastest_of(measures[name]) for name in ctx.track(measures, text="starts of orch")}
        took["run"] = orch(project, "run", "--project", str(project))
        took["nothing_to_do"] = orch(project, "run", "--project", str(project))
        refuse_unfinished(project)
    figures = of_times(took)
    return {"verdict": verdict(figures), "figures": figures, "warnings": []}


def verdict(figures: dict[str, Any]) -> str:
    return (
        f"`orch status` starts in {figures['status_ms']:.0f} ms ({figures['status_per_bare_python']:g} bare Pythons); "
        f"{PHASES} phases in a chain take {figures['run_ms']:.0f} ms, "
        f"{figures['per_phase_ms']:.1f} ms each beyond the start"
    )


def of_times(took: dict[str, float]) -> dict[str, Any]:
    beyond = max(0.0, took["run"] - took["nothing_to_do"])
    return {
        "phases": PHASES,
        **{f"{name}_ms": milliseconds(seconds) for name, seconds in took.items()},
        "per_phase_ms": milliseconds(beyond / PHASES),
        **{
            f"{name}_per_bare_python": round(seconds / took["bare_python"], 1)
            for name, seconds in took.items()
            if name != "bare_python"
        },
        "per_phase_per_bare_python": round(beyond / PHASES / took["bare_python"], 2),
    }


# The project


def write_chain(project: Path) -> None:
    """Each phase needs the one before, because it does not say otherwise."""
    phases = project / "phases"
    phases.mkdir(mode=0o700)
    links = (f'[[phase]]\nnumber = {number}\nname = "link{number}"\nrun = ["true"]\n' for number in range(PHASES))
    file = phases / "chain.toml"
    file.write_text("\n".join(links))
    file.chmod(0o600)  # whatever the umask says: orch refuses phases that others may write


def refuse_unfinished(project: Path) -> None:
    told = json.loads(call(project, "status", "--json", "--project", str(project)).stdout)
    done = sum(link["status"] == "completed" for link in told["phases"])
    if done < PHASES:
        raise ConfigurationFault(
            f"of {PHASES} phases of a trial run only {done} are completed although `orch run` ended with 0: "
            "report this with system/logs"
        )


# Calls


def orch(project: Path, *words: str) -> float:
    """Seconds that the command took; it must end with 0."""
    began = time.perf_counter()
    done = call(project, *words)
    took = time.perf_counter() - began
    if done.returncode:
        raise fault_of_call(words[0], done)
    return took


def call(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.cli", *words]
    try:
        return subprocess.run(
            command, cwd=project, env=environment(), timeout=PATIENCE,
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TimeoutFault(f"`orch {words[0]}` on a trial project did not end within {PATIENCE:g} s") from None


def fault_of_call(word: str, done: subprocess.CompletedProcess[str]) -> Exception:
    """Exit code 74 says that the state could not be written, which is for want of room more often than not."""
    said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
    kind = Resource if done.returncode == 74 else ConfigurationFault
    return kind(f"`orch {word}` on a trial project ended with {done.returncode}: {said or 'it said nothing'}")


def fastest_of(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(STARTS))


def seconds_of(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
    return time.perf_counter() - began
