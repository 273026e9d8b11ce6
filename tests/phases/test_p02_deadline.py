"""Phase 2, where its promises are broken: somebody survives, it takes too long, the trees are not stubborn at all."""

from __future__ import annotations

import pytest

from phases import p02_deadline as phase
from tests.phases.drilling import PARTS, broken, left_in, sleeper

QUIET = "import os, time\nos.chdir(os.environ['ORCH_PROJECT'] + '/den')\ntime.sleep(1000)\n"


@pytest.mark.timeout(120)
def test_a_survivor_is_seen_and_ended(make, fits, empty, monkeypatch):
    right, started = phase.write, []

    def and_somebody_else(project):
        right(project)
        started.append(sleeper(project.root / phase.DEN))

    monkeypatch.setattr(phase, "write", and_somebody_else)
    context = make(2)
    result = phase.deadline(context)
    fits({part: result[part] for part in PARTS})
    assert broken(result)["no process outlives its attempt"] == "orphaned"
    assert result["figures"]["survivors"] == 1
    assert result["figures"]["most_processes"] >= phase.LEAST
    assert empty(context)
    assert left_in(context.project) == []
    started[0].returncode = -9  # it was reaped by the drill


@pytest.mark.timeout(120)
def test_trees_that_are_not_stubborn_and_a_promise_that_is_too_much(make, monkeypatch):
    monkeypatch.setattr(phase, "STUBBORN", QUIET)
    monkeypatch.setattr(phase, "PROMISED", -1.0)
    result = phase.deadline(make(2))
    assert broken(result) == {
        "a tree is gone within -1 s after deadline and grace": "",
        "the trees are as stubborn as they should be": "",
    }
    assert 1 <= result["figures"]["most_processes"] < phase.LEAST


@pytest.mark.timeout(120)
def test_phases_that_end_before_their_deadline_are_no_proof(make, monkeypatch):
    monkeypatch.setattr(phase, "STUBBORN", "import time\ntime.sleep(0.3)\nraise SystemExit(78)\n")
    result = phase.deadline(make(2))
    assert result["verdict"].startswith("2 of ")
    assert "the phases are failed with TIMEOUT" in broken(result)
