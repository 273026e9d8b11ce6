"""Phase 11, where its promises are broken: damage that is not seen, a state that is forgotten, a repair that loses more."""

from __future__ import annotations

import pytest

from phases import p11_damaged as phase
from tests.phases.drilling import PARTS, broken, left_in


@pytest.fixture
def short(monkeypatch):
    """One kind of small damage only."""

    def shortened(name, spoil):
        monkeypatch.setattr(phase, "LITTLE", {name: spoil})

    return shortened


@pytest.mark.timeout(120)
def test_what_is_kept(make, fits, empty, short):
    short("state.json gone", lambda project: phase.state_of(project).unlink())
    context = make(11)
    result = phase.damaged(context)
    fits({part: result[part] for part in PARTS})
    assert broken(result) == {}
    assert result["figures"]["mended"] == 1
    assert empty(context)
    assert left_in(context.project) == []


@pytest.mark.timeout(120)
def test_a_state_that_is_forgotten_is_seen(make, short, monkeypatch):
    def all_gone(project):
        phase.state_of(project).unlink()
        phase.journal_of(project).unlink()

    short("all gone", all_gone)
    monkeypatch.setattr(phase, "a_lot", lambda project, trial: None)
    monkeypatch.setattr(phase, "repair", lambda project, trial: None)
    result = phase.damaged(make(11))
    assert broken(result) == {
        "with all gone, what was done is told": "lost",
        "with all gone, nothing is run again": "done twice",
    }
    assert result["figures"]["mended"] == 0


@pytest.mark.timeout(120)
def test_one_copy_that_still_proves_all_is_no_damage_to_both(make, monkeypatch):
    """Only state.json is changed where both should be: nobody refuses that, and nothing needs a repair by hand."""
    monkeypatch.setattr(phase, "LITTLE", {})
    right = phase.change_byte
    monkeypatch.setattr(phase, "change_byte", lambda path, **how: None if how else right(path))
    found = broken(phase.damaged(make(11)))
    assert found["`orch status` refuses what nothing proves"] == "lost"
    assert found["what is damaged is not touched"] == "lost"
