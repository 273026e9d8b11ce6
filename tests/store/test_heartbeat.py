from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.core.eta import Eta
from orchestrator.core.events import RunPaused, RunResumed
from orchestrator.core.names import Moment
from orchestrator.core.state import State
from orchestrator.errors import StateUnwritable
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


# ---- when the run will be over


class Expecting:
    """A heart that is told when the run will be over."""

    def __init__(self, system: Path, eta: Eta | None) -> None:
        self.eta = eta
        self._system = system
        self._heart = Heartbeat(system, ME, 120.0, lambda state, moment: self.eta)

    def told(self, tick: float) -> object:
        self._heart.beat(State(), moment(tick))
        return document(self._system)["eta_seconds"]


def test_a_reader_gets_the_time_left_as_it_is_by_then(tmp_path):
    heart = Expecting(tmp_path, Eta(60.0, 75.0, 110.0))
    assert heart.told(0.0) == {"low": 60.0, "likely": 75.0, "high": 110.0}
    assert read(tmp_path, NOW + 70).eta == Eta(0.0, 5.0, 40.0)


def test_another_end_of_the_run_is_written_at_once_but_not_more_often_than_readers_look(tmp_path):
    heart = Expecting(tmp_path, None)
    assert heart.told(0.0) is None
    heart.eta = Eta(60.0, 75.0, 110.0)
    assert heart.told(1.9) is None and heart.told(2.0) is not None
    heart.eta = Eta(200.0, 300.0, 400.0)
    assert heart.told(3.9)["likely"] == 75.0 and heart.told(4.0)["likely"] == 300.0
    heart.eta = None
    assert heart.told(6.0) is None


def test_time_that_passes_is_no_news(tmp_path):
    heart = Expecting(tmp_path, Eta(60.0, 75.0, 110.0))
    heart.told(0.0)
    heart.eta = Eta(50.0, 66.0, 100.0)
    assert heart.told(10.0)["likely"] == 75.0


def test_after_a_clean_exit_nothing_is_left(tmp_path):
    heart = Heartbeat(tmp_path, ME, 120.0, lambda state, moment: Eta(1.0, 2.0, 3.0))
    heart.beat(State(), moment(0.0))
    heart.stop(State(), moment(1.0))
    assert read(tmp_path, NOW + 1).eta is None


def test_one_that_cannot_be_written_says_which_file(tmp_path):
    (tmp_path / "logs").write_text("no folder")
    with pytest.raises(StateUnwritable, match=r"logs"):
        Heartbeat(tmp_path, ME, 120.0).beat(State(), moment(0.0))


def test_that_the_run_is_paused_is_written_soon(tmp_path):
    case, heart = Case({1: ()}), Heartbeat(tmp_path, ME, 120.0)
    heart.beat(case.state, moment(0.0))
    case.given(RunPaused("ann"))
    assert heart.beat(case.state, moment(0.5)) == 1.5 and document(tmp_path)["state"] == "running"
    assert heart.beat(case.state, moment(2.0)) == 30.0 and document(tmp_path)["state"] == "paused"
    assert read(tmp_path, NOW + 3) == Pulse(ME, 1.0, False)
    case.given(RunResumed("ann"))
    assert heart.beat(case.state, moment(5.0)) == 30.0 and document(tmp_path)["state"] == "running"
