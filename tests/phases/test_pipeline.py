"""The phases of the ground together, through the command that a user has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.load.loading import load

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = list(range(-8, 1))
NAMES = "host clock file_system process_control settings state_and_journal services baseline gate".split()


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(
        ROOT / "phases", tmp_path / "phases", ignore=shutil.ignore_patterns("__pycache__", "p0[1-9]*", "p1*")
    )
    return tmp_path


def orch(project, *words):
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", *words, "--project", str(project)],
        cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def test_each_phase_says_what_it_needs_and_is_never_tried_again(checkout):
    definitions = load(checkout, load_timeout=30, trust=False, cache=None)
    assert (list(definitions.faults), definitions.broken) == ([], {})
    found = {spec.number: spec for spec in definitions.specs}
    assert sorted(found) == NUMBERS
    assert [found[number].name for number in NUMBERS] == NAMES
    needs = {-8: (), **dict.fromkeys(range(-7, -1), (-8,)), -1: (-6, -5, -3), 0: tuple(NUMBERS[:-1])}
    assert {number: spec.needs for number, spec in found.items()} == needs
    assert all(spec.retries == 0 and spec.timeout and spec.title.endswith(".") for spec in found.values())


@pytest.mark.timeout(120)
def test_a_run_of_all_ends_well_and_leaves_nothing_behind(checkout):
    done = orch(checkout, "run", "--from", "-8", "--to", "15", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((checkout / "system/state.json").read_text())
    for number in NUMBERS:
        phase = document["phases"][str(number)]
        assert (phase["status"], phase["leftovers"]) == ("completed", []), number
        assert phase["outputs"]["result"]["verdict"] in done.stdout
    assert document["phases"]["0"]["outputs"]["result"]["verdict"].startswith("fit for unattended runs, ")
    assert [path.name for path in (checkout / "system").glob(".ground*")] == []
    assert orch(checkout, "run", "--from", "-8", "--to", "15").stdout.startswith("nothing to do")
