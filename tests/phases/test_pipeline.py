"""The shipped pipeline as a whole, through the command that a user has: ground, drills, report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.load.loading import load
from phases import p01_take_over, p02_deadline, p03_agent_lost, p04_retries, p05_parallel
from tests.phases.drilling import left_in

ROOT = Path(__file__).resolve().parents[2]
GROUND, DRILLS = list(range(-8, 1)), [*range(1, 12)]
NUMBERS = [*GROUND, *DRILLS, 15]
NAMES = (
    "host clock file_system process_control settings state_and_journal services baseline gate"
    " take_over deadline agent_lost retries parallel overlap cache rollback approval disk_full damaged report"
).split()
# What a machine that does much else besides need not keep: all of it is about time.
SLOW = {
    f"a run that was killed goes on within {p01_take_over.SLOW_SECONDS:g} s",
    f"a tree is gone within {p02_deadline.PROMISED:g} s after deadline and grace",
    f"a lost agent is known within {p03_agent_lost.PROMISED_MS:g} ms",
    f"a retry begins when it is due, at most {p04_retries.SLOW_MS:g} ms later",
    "the next run waits for its time, and no longer",
    f"side by side they come to {p05_parallel.LEAST_RATIO:.0%} of the ideal at least",
}


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(ROOT / "phases", tmp_path / "phases", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def orch(project, *words):
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *words, "--project", str(project)],
        cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def test_each_phase_says_what_it_needs_and_is_never_tried_again(checkout):
    definitions = load(checkout, load_timeout=30, trust=False, cache=None)
    assert (list(definitions.faults), definitions.broken) == ([], {})
    found = {spec.number: spec for spec in definitions.specs}
    assert sorted(found) == NUMBERS
    assert [found[number].name for number in NUMBERS] == NAMES
    needs = {-8: (), **dict.fromkeys(range(-7, -1), (-8,)), -1: (-6, -5, -3), 0: tuple(GROUND[:-1])}
    needs |= {
        1: (0,),
        4: (0,),
        2: (1, 4),
        3: (2,),
        6: (3,),
        5: (1, 2, 3, 4, *range(6, 12)),
        **dict.fromkeys(range(7, 12), (6,)),
        15: (*GROUND, *DRILLS),
    }
    assert {number: spec.needs for number, spec in found.items()} == needs
    assert all(spec.retries == 0 and spec.timeout and spec.title.endswith(".") for spec in found.values())


@pytest.mark.timeout(240)
def test_a_run_of_all_ends_well_and_leaves_nothing_behind(checkout):
    done = orch(checkout, "run", "--from", "-8", "--to", "15", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((checkout / "system/state.json").read_text())
    for number in NUMBERS:
        phase = document["phases"][str(number)]
        assert (phase["status"], phase["leftovers"]) == ("completed", []), number
        assert phase["outputs"]["result"]["verdict"] in done.stdout
    assert document["phases"]["0"]["outputs"]["result"]["verdict"].startswith("fit for unattended runs, ")
    for number in DRILLS:
        result = document["phases"][str(number)]["outputs"]["result"]
        assert not result["cut_short"], result
        assert [check for check in result["checks"] if check["grave"]] == []
        assert {check["expected"] for check in result["checks"] if not check["kept"]} <= SLOW, result
    assert document["phases"]["15"]["outputs"]["result"]["figures"]["grade"] in "AB"
    assert (checkout / "system/report/index.html").read_text().count('class="row"') > 30
    assert "report: system/report/index.html" in (checkout / "system/logs/phases/15/1.log").read_text()
    assert [path.name for path in (checkout / "system").glob(".ground*")] == []
    assert left_in(checkout) == []
    assert orch(checkout, "run", "--from", "-8", "--to", "15").stdout.startswith("nothing to do")
