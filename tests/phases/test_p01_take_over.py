"""Phase 1, where its promises are broken: work that dies with its orchestrator, work that is begun twice."""

from __future__ import annotations

import pytest

from orchestrator import process
from phases import _drill
from phases import p01_take_over as phase
from tests.phases.drilling import PARTS, broken, found, left_in


@pytest.mark.timeout(120)
def test_work_that_is_lost_with_its_orchestrator_is_seen(make, fits, empty, monkeypatch):
    """Whoever kills the orchestrator kills its agents as well: the attempts are begun again."""
    right = phase.goes_on_alone

    def with_all_killed(project, trial):
        table = process.scan()
        process.insist([table[pid] for pid in project.processes() if pid in table], table)
        right(project, trial)
        project.write("go", "")
        project.start("run").wait()

    monkeypatch.setattr(phase, "goes_on_alone", with_all_killed)
    context = make(1)
    result = phase.take_over(context)
    fits({part: result[part] for part in PARTS})
    wrong = broken(result)
    assert wrong["`orch status` says that the agent works on without its orchestrator"] == "lost"
    assert result["cut_short"] or wrong["no phase is executed twice"] == "done twice"
    assert "interrupted" in found(result, "`orch status` says")
    assert empty(context)
    assert left_in(context.project) == []


@pytest.mark.timeout(120)
def test_work_that_is_done_twice_is_seen(make, monkeypatch):
    monkeypatch.setattr(phase, "SHELL", "echo 1 >> began; " + phase.SHELL)
    monkeypatch.setattr(phase, "SLOW_SECONDS", 0.0)
    result = phase.take_over(make(1))
    assert broken(result) == {
        "no phase is executed twice": "done twice",
        "a run that was killed goes on within 0 s": "",
    }
    assert found(result, "no phase is executed twice") == "times executed: phase 1 2, phase 2 1, phase 3 1"
    assert result["figures"]["times_executed"] == 2
    assert result["verdict"].startswith("2 of 7 promises NOT kept: no phase is executed twice: times executed: ")


def test_a_run_that_does_not_begin_is_said_at_once(make, monkeypatch):
    monkeypatch.setattr(phase, "PYTHON", "import nothing_of_that_name")
    result = phase.take_over(make(1))
    assert result["cut_short"] is True
    assert "ended with 2 before" in result["verdict"]
    assert "nothing_of_that_name" in result["checks"][0]["found"]
    assert _drill.STUCK not in broken(result).values()
