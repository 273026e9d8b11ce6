"""The hand that makes checkpoints and puts files back, without a loop around it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator import keeper as module
from orchestrator.config import settings
from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.state import State
from orchestrator.errors import StateDamaged, StateUnwritable
from orchestrator.keeper import NOTHING_TO_DO, Keeper
from orchestrator.store import restoring
from tests.core.given import Case, an, intended
from tests.store.given import end_of

KEYS = {1: {"outputs": ("out",)}, 2: {"outputs": ("two",)}}


class Held(Keeper):
    def __init__(self, root: Path) -> None:
        self.case, self.said = Case({1: (), 2: ()}, keys=KEYS), list[obs.Observation]()
        super().__init__(root, settings(root, {}, {}), self.case.plan, lambda: self.case.state, self.said.append)

    @property
    def state(self) -> State:
        return self.case.state

    def all(self, *actions: act.Action) -> list[obs.Observation]:
        self.perform(actions)
        while self.tend() == 0:
            pass
        return self.said


@pytest.fixture
def held(tmp_path: Path) -> Held:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("A" * 100)
    (tmp_path / "two").write_text("2")
    return Held(tmp_path)


def made(held: Held) -> str:
    held.case.given(intended(1))
    (seen,) = held.all(act.MakeCheckpoint(held.case.start(1).order))
    held.said.clear()
    assert isinstance(seen, obs.CheckpointMade)
    return seen.checkpoint


def test_a_checkpoint_is_made_and_said(held):
    order = held.case.start(1).order
    held.case.given(intended(1))
    assert held.all(act.MakeCheckpoint(order)) == [obs.CheckpointMade(order, held.vault.ids()[0])]
    assert held.tend() == NOTHING_TO_DO
    assert held.vault.read(held.vault.ids()[0]).why == "before attempt 1.1"


def test_the_loop_goes_round_between_two_pieces(held, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 1.5)
    monkeypatch.setattr(module.restoring.disk, "PIECE", 10)
    held.case.given(intended(1))
    held.perform([act.MakeCheckpoint(held.case.start(1).order)])
    ticks = iter(range(10**6))
    monkeypatch.setattr(module.clock, "ticking", lambda: float(next(ticks)))
    rounds = 1
    while held.tend() == 0:
        rounds += 1
    assert rounds > 10 and len(held.said) == 1


def test_what_cannot_be_made_is_said_with_its_code(held):
    (held.vault.root / "system").write_text("no folder")
    order = held.case.start(1).order
    (seen,) = held.all(act.MakeCheckpoint(order))
    assert isinstance(seen, obs.CheckpointFailed) and (seen.attempt, seen.code) == (an(1), "CONFLICT")
    assert "system" in seen.why


def test_what_is_half_made_at_the_end_is_thrown_away(held, monkeypatch):
    monkeypatch.setattr(module.restoring.disk, "PIECE", 10)
    held.case.given(intended(1))
    held.perform([act.MakeCheckpoint(held.case.start(1).order)])
    for _ in range(4):
        next(held._jobs[0])
    assert os.listdir(held.vault.folder)
    held.close()
    assert not os.listdir(held.vault.folder) and not held.said


def test_files_go_back_and_only_those_of_the_phase(held):
    name = made(held)
    (held.vault.root / "out" / "a").write_text("changed")
    (held.vault.root / "two").write_text("changed")
    assert held.all(act.RestoreCheckpoint(1, name)) == [obs.Restored(1, name, 1, 0)]
    assert (held.vault.root / "out" / "a").read_text() == "A" * 100
    assert (held.vault.root / "two").read_text() == "changed"
    held.said.clear()
    assert held.all(act.RestoreCheckpoint(1, name)) == [obs.Restored(1, name)]


def test_what_cannot_go_back_is_said(held):
    name = made(held)
    (held.vault.root / "out" / "a").write_text("changed")
    for blob in (held.vault.folder / name / "files").iterdir():
        blob.write_text("?")
    (seen,) = held.all(act.RestoreCheckpoint(1, name))
    assert isinstance(seen, obs.Restored) and "its copy of out/a is damaged" in seen.fault
    held.said.clear()
    (seen,) = held.all(act.RestoreCheckpoint(1, "phase_1_gone"))
    assert isinstance(seen, obs.Restored) and "there is no checkpoint phase_1_gone" in seen.fault


def test_half_of_it_is_nothing_to_go_on_from(held, monkeypatch):
    name = made(held)
    (held.vault.root / "out" / "a").write_text("changed")

    def broken(vault: object, plan: object) -> None:
        raise StateUnwritable("half of the files are as in it", "")

    monkeypatch.setattr(restoring, "apply", broken)
    with pytest.raises(StateUnwritable):
        held.all(act.RestoreCheckpoint(1, name))
    assert not held.said


def half_done(held: Held, event: ev.RolledBack | None) -> None:
    """All is laid ready, and whoever did it is gone."""
    found = held.vault.read(held.vault.ids()[0])
    changes = end_of(restoring.survey(held.vault.root, found))
    end_of(restoring.prepare(held.vault, found, changes, "token", event.as_dict() if event else None))


@pytest.mark.parametrize("is_written", [False, True])
def test_whoever_comes_next_finishes_it_and_writes_it_down_once(held, is_written):
    name = made(held)
    (held.vault.root / "out" / "a").write_text("changed")
    event = ev.RolledBack(name, "token", "ann", {"id": "r1"}, {"1": {}})
    half_done(held, event)
    written = list[ev.Event]()
    if is_written:
        restoring.apply(held.vault, restoring.under_way(held.vault))
        held.case.given(event)
    (told,) = held.finish_what_was_begun(written.append)
    assert name in told and written == ([] if is_written else [event])
    assert (held.vault.root / "out" / "a").read_text() == "A" * 100
    assert held.finish_what_was_begun(written.append) == []


def test_a_plan_that_cannot_be_read_stops_all(held):
    made(held)
    (held.vault.folder / "rollback.json").write_text("?")
    with pytest.raises(StateDamaged):
        held.finish_what_was_begun(lambda event: None)
