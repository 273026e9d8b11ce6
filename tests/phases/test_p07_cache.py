"""Phase 7, where its promises are broken: something is never kept, so that a new run does it again."""

from __future__ import annotations

import pytest

from phases import p07_cache as phase
from tests.phases.drilling import PARTS, broken, found, left_in


@pytest.mark.timeout(120)
def test_what_is_run_again_although_it_has_not_changed_is_seen(make, fits, empty, monkeypatch):
    sort, *others = phase.PHASES
    monkeypatch.setattr(phase, "PHASES", ({**sort, "cache": False}, *others))
    context = make(7)
    result = phase.cache(context)
    fits({part: result[part] for part in PARTS})
    assert broken(result)["what has not changed is kept"] == "done twice"
    assert found(result, "what has not changed is kept").startswith("run were 1;")
    assert "what was cut off is run again" not in broken(result)
    assert empty(context) and left_in(context.project) == []
