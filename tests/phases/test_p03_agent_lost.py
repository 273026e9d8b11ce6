"""Phase 3, where its promises are broken: somebody outlives the agent, or something else than the agent is lost."""

from __future__ import annotations

import pytest

from orchestrator import process
from phases import p03_agent_lost as phase
from tests.phases.drilling import PARTS, broken, left_in, sleeper


@pytest.mark.timeout(120)
def test_who_outlives_the_agent_is_seen(make, fits, empty, monkeypatch, tmp_path):
    right, other = phase.identities, sleeper(tmp_path)
    monkeypatch.setattr(phase, "identities", lambda pids: right([*pids, other.pid]))
    monkeypatch.setattr(phase, "PROMISED_MS", -1.0)
    context = make(3)
    try:
        result = phase.agent_lost(context)
    finally:
        other.kill()
        other.wait()
    fits({part: result[part] for part in PARTS})
    assert broken(result) == {"a lost agent is known within -1 ms": "", "attempts die with their agent": "orphaned"}
    assert (result["figures"]["leftovers"], result["figures"]["run_again"]) == (1, 2)
    assert empty(context)
    assert left_in(context.project) == []


@pytest.mark.timeout(120)
def test_a_run_that_ends_with_its_agent_has_lost_the_work(make, monkeypatch):
    """The orchestrator is killed instead: nobody runs anything again."""

    def orchestrator(project):
        return process.identity(project.status()["run"]["pid"])

    monkeypatch.setattr(phase, "agent_of", orchestrator)
    context = make(3)
    result = phase.agent_lost(context)
    assert result["cut_short"] is True
    assert "ended with -9 before" in result["checks"][0]["found"]
    assert [check["grave"] for check in result["checks"]] == [""]
    assert left_in(context.project) == []  # what went on without it was ended
