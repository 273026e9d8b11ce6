"""Phase 8, where its promises are broken: somebody else writes where the files came back."""

from __future__ import annotations

import pytest

from phases import p08_rollback as phase
from tests.phases.drilling import PARTS, broken, left_in


@pytest.mark.timeout(120)
def test_a_way_back_that_leads_elsewhere_is_seen(make, fits, empty, monkeypatch):
    right = phase.seen

    def meddled(project):
        index = project.root / "index"
        if index.exists() and index.read_text().startswith("good"):
            index.write_text("good, but for this\n")
        return right(project)

    monkeypatch.setattr(phase, "CUTS", (0.3,))
    monkeypatch.setattr(phase, "make", lambda project, word, make=phase.make: make(project, word))
    first = []
    monkeypatch.setattr(phase, "seen", lambda project: meddled(project) if first else first.append(1) or right(project))
    context = make(8)
    result = phase.rollback(context)
    fits({part: result[part] for part in PARTS})
    assert broken(result)["all is as it was"] == "lost"
    assert empty(context) and left_in(context.project) == []
