"""Phase 5, where its promises are broken: slower than half of the ideal, more at once than allowed, too early."""

from __future__ import annotations

import pytest

from phases import p05_parallel as phase
from tests.phases.drilling import PARTS, broken, left_in


@pytest.mark.timeout(120)
def test_too_slow_and_other_needs_are_seen(make, fits, empty, monkeypatch):
    """Without their needs the phases of all layers run side by side."""
    right = phase.write
    monkeypatch.setattr(phase, "LEAST_RATIO", 9.0)
    monkeypatch.setattr(phase, "PACE", 0.1)
    monkeypatch.setattr(phase, "write", lambda project, needs: right(project, {number: [] for number in needs}))
    context = make(5)
    result = phase.parallel(context)
    fits({part: result[part] for part in PARTS})
    assert list(broken(result)) == [
        "none begins before what it needs is done",
        "side by side they come to 900% of the ideal at least",
    ]
    assert (result["figures"]["phases"], result["figures"]["most_at_once"]) == (24, 4)
    assert 0 < result["figures"]["efficiency"] < 9
    assert empty(context)
    assert left_in(context.project) == []


@pytest.mark.timeout(120)
def test_more_at_once_than_allowed_are_seen(make, monkeypatch):
    right = phase.Project.start
    monkeypatch.setattr(phase, "PACE", 0.5)
    monkeypatch.setattr(phase, "LEAST_RATIO", 0.0)
    monkeypatch.setattr(
        phase.Project, "start", lambda self, *words: right(self, *("6" if w == "4" else w for w in words))
    )
    result = phase.parallel(make(5))
    assert list(broken(result)) == ["no more than 4 run at once, and as many do"]
    assert result["figures"]["most_at_once"] == 6


def test_layers_and_ends_at_the_same_moment():
    needs = phase.needs_of_layers()
    assert sorted(needs) == list(range(1, 25))
    assert (needs[8], needs[9], needs[24]) == ([], list(range(1, 9)), list(range(9, 17)))

    def events(*seconds):
        return [{"at": f"2026-11-20T10:00:{second:06.3f}Z", "number": number} for number, second in enumerate(seconds)]

    assert phase.most_at_once(events(0, 0, 1, 1), events(1, 1, 2, 2)) == 2
    assert phase.most_at_once(events(0, 0, 0.5, 1), events(1, 1, 2, 2)) == 3
