"""What is told of what was decided: each trouble once, its end once, and the same again from the same lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.core import events as ev
from orchestrator.core.gate import AFTER, Gate
from orchestrator.core.item import item
from orchestrator.core.names import iso
from orchestrator.core.outcome import Failure
from orchestrator.core.telling import Message, Teller, Told, missed, nothing_to_do
from tests.core.given import NOW, run_started

NO = Failure("TRANSIENT", "no route to host")
TOLD = ("failed", "recovered", "gate", "missed")


class Telling:
    """Lines of a journal, one after the other, a second apart."""

    def __init__(self) -> None:
        self.teller, self.seq, self.told = Teller(), 0, list[Message]()

    def hear(self, *events: ev.Event) -> Told:
        self.seq += 1
        told = self.teller.hear(self.seq, iso(NOW + self.seq), events, lambda number: f"p{number}")
        self.told += told.messages
        return told

    def said(self, *events: ev.Event) -> list[str]:
        return [one.event for one in self.hear(*events).messages if one.event in TOLD]

    def texts(self, kind: str) -> list[str]:
        return [one.text for one in self.told if one.event == kind]


@pytest.fixture
def telling() -> Telling:
    made = Telling()
    made.hear(run_started(), ev.PlanAdopted("digest", {str(number): [f"p{number}", ""] for number in range(1, 30)}))
    return made


def retried(number: int, attempt: int = 1) -> ev.Event:
    return ev.RetryScheduled(number, attempt, NO, due_at=iso(NOW + 60), delay_seconds=60.0)


def failed(number: int, attempt: int = 1) -> ev.Event:
    return ev.PhaseFailed(number, attempt, NO, why_final="its retries are used up")


def done(number: int, attempt: int = 1) -> ev.Event:
    return ev.PhaseCompleted(number, attempt, duration_seconds=1.0)


def opened(number: int, due: float | None = None) -> ev.Event:
    until = None if due is None else iso(NOW + due)
    return ev.GateOpened(number, Gate(AFTER, "r1", "digest", iso(NOW), until, due, shown="total: 7"))


def test_ten_retries_and_a_success_are_two_messages(telling: Telling) -> None:
    said = [kind for attempt in range(1, 11) for kind in telling.said(retried(3, attempt))]
    assert [*said, *telling.said(done(3, 11))] == ["failed", "recovered"]
    assert telling.texts("failed") == [
        "phase 3 p3 failed: TRANSIENT: no route to host; tried again at 2027-01-15T08:01:00Z (in 1m 00s)"
    ]
    assert telling.texts("recovered") == [
        "phase 3 p3 completed after 10 failures since 2027-01-15T08:00:02Z (10s)"
    ]  # fmt: skip


def test_ten_runs_that_fail_and_one_that_does_not_are_two_messages(telling: Telling) -> None:
    said = list[str]()
    for run in range(10):
        said += telling.said(run_started(run=f"r{run}"))
        said += telling.said(failed(3, run + 1))
        said += telling.said(ev.RunEnded("failed", 1))
    assert [*said, *telling.said(run_started(run="r10")), *telling.said(done(3, 11))] == ["failed", "recovered"]


def test_the_phases_of_one_decision_are_one_message_of_each_kind(telling: Telling) -> None:
    assert telling.said(failed(5), failed(3), retried(4)) == ["failed"]
    told = telling.told[-2] if telling.told[-1].event == "gave_up" else telling.told[-1]
    assert told.phases == ((3, "p3"), (4, "p4"), (5, "p5"))
    assert told.text.startswith("3 phases failed: 3 p3 failed: TRANSIENT")
    assert telling.said(done(3), done(4), failed(6)) == ["recovered", "failed"]


def test_many_phases_are_named_up_to_ten(telling: Telling) -> None:
    telling.hear(*(retried(number) for number in range(1, 26)))
    assert telling.texts("failed")[0].endswith("; and 15 more")
    assert len(telling.told[-1].phases) == 25


def test_items_count_as_their_phase(telling: Telling) -> None:
    assert telling.said(retried(item(4, 17))) == ["failed"]
    assert "failed: 4[17] TRANSIENT" in telling.texts("failed")[0]
    assert telling.said(retried(item(4, 18)), failed(item(4, 17), 2)) == []
    assert telling.said(done(item(4, 17), 3)) == []
    assert telling.said(ev.Gathered(4, [1, None], failed=(1,))) == ["recovered"]
    assert telling.texts("recovered")[0].endswith(", 1 of its items failed")
    assert telling.texts("gave_up") == []


@pytest.mark.parametrize(
    ("event", "next_step"),
    [
        (failed(3), "not tried again by itself: `orch retry 3`"),
        (ev.PhaseMended(3, 1, NO), "not tried again by itself: `orch retry 3`"),
        (ev.PhaseRecovered(3, 1, Failure("INTERRUPTED", "lost")), "`orch run` runs it again"),
        (ev.GatherFailed(3, NO), "not tried again by itself: `orch retry 3`"),
        (ev.GateRejected(3, "g", "digest", "ann", "wrong", failure=NO), "not tried again by itself: `orch retry 3`"),
    ],
)
def test_every_way_to_fail_is_told_once(telling: Telling, event: ev.Event, next_step: str) -> None:
    assert telling.said(event) == ["failed"]
    assert telling.texts("failed")[0].endswith(next_step)
    assert telling.said(event) == []


def test_what_was_kept_is_well_again(telling: Telling) -> None:
    telling.hear(failed(3))
    assert telling.said(ev.PhaseKept(3, "r0")) == ["recovered"]


def test_what_is_skipped_not_planned_any_more_or_rolled_back_to_done_is_forgotten(telling: Telling) -> None:
    telling.hear(failed(3), failed(4), failed(5))
    said = telling.said(ev.PhaseSkipped(3, "by hand", "ann"))
    said += telling.said(ev.PlanAdopted("other", {"3": ["p3", ""], "5": ["p5", ""]}))
    said += telling.said(ev.RolledBack("c", "t", "ann", {}, {"5": {"status": "completed"}}))
    assert said == []
    assert telling.teller.failing == []
    assert telling.said(done(3), done(4), done(5)) == []


def test_a_gate_is_told_when_it_opens_and_once_before_its_deadline(telling: Telling) -> None:
    told = telling.hear(opened(3, 7200.0))
    first, warning = sorted(told.messages, key=lambda one: one.after)
    assert (first.event, first.after) == ("gate", "")
    assert "total: 7; `orch approve 3`, or `orch reject 3 --why ...`" in first.text
    assert warning.after == iso(NOW + 7200 - 720)
    assert warning.text.startswith("phase 3 p3 still waits for approval until")


def test_the_warning_is_withdrawn_when_it_is_decided(telling: Telling) -> None:
    warning = next(one.id for one in telling.hear(opened(3, 7200.0)).messages if one.after)
    assert telling.hear(ev.GateApproved(3, "g", "digest", "ann", "")).withdrawn == [warning]


def test_a_gate_that_is_asked_anew_while_it_waits_is_not_told_again_but_one_of_a_new_run_is(telling: Telling) -> None:
    assert telling.said(opened(3)) == ["gate"]
    assert telling.said(opened(3)) == []
    assert telling.said(run_started(run="r2")) == []
    assert telling.said(opened(3)) == ["gate"]


@pytest.mark.parametrize("delay", [None, 60.0])
def test_without_time_for_one_there_is_no_warning(telling: Telling, delay: float | None) -> None:
    assert [one.after for one in telling.hear(opened(3, delay)).messages] == [""]


def test_the_end_of_a_run_is_told_with_what_fails(telling: Telling) -> None:
    telling.hear(failed(3))
    told = telling.hear(ev.RunEnded("failed", 1)).messages
    assert [(one.event, one.text) for one in told] == [
        ("run_failed", "run r1 failed; failing: 3 p3"),
        ("fail", "run r1 failed; failing: 3 p3 (exit code 1)"),
    ]
    assert [one.event for one in telling.hear(ev.RunEnded("completed", 0)).messages] == ["run_completed", "ok"]
    assert [one.event for one in telling.hear(ev.RunEnded("waiting", 3)).messages] == ["ok"]
    assert [one.event for one in telling.hear(ev.RunEnded("waiting", 1)).messages] == ["fail"]


def test_a_missed_start_has_the_same_id_whoever_notices_it(telling: Telling) -> None:
    told = telling.hear(ev.InstantSettled("nightly", iso(NOW), "skipped", "the machine was off", missed=True)).messages
    assert [one.id for one in told] == [missed("nightly", NOW, NOW + 900).id] == [f"missed.nightly.{int(NOW)}"]
    assert told[0].text == (
        "schedule nightly: the start that was due at 2027-01-15T08:00:00Z did not happen: the machine was off"
    )
    assert telling.said(ev.InstantSettled("nightly", iso(NOW), "skipped", "one was active")) == []
    several = ev.InstantSettled("nightly", iso(NOW), "skipped", missed=True, last=iso(NOW + 7200), count=3)
    told = telling.hear(several).messages
    assert [one.id for one in told] == [missed("nightly", NOW + 7200, NOW).id]
    assert told[0].text == (
        "schedule nightly: none of the 3 starts happened that were due from 2027-01-15T08:00:00Z to 2027-01-15T10:00:00Z"
    )


def test_ids_name_files(telling: Telling) -> None:
    assert "/" not in missed("../../etc", NOW, NOW).id
    assert len(missed("x" * 500, NOW, NOW).id) <= 150
    assert nothing_to_do("r1", NOW).event == "ok"


def lines() -> list[tuple[ev.Event, ...]]:
    return [
        (run_started(), ev.PlanAdopted("digest", {"3": ["p3", ""], "4": ["p4", ""]})),
        (retried(3), opened(4, 7200.0)),
        (retried(3, 2),),
        (failed(3, 3), ev.GateApproved(4, "g", "digest", "ann", "")),
        (ev.RunEnded("failed", 1),),
        (run_started(run="r2"),),
        (done(3, 4), retried(4)),
    ]


@pytest.mark.parametrize("cut", range(len(lines()) + 1))
def test_from_wherever_it_is_remembered_the_rest_is_told_alike(cut: int) -> None:
    """Killed anywhere, and read again from what was remembered on disk."""
    whole, first = Telling(), Telling()
    for events in lines():
        whole.hear(*events)
    for events in lines()[:cut]:
        first.hear(*events)
    remembered: dict[str, Any] = json.loads(json.dumps(first.teller.as_dict()))
    second = Telling()
    second.teller, second.seq = Teller.from_dict(remembered), cut
    for events in lines()[cut:]:
        second.hear(*events)
    assert [*first.told, *second.told] == whole.told
    assert len({one.id for one in whole.told}) == len(whole.told)
    assert [Message.from_dict(json.loads(json.dumps(one.as_dict()))) for one in whole.told] == whole.told
