from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.core import events as ev
from orchestrator.core.events import Event
from orchestrator.core.names import iso
from orchestrator.core.phase import PhaseState, phase_document
from orchestrator.core.state import RunState, State, run_document
from orchestrator.store.shape import check_event, check_fields, check_state
from tests.core.given import AGENT, NOW, completed, failed, intended, retrying, run_started
from tests.store.given import opening

Document = dict[str, Any]


def document() -> Document:
    """A state in which something stands in every place."""
    state = State()
    told = (
        *opening(3).events, intended(1), completed(1), intended(2), retrying(2), intended(3), failed(3),
        ev.RunEnded("failed", 1), ev.AgentEngaged("a1", AGENT), ev.AskAnswered("k1", "retry", "ann", True, "yes"),
    )  # fmt: skip
    for event in told:
        state.apply(event, NOW)
    phases = {str(number): phase_document(phase) for number, phase in state.phases.items()}
    return {"seq": 7, "chain": 3, "segment": 1, "offset": 99, **run_document(state), "phases": phases}


def test_what_orch_writes_has_the_shape():
    check_state(document())
    without_runs = document()
    del without_runs["runs"]
    check_state(without_runs)


def put(*path: str | int, value: object) -> Callable[[Document], None]:
    def change(whole: Document) -> None:
        here: Any = whole
        for name in path[:-1]:
            here = here[name]
        here[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (put("seq", value=-1), "seq cannot be -1"),
        (put("offset", value=True), "offset cannot be True"),
        (put("chain", value="x" * 90), r"chain cannot be 'x{76}\.\.\.$"),
        (put("segment", value=2**60), "segment cannot be 1152921504606846976"),
        (put("run", "jobs", value="two"), "jobs cannot be 'two'"),
        (put("run", "stale_after", value=None), "stale_after cannot be None"),
        (put("run", "stale_after", value=float("nan")), "stale_after cannot be nan"),
        (put("run", "started_at", value="yesterday"), "started_at cannot be 'yesterday'"),
        (put("run", "started_at", value="0001-01-01T00:00:00Z"), "started_at cannot be '0001"),
        (put("run", "started_at", value=12), "started_at cannot be 12"),
        (put("run", "scope", value=[]), r"scope cannot be \[\]"),
        (put("run", "scope", value={"first": "1"}), "scope cannot be {'first': '1'}"),
        (put("run", "scope", value={"third": 1}), "scope cannot be {'third': 1}"),
        (put("agents", "a1", "pid", value=1.5), r"a1: pid cannot be 1\.5"),
        (lambda whole: whole["agents"]["a1"].pop("ticks"), "a1: ticks is missing"),
        (lambda whole: whole["agents"]["a1"].pop("serial", None) or whole["agents"]["a1"].update(x=1), "a1: x"),
        (put("answers", "k1", "accepted", value=1), "k1: accepted cannot be 1"),
        (lambda whole: whole["answers"]["k1"].pop("verb"), "k1: verb"),
        (put("runs", 0, "done", value="3"), "done cannot be '3'"),
        (put("phases", "1", "status", value="melted"), "1: status and step cannot be 'melted' and None"),
        (put("phases", "1", "step", value="running"), "1: status and step cannot be 'completed' and 'running'"),
        (put("phases", "1", "step", value="dreaming"), "1: status and step cannot be 'completed' and 'dreaming'"),
        (put("phases", "1", "status", value="in_progress"), "1: status and step cannot be 'in_progress' and None"),
        (put("phases", "1", "durations", value=[1.0, "2"]), r"1: durations cannot be \[1\.0, '2'\]"),
        (put("phases", "1", "durations", value={}), "1: durations cannot be {}"),
        (put("phases", "1", "outputs", value=[]), r"1: outputs cannot be \[\]"),
        (put("phases", "1", "planned", value=0), "1: planned cannot be 0"),
        (put("phases", "3", "errors", 0, "code", value="BAD LUCK"), "3: code cannot be 'BAD LUCK'"),
        (put("phases", "3", "errors", 0, "message", value=None), "3: message cannot be None"),
        (put("phases", "3", "errors", value=[1]), r"3: errors cannot be \[1\]"),
    ],
)
def test_what_cannot_stand_there_is_named_with_its_place(change, what):
    whole = document()
    change(whole)
    with pytest.raises(ValueError, match=what):
        check_state(whole)


def test_what_is_missing_of_the_whole_is_named():
    for name in ("seq", "run", "agents", "answers", "phases"):
        whole = document()
        del whole[name]
        with pytest.raises(KeyError, match=name):
            check_state(whole)


def test_a_fault_without_a_word_is_told_by_its_kind(monkeypatch):
    def fails(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr("orchestrator.store.shape._like", fails)
    with pytest.raises(ValueError, match="k1: ValueError"):
        check_state(document())


def test_a_phase_that_says_less_is_pending():
    whole = document()
    whole["phases"] = {"1": {}}
    check_state(whole)


@pytest.mark.parametrize("event", [run_started(), *opening(2).events, intended(1), completed(1), failed(1)])
def test_an_event_that_orch_writes_has_the_shape(event):
    check_event(event.as_dict())


@pytest.mark.parametrize(
    ("event", "changes", "what"),
    [
        (run_started(), {"owner": None}, "owner cannot be None"),
        (run_started(), {"owner": {"pid": "x"}}, "owner cannot be {'pid': 'x'}"),
        (run_started(), {"scope": {"only": [1, "2"]}}, "scope cannot be"),
        (opening().events[1], {"phases": {"1": ["a", 2]}}, "phases cannot be {'1': "),
        (opening().events[1], {"phases": ["a"]}, r"phases cannot be \['a'\]"),
        (intended(1), {"number": "1"}, "number cannot be '1'"),
        (retrying(1), {"due_at": "soon"}, "due_at cannot be 'soon'"),
        (failed(1), {"failure": {"code": 3, "message": ""}}, "failure cannot be"),
    ],
)
def test_an_event_with_something_else_in_a_field_is_refused_by_the_fields_name(event: Event, changes, what):
    with pytest.raises(ValueError, match=what):
        check_event({**event.as_dict(), **changes})


def test_an_event_or_a_field_that_nobody_knows_is_refused():
    with pytest.raises(KeyError, match="PhaseEvaporated"):
        check_event({"event": "PhaseEvaporated"})
    with pytest.raises(KeyError, match="colour"):
        check_event({**intended(1).as_dict(), "colour": "red"})


def test_times_may_be_empty_and_lists_of_any_length():
    check_fields(RunState, {"started_at": "", "finished_at": None, "continued_at": iso(NOW)})
    check_fields(PhaseState, {"errors": [], "durations": [1, 2.5, 3], "leftovers": ["a"], "outputs": {"any": object()}})
