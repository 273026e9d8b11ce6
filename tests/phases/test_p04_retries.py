"""Phase 4, where its promises are broken: other delays than the settings say, other numbers of tries, a retry that is lost."""

from __future__ import annotations

import pytest

from phases import p04_retries as phase
from tests.phases.drilling import PARTS, broken, found, left_in

FINE = "from orchestrator import phase\n\n@phase(5, needs=[])\ndef fine(ctx):\n    pass\n"


@pytest.mark.timeout(120)
def test_other_tries_and_other_times_are_seen(make, fits, empty, monkeypatch):
    right = phase.lateness
    monkeypatch.setitem(phase.CASES, 3, phase.Case("exit 78", "CONFIGURATION", 2, "failed"))
    monkeypatch.setattr(phase, "lateness", lambda *events: right(*events) - 5000)
    context = make(4)
    result = phase.retries(context)
    fits({part: result[part] for part in PARTS})
    assert list(broken(result)) == [
        "exit 78: CONFIGURATION, 2 attempt(s), failed",
        "a retry begins when it is due, at most 1000 ms later",
        "the next run waits for its time, and no longer",
    ]
    assert found(result, "exit 78") == "CONFIGURATION, 1 attempt(s), failed"
    assert result["figures"]["retries"] == 7
    assert empty(context)
    assert left_in(context.project) == []


@pytest.mark.timeout(120)
def test_a_retry_that_is_lost_with_the_end_of_a_run_is_seen(make, monkeypatch):
    """The state is thrown away between the two runs."""
    right = phase.over_the_end

    def forgotten(project, left, honoured, trial):
        (project.root / "system").rename(project.root / "elsewhere")
        again = project.start("run", "--json", "--only", str(phase.LATER), "--no-wait")
        again.wait(3)
        right(project, left, again, trial)

    monkeypatch.setattr(phase, "over_the_end", forgotten)
    monkeypatch.setattr(phase, "by_class", lambda project, run, trial: None)
    monkeypatch.setattr(phase, "PYTHON", FINE)
    monkeypatch.setattr(phase, "LATER_SECONDS", 0.5)
    result = phase.retries(make(4))
    assert broken(result)["a retry that is due later is not lost with the end of `orch run`"] == "lost"


def test_lateness_counts_from_whatever_came_later():
    def event(at: str, **more):
        return {"at": f"2026-11-20T10:00:{at}Z", "number": 1, **more}

    scheduled = event("00.000", delay_seconds=2.0)
    assert phase.lateness(scheduled, event("02.250")) == pytest.approx(250)
    assert phase.lateness(scheduled, event("01.000")) == pytest.approx(-1000)
    opened = phase.at(event("05.000"))
    assert phase.lateness(scheduled, event("05.100"), opened) == pytest.approx(100)
