"""A retry that is due in ten minutes: at its time, though orch was stopped, killed and started again in between."""

from __future__ import annotations

import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

import pytest

from orchestrator import clock
from orchestrator.core.names import epoch
from tests.driving import Project, Started, wait_for

DELAY = "10m"
EARLIER = 3.0  # seconds before it is due that the last orch begins
# It would move the clocks that count, too: nobody sets those, and the agent's would be others than ours.
ONLY_THE_DATE = {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@cache
def library() -> str:
    """What faketime would load into a command: without itself between, which no signal passes. Skips without it."""
    if shutil.which("faketime") is None:
        pytest.skip("there is no faketime on this machine: `apt-get install faketime`")
    argv = ["faketime", "-f", "+1000000s", "sh", "-c", "echo $LD_PRELOAD; date +%s"]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    path, _, date = told.stdout.strip().partition("\n")
    if not date.isdigit() or int(date) - clock.now() < 900_000:
        pytest.skip(f"faketime does not move the date here: {told.stdout}{told.stderr}")
    return path


def run_at(project: Project, date: float, *words: str) -> Started:
    """`orch run` as if it were that late."""
    moved = {"LD_PRELOAD": library(), "FAKETIME": f"{date - clock.now():+f}s"}
    return project.start("run", *words, env=ONLY_THE_DATE | moved)


def retry_of(project: Project) -> tuple[str, float]:
    phase = project.state()["phases"]["1"]
    return phase["status"], epoch(phase["retry_at"]) if phase["retry_at"] else 0.0


@pytest.mark.timeout(120)
def test_a_retry_comes_at_its_time_whoever_is_there_by_then(project: Project) -> None:
    library()
    project.commands(
        {
            "number": 1, "name": "late", "run": "date +%s.%N >>ran; test $ORCH_ATTEMPT -gt 1 || exit 75",
            "retry": {"TRANSIENT": {"tries": 1, "delay": DELAY, "jitter": 0}},
        }
    )  # fmt: skip
    first = project.start("run")
    first.wait_for("RETRY")
    first.send(signal.SIGINT)
    assert first.wait().code == 130
    status, due = retry_of(project)
    assert status == "retry_wait"
    assert 500 < due - began(project)[0] < 700

    second = run_at(project, due - 300)
    second.wait_for("goes on")
    wait_for(lambda: (project.system / "logs" / "heartbeat.json").exists())
    second.kill()
    assert retry_of(project) == ("retry_wait", due)

    left = run_at(project, due - 200, "--no-wait").wait()
    assert left.code == 3, left
    assert "the next retry is due" in left.text

    third = run_at(project, due - EARLIER).wait()
    assert third.code == 0, third
    times = began(project)
    assert len(times) == 2, "it began once more, and only once"
    assert due <= times[1] < due + 60


def began(project: Project) -> list[float]:
    """When each attempt ran, by its own clock."""
    return [float(line) for line in Path(project.root, "ran").read_text().split()]
