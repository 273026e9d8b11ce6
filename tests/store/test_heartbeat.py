from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.core.names import Moment
from orchestrator.core.state import State
from orchestrator.store.heartbeat import AT_MOST_APART, Heartbeat, Pulse, read
from tests.core.given import ME, NOW, Case


def moment(tick: float) -> Moment:
    return Moment(NOW + tick, tick)


def document(system: Path) -> dict[str, object]:
    return dict(json.loads((system / "logs" / "heartbeat.json").read_text()))


def test_it_is_written_when_it_is_due_and_says_when_it_will_be_again(tmp_path):
    heart = Heartbeat(tmp_path, ME, 120.0)
    assert heart.beat(State(), moment(5.0)) == 30.0 and read(tmp_path, NOW + 5) == Pulse(ME, 0.0, False)
    assert heart.beat(State(), moment(15.0)) == 20.0 and read(tmp_path, NOW + 15) == Pulse(ME, 10.0, False)
    assert heart.beat(State(), moment(35.0)) == 30.0 and read(tmp_path, NOW + 35) == Pulse(ME, 0.0, False)


@pytest.mark.parametrize(("timeout", "every"), [(8.0, 2.0), (120.0, 30.0), (7200.0, AT_MOST_APART)])
def test_it_is_written_four_times_within_the_patience_of_others(tmp_path, timeout, every):
    assert Heartbeat(tmp_path, ME, timeout).beat(State(), moment(0.0)) == every


def test_a_clean_exit_says_so(tmp_path):
    heart = Heartbeat(tmp_path, ME, 120.0)
    heart.beat(State(), moment(0.0))
    heart.stop(State(), moment(1.0))
    assert read(tmp_path, NOW + 3) == Pulse(ME, 2.0, True)


def test_it_says_what_is_being_done(tmp_path):
    case = Case(dict.fromkeys(range(30), ())).live(*range(30))
    Heartbeat(tmp_path, ME, 120.0).beat(case.state, moment(0.0))
    found = document(tmp_path)
    assert found["run"] == "r1" and found["state"] == "running" and found["heartbeat_seconds"] == 30.0
    assert found["doing"] == [f"{number} running" for number in range(20)], "bounded"


def test_a_clock_that_was_set_back_makes_no_pulse_from_the_future(tmp_path):
    Heartbeat(tmp_path, ME, 120.0).beat(State(), moment(0.0))
    assert read(tmp_path, NOW - 500).age == 0.0


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "null", '{"pid": "x"}'])
def test_what_cannot_be_read_is_no_pulse(tmp_path, text):
    if text is not None:
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "heartbeat.json").write_text(text)
    assert read(tmp_path, NOW) is None
