"""The structured log: the keys that are promised, rotation by size, and whatever is done to the file from outside."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.core import events as ev
from orchestrator.core.agenda import Agenda
from orchestrator.core.draft import Decision
from orchestrator.core.names import Moment
from orchestrator.core.outcome import Failure
from orchestrator.core.plan import Plan, Rules
from orchestrator.core.spec import Spec
from orchestrator.core.state import State
from orchestrator.watch.archive import KEPT
from orchestrator.watch.structured import StructuredLog

KEYS = {
    "timestamp", "event", "phase", "name", "run", "attempt", "duration_seconds", "outputs", "error_type",
    "error_message", "error_code", "context",
}  # fmt: skip
MOMENT = Moment(1_763_600_000.5, 10.0)
PLAN = Plan([Spec(3, "index", "phases/x.toml", 1)], Rules(), "d")


class Rig:
    def __init__(self, path: Path, most: int = 10**6) -> None:
        self.path, self.complaints = path, list[str]()
        self.log = StructuredLog(path, most, self.complaints.append)
        self.state = State()

    def tell(self, *events: ev.Event) -> None:
        agenda = Agenda(PLAN, self.state, MOMENT)
        decision = Decision(events, (), tuple("a cause" for _ in events))
        self.log.tell([], decision, self.state, agenda, PLAN, MOMENT)

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


def test_a_phase_that_starts_fails_and_completes(tmp_path):
    rig = Rig(tmp_path / "s.jsonl")
    failure = Failure("TRANSIENT", "no route", type="ConnectionError")
    rig.tell(ev.AttemptIntended(3, 1, "agent", "1:key"), ev.RetryScheduled(3, 1, failure, 2.0, "later", 60.0))
    rig.tell(ev.PhaseCompleted(3, 2, 1.5, {"files": 4}))
    assert [line["event"] for line in rig.lines()] == ["phase_start", "phase_retry", "phase_complete"]
    assert all(set(line) == KEYS and line["phase"] == 3 for line in rig.lines())
    _, retry, done = rig.lines()
    assert (retry["error_code"], retry["error_type"], retry["error_message"]) == (
        "TRANSIENT",
        "ConnectionError",
        "no route",
    )
    assert retry["context"] == {"because": "a cause", "due_at": "later", "delay_seconds": 60.0}
    assert (done["duration_seconds"], done["outputs"], done["attempt"]) == (1.5, {"result": {"files": 4}}, 2)
    assert done["timestamp"] == "2025-11-20T00:53:20.500Z"


def test_what_says_nothing_about_run_or_phase_makes_no_line(tmp_path):
    rig = Rig(tmp_path / "s.jsonl")
    rig.tell(ev.AttemptStarted(3, 1, 77, 88), ev.PlanAdopted("d", {}))
    assert not rig.path.exists()


def test_it_rotates_by_size_and_keeps_so_many(tmp_path):
    rig = Rig(tmp_path / "s.jsonl", most=600)
    for _ in range(20):
        rig.tell(ev.PhaseCompleted(3, 2, 1.5))
    older = {f"s.jsonl.{number}" for number in range(1, KEPT + 1)}
    assert {path.name for path in tmp_path.iterdir()} - {"s.jsonl"} == older
    for path in tmp_path.iterdir():
        assert all(json.loads(line) for line in path.read_text().splitlines())


def test_deleted_and_moved_from_outside_it_goes_on(tmp_path):
    rig = Rig(tmp_path / "s.jsonl")
    rig.tell(ev.PhaseCompleted(3, 1, 1.0))
    rig.path.unlink()
    rig.tell(ev.PhaseCompleted(3, 2, 1.0))
    assert [line["attempt"] for line in rig.lines()] == [2]
    rig.path.rename(tmp_path / "taken-away")
    rig.tell(ev.PhaseCompleted(3, 3, 1.0))
    assert [line["attempt"] for line in rig.lines()] == [3]


def test_a_log_that_cannot_be_written_is_said_once_and_stops_nothing(tmp_path):
    rig = Rig(tmp_path / "missing" / "s.jsonl")
    (tmp_path / "missing").write_text("in the way")
    rig.tell(ev.PhaseCompleted(3, 1, 1.0))
    rig.tell(ev.PhaseCompleted(3, 2, 1.0))
    assert len(rig.complaints) == 1 and "could not be written" in rig.complaints[0]
    rig.path.parent.unlink()
    rig.tell(ev.PhaseCompleted(3, 3, 1.0))
    assert [line["attempt"] for line in rig.lines()] == [3]
