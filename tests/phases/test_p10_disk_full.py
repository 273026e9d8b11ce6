"""Phase 10, where its promises are broken: nothing is ever full, and work that is done twice when there is room again."""

from __future__ import annotations

import pytest

from phases import p10_disk_full as phase
from tests.phases.drilling import PARTS, broken, left_in


@pytest.mark.timeout(120)
def test_work_that_is_done_twice_is_seen(make, fits, empty, monkeypatch):
    right = phase.in_hand

    def and_again(project, trial):
        right(project, trial)
        project.write("ran", "".join(f"{line}\n" for line in [*project.lines("ran"), "2"]))

    monkeypatch.setattr(phase, "in_hand", and_again)
    context = make(10)
    result = phase.disk_full(context)
    fits({part: result[part] for part in PARTS})
    assert broken(result) == {"no phase ran twice": "done twice"}
    assert 0 < result["figures"]["done_before"] < result["figures"]["phases"] - 1
    assert empty(context)
    assert left_in(context.project) == []


@pytest.mark.timeout(120)
def test_a_disk_that_is_never_full_proves_nothing(make, monkeypatch):
    monkeypatch.setattr(phase, "ROOM_BYTES", 10**6)
    monkeypatch.setattr(phase, "PHASES", phase.PHASES[1:4])
    context = make(10)
    result = phase.disk_full(context)
    assert result["cut_short"] is True
    assert broken(result) == {"`orch run --jobs 2` ends with 74": ""}
    assert left_in(context.project) == []
