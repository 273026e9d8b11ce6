from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.core import events as ev
from orchestrator.core.events import Event, Scope
from orchestrator.core.gate import Gate
from orchestrator.core.names import Identity
from orchestrator.core.outcome import Failure
from orchestrator.core.state import State
from orchestrator.core.table import TABLE
from tests.core.given import intended, run_started

GOLDEN = [json.loads(line) for line in (Path(__file__).parent / "golden_events.jsonl").read_text().splitlines()]
KINDS = {name for name, kind in Event.kinds.items() if not kind.__subclasses__()}


@pytest.mark.parametrize("line", GOLDEN, ids=lambda line: line["event"])
def test_a_golden_line_loads_and_is_written_as_it_was(line):
    event = Event.from_dict(line)
    assert event.kind == line["event"] and json.loads(json.dumps(event.as_dict())) == line


def test_there_is_a_golden_line_for_every_event():
    assert {line["event"] for line in GOLDEN} == KINDS


@pytest.mark.parametrize("line", GOLDEN, ids=lambda line: line["event"])
def test_every_event_folds(line):
    event = Event.from_dict(line)
    state = State()
    state.apply(run_started(), 0.0)
    if "awaiting_approval" in TABLE.get(event.kind, {}) and "pending" not in TABLE[event.kind]:
        state.apply(ev.GateOpened(event.number, Gate("after", "r1", "digest", "2026-11-20T02:00:00.000Z")), 0.0)
    elif isinstance(event, ev.PhaseEvent) and "pending" not in TABLE[event.kind]:
        state.apply(intended(event.number, 2), 0.0)
    if event.kind == "RunResumed":
        state.apply(ev.RunPaused("ann"), 0.0)
    before = (
        state.run,
        dict(state.phases),
        dict(state.items),
        dict(state.agents),
        dict(state.answers),
        dict(state.schedules),
    )
    state.apply(event, 1.0)
    changed = (state.run, state.phases, state.items, state.agents, state.answers, state.schedules) != before
    assert changed or event.kind == "AgentLeft"


def test_what_is_nested_comes_back_as_values():
    who = Identity(1, 2, "boot", "host")
    assert Event.from_dict(ev.AgentEngaged("a", who).as_dict()) == ev.AgentEngaged("a", who)
    failed = ev.PhaseFailed(3, 1, Failure("FAILED", "no", tail=("a", "b")))
    assert Event.from_dict(json.loads(json.dumps(failed.as_dict()))) == failed
    opened = run_started(scope=Scope(only=(1, 2)))
    assert Event.from_dict(json.loads(json.dumps(opened.as_dict()))) == opened


@pytest.mark.parametrize("data", [{"event": "PhaseExploded"}, {}])
def test_an_event_of_another_orch_is_named(data):
    with pytest.raises(KeyError):
        Event.from_dict(data)


def test_an_event_with_a_field_of_another_orch_is_refused():
    with pytest.raises(TypeError, match="colour"):
        Event.from_dict({"event": "AgentLeft", "agent": "a", "why": "b", "colour": "red"})


@pytest.mark.parametrize(
    ("scope", "inside", "shown"),
    [
        (Scope(), {-9, -1, 0, 3, 99}, "all phases"),
        (Scope(first=0), {0, 3, 99}, "phases 0 to the last"),
        (Scope(last=0), {-9, -1, 0}, "phases the first to 0"),
        (Scope(-1, 3), {-1, 0, 3}, "phases -1 to 3"),
        (Scope(only=(99, -9)), {-9, 99}, "phases 99, -9"),
    ],
)
def test_a_range_holds_both_its_ends(scope, inside, shown):
    assert {number for number in (-9, -1, 0, 3, 99) if number in scope} == inside
    assert str(scope) == shown and Scope.from_dict(json.loads(json.dumps(scope.as_dict()))) == scope
    assert "3" not in scope
