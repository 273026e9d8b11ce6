"""From decisions to the outbox: what a killed teller left untold is told by the next, and a full disk loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import clock
from orchestrator.core import events as ev
from orchestrator.core.draft import Decision
from orchestrator.core.names import iso
from orchestrator.core.outward import Target
from orchestrator.core.state import State
from orchestrator.core.telling import Message
from orchestrator.watch import notify
from orchestrator.watch.notify import Notify, Past
from tests.core.given import run_started
from tests.core.test_telling import done, failed, opened, retried

OPS, ALIVE = Target(url="http://x"), Target(ping="http://x")


class Box:
    """An outbox in memory."""

    def __init__(self) -> None:
        self.put_in: list[tuple[str, str]] = []
        self.withdrawn: list[str] = []
        self.woken = 0
        self.full = False

    def put(self, target: str, message: Message) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        if (target, message.id) not in self.put_in:
            self.put_in.append((target, message.id))

    def withdraw(self, ident: str) -> None:
        self.withdrawn.append(ident)

    def wake(self) -> None:
        self.woken += 1

    def kinds(self, target: str = "ops") -> list[str]:
        return [ident.rpartition(".")[2] for name, ident in self.put_in if name == target]


class Journal:
    """Its lines, and whoever tells of them: one after the other, as each is killed."""

    def __init__(self, folder: Path, **targets: Target) -> None:
        self.path, self.box, self.targets = folder / "told.json", Box(), targets or {"ops": OPS}
        self.lines: list[Past] = []
        self.said: list[str] = []
        self.state = State()

    def teller(self) -> Notify:
        return Notify(self.path, self.box, self.targets, lambda: len(self.lines), self.said.append)

    def opened(self) -> Notify:
        made = self.teller()
        made.begin(self.after, self.state)
        return made

    def after(self, seq: int) -> Iterable[Past]:
        return [line for line in self.lines if line[0] > seq]

    def commit(self, *events: ev.Event) -> Decision:
        self.lines.append((len(self.lines) + 1, iso(clock.now()), list(events)))
        for event in events:
            self.state.apply(event, clock.now()) if not isinstance(event, ev.PhaseEvent) else None
        return Decision(events, ())

    def tell(self, teller: Notify, *events: ev.Event) -> None:
        """As the loop does: written first, told then."""
        teller.tell([], self.commit(*events), self.state, None, None, None)  # type: ignore[arg-type]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


STEPS: list[tuple[ev.Event, ...]] = [
    (run_started(),),
    (retried(3),),
    (retried(3, 2), retried(4)),
    (done(3, 3),),
    (failed(4, 2),),
    (ev.RunEnded("failed", 1),),
    (run_started(run="r2"),),
    (done(4, 3),),
]
TOLD = ["failed", "failed", "recovered", "recovered"]


def test_it_begins_now_where_nothing_was_told_before(journal: Journal) -> None:
    journal.commit(run_started())
    journal.commit(failed(3))
    teller = journal.opened()
    assert (journal.box.put_in, teller.cursor) == ([], 2)
    journal.tell(teller, failed(4))
    assert journal.box.kinds() == ["failed"]
    assert journal.box.woken == 1


@pytest.mark.parametrize("cut", range(len(STEPS)))
def test_what_was_written_and_not_told_is_told_by_the_next(journal: Journal, cut: int) -> None:
    """Killed after each line was written, before it was told."""
    teller = journal.opened()
    for number, events in enumerate(STEPS):
        if number == cut:
            journal.commit(*events)
            teller = journal.opened()
        else:
            journal.tell(teller, *events)
    assert journal.box.kinds() == TOLD


@pytest.mark.parametrize("cut", range(len(STEPS)))
def test_what_was_told_and_not_noted_is_told_again_under_the_same_id(journal: Journal, cut: int) -> None:
    """Killed between the outbox and the cursor: as if the cursor were the one of before."""
    teller = journal.opened()
    for number, events in enumerate(STEPS):
        before = journal.path.read_bytes()
        journal.tell(teller, *events)
        if number == cut:
            journal.path.write_bytes(before)
            teller = journal.opened()
    assert journal.box.kinds() == TOLD


def test_who_is_told_what(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ops=OPS, all=Target(url="http://x", events=("gave_up", "run_failed")), alive=ALIVE)
    teller = journal.opened()
    for events in STEPS:
        journal.tell(teller, *events)
    assert journal.box.kinds("ops") == TOLD
    assert journal.box.kinds("all") == ["gave_up", "run_failed"]
    assert journal.box.kinds("alive") == ["start", "fail", "start"]
    teller.nothing_to_do("r2")
    assert journal.box.kinds("alive")[-1] == "ok"


def test_what_is_withdrawn_is_taken_back(journal: Journal) -> None:
    teller = journal.opened()
    journal.tell(teller, opened(3, 7200.0))
    journal.tell(teller, ev.GateApproved(3, "g", "digest", "ann", ""))
    assert journal.box.withdrawn == [ident for _, ident in journal.box.put_in if ident.endswith("warning")] != []


def test_a_full_disk_is_said_once_and_what_it_did_not_take_comes_later(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "AGAIN", 0.0)
    teller = journal.opened()
    journal.box.full = True
    journal.tell(teller, failed(3))
    journal.tell(teller, done(3, 2))
    assert journal.said == ["notify: a message could not be put down: No space left on device; the run goes on"]
    assert json.loads(journal.path.read_text())["seq"] == 0
    journal.box.full = False
    journal.tell(teller, run_started())
    assert journal.box.kinds() == ["failed", "recovered"]
    assert json.loads(journal.path.read_text())["seq"] == 3


def test_killed_while_the_disk_is_full_the_next_tells_it(journal: Journal) -> None:
    teller = journal.opened()
    journal.box.full = True
    journal.tell(teller, failed(3))
    journal.box.full = False
    journal.opened()
    assert journal.box.kinds() == ["failed"]


def test_lines_that_are_gone_are_said_and_the_rest_is_told(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    teller = journal.opened()
    journal.tell(teller, failed(3))
    for number in range(10):
        journal.commit(retried(9, number + 1))
    journal.commit(failed(4))
    monkeypatch.setattr(Journal, "after", lambda self, seq: self.lines[-1:])
    journal.opened()
    assert journal.said == ["notify: lines 2 to 11 of the journal are gone: what happened then is told to nobody"]
    assert journal.box.kinds() == ["failed", "failed"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"seq": "x"}', '{"seq": 1, "run": "", "alerts": {"a": 3}, "gates": {}}']
)
def test_a_cursor_that_cannot_be_read_is_said(journal: Journal, text: str) -> None:
    journal.commit(failed(3))
    journal.path.write_text(text)
    teller = journal.opened()
    assert teller.cursor == 1 and journal.box.put_in == []
    assert "told.json cannot be read" in journal.said[0]


def test_a_journal_that_is_shorter_than_what_was_told_is_gone_on_from(journal: Journal) -> None:
    teller = journal.opened()
    for _ in range(3):
        journal.tell(teller, retried(3))
    teller.close()
    del journal.lines[1:]
    teller = journal.opened()
    assert teller.cursor == 1
    assert journal.said == ["notify: told up to line 3, but the journal ends at 1: it goes on from now"]
    journal.tell(teller, retried(3, 2))
    assert journal.box.kinds() == ["failed"]


def test_what_happened_too_long_ago_is_told_to_nobody(journal: Journal) -> None:
    journal.opened()
    journal.lines.append((1, iso(clock.now() - 8 * 86400), [failed(3)]))
    journal.opened()
    assert journal.box.put_in == []


def test_the_cursor_costs_a_write_for_each_message_and_not_for_each_line(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = list[Any]()
    real = notify.disk.replace
    monkeypatch.setattr(
        notify.disk, "replace", lambda path, data, **how: (writes.append(path), real(path, data, **how))
    )
    teller = journal.opened()
    for number in range(notify.STRIDE - 2):
        journal.tell(teller, done(3, number + 1))
    assert len(writes) == 1
    journal.tell(teller, failed(3))
    assert len(writes) == 2
    teller.close()
    assert len(writes) == 2
