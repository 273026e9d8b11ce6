"""The time left for the heartbeat: asked at most once a second, from what the loop heard, never in the way of a run."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.agenda import Agenda
from orchestrator.core.draft import Decision
from orchestrator.core.eta import Forecast
from orchestrator.core.names import Moment, iso
from orchestrator.core.observations import Beat
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import Plan, Rules
from orchestrator.watch.outlook import Outlook
from tests.core.given import NOW, Case, spec_of

NOTHING = Decision((), ())


class Scene:
    """A run whose only phase has been in progress for 30 s."""

    def __init__(self, *durations: float) -> None:
        self.case = Case({1: ()})
        self.case.state._put(1, PhaseState("in_progress", "running", iso(NOW - 30), attempt=1, durations=durations))
        self.said: list[str] = []
        self.outlook = Outlook(self.said.append)

    def hears(self, plan: Plan | None = None, **news: Any) -> None:
        key = self.case.state.attempt_id(1).key
        batch = [Beat("a1", {key: news})] if news else []
        case = self.case
        agenda = Agenda(plan, case.state, case.moment) if plan else case.agenda
        self.outlook.tell(batch, NOTHING, case.state, agenda, plan or case.plan, case.moment)

    def left(self, later: float = 0.0) -> float | None:
        eta = self.outlook.eta(self.case.state, Moment(NOW + later, later))
        return eta.likely if eta else None


def test_nothing_is_known_before_the_loop_has_gone_round_nor_after_the_run() -> None:
    scene = Scene(*[100.0] * 20)
    assert scene.left() is None
    scene.hears()
    assert scene.left() == pytest.approx(70, rel=0.1)
    scene.case.state.run = scene.case.state.run.replace(verdict="completed")
    assert scene.left(5) is None


def test_it_is_worked_out_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    real = Forecast.eta
    monkeypatch.setattr(
        Forecast, "eta", lambda self, state, now, told: asked.append(now) or real(self, state, now, told)
    )
    scene = Scene(*[100.0] * 20)
    scene.hears()
    first = scene.left(0)
    for step in range(10):
        scene.left(step / 10)
    assert first is not None and scene.left(0.5) == pytest.approx(first - 0.5)
    assert asked == [NOW]
    scene.left(1.0)
    assert asked == [NOW, NOW + 1]


def test_progress_reaches_it_and_that_of_an_older_attempt_does_not() -> None:
    scene = Scene()
    scene.hears()
    assert scene.left(0) is None
    scene.hears(done=3, total=10)
    assert scene.left(2) == pytest.approx(74, rel=0.2)
    scene.case.state._put(1, scene.case.state.phase(1).replace(attempt=2))
    assert scene.left(4) is None


@pytest.mark.parametrize(
    "news", [{"done": None, "total": 3}, {"done": 1, "total": 0}, {"text": "x"}, {"done": "1", "total": "2"}]
)
def test_beats_without_a_share_are_no_progress(news: dict[str, Any]) -> None:
    scene = Scene()
    scene.hears(**news)
    assert scene.left() is None and not scene.said


def test_another_plan_begins_anew() -> None:
    scene = Scene(*[100.0] * 20)
    scene.hears()
    scene.left(0)
    scene.hears(plan=Plan([spec_of(1), spec_of(2, (1,))], Rules(), "other"))
    assert scene.left(2) == pytest.approx(168, rel=0.15)


def test_its_own_fault_ends_the_foretelling_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(Forecast, "eta", broken)
    scene = Scene(*[100.0] * 20)
    scene.hears()
    assert [scene.left(0), scene.left(5)] == [None, None]
    assert scene.said == ["the time left cannot be told any more: ZeroDivisionError: no"]
