"""Phase 6, where its promises are broken: two runs at once, a cancel that leaves somebody, answers that take too long."""

from __future__ import annotations

import pytest

from phases import _drill
from phases import p06_overlap as phase
from tests.phases.drilling import PARTS, broken, left_in, sleeper


@pytest.mark.timeout(120)
def test_who_survives_a_cancel_and_slow_answers_are_seen(make, fits, empty, monkeypatch, tmp_path):
    right, other = phase.identities, sleeper(tmp_path)
    monkeypatch.setattr(phase, "identities", lambda pids: right([*pids, other.pid]))
    monkeypatch.setattr(phase, "SLOW_MS", 0.0)
    context = make(6)
    try:
        result = phase.overlap(context)
    finally:
        other.kill()
        other.wait()
    fits({part: result[part] for part in PARTS})
    assert broken(result) == {
        "`orch cancel` returns when all is gone": "orphaned",
        "every command is answered within 0 ms": "stuck",
    }
    assert empty(context)
    assert left_in(context.project) == []


@pytest.mark.timeout(120)
def test_a_second_run_that_does_not_leave_is_seen(make, monkeypatch):
    """The first is dead: the second takes over, and waits for work that does not end."""
    right = phase.second

    def alone(project, run, trial):
        run.kill()
        monkeypatch.setattr(_drill, "PATIENCE", 5.0)
        right(project, run, trial)

    monkeypatch.setattr(phase, "second", alone)
    context = make(6)
    result = phase.overlap(context)
    assert result["cut_short"] is True
    assert broken(result) == {"`orch run` comes to its end": "stuck"}
    assert left_in(context.project) == []
