"""Phase 9, where its promises are broken: nobody who is there may answer."""

from __future__ import annotations

import pytest

from phases import p09_approval as phase
from tests.phases.drilling import PARTS, broken, left_in


@pytest.mark.timeout(120)
def test_an_answer_that_does_not_count_is_seen(make, fits, empty, monkeypatch):
    asked, *others = phase.PHASES
    only = {"when": "before", "who": ["nobody-of-this-name"]}
    monkeypatch.setattr(phase, "PHASES", ({**asked, "approval": only}, *others))
    monkeypatch.setattr(phase, "ROUNDS", 1)
    context = make(9)
    result = phase.approval(context)
    fits({part: result[part] for part in PARTS})
    assert broken(result)["of two answers at once exactly one counts"] == "done twice"
    assert empty(context) and left_in(context.project) == []
