"""The loop itself: when it decides, and when it only goes back to sleep."""

from __future__ import annotations

from orchestrator.core import observations as obs
from tests.store.test_cost import Scripted, engine_of


class Restless(Scripted):
    """Wakes the loop before its time, and with no news, three times for each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = 0

    def get(self, wait_seconds: float) -> list[obs.Observation]:
        self.woken += 1
        return super().get(wait_seconds) if self.woken % 4 == 0 else []


def test_what_wakes_it_without_news_before_its_time_is_nothing_to_decide_on(tmp_path):
    engine, hands, store = engine_of(tmp_path, 9, hands=Restless())
    decided: list[bool] = []
    step = engine.step
    engine.step = lambda batch: decided.append(bool(batch)) or step(batch)
    engine.run()
    assert hands.woken > 3 * len(decided) and all(decided[1:]), "the first is to see who may start"
    assert store.state.run.verdict == "completed"
    store.close()


def test_a_deadline_of_its_own_is_decided_on_without_any_news(tmp_path):
    """Every tenth phase fails once: nothing but the time of its retry says that it may start again."""
    engine, hands, store = engine_of(tmp_path, 10)
    decided: list[bool] = []
    step = engine.step
    engine.step = lambda batch: decided.append(bool(batch)) or step(batch)
    hands.sleeps = True
    engine.run()
    assert store.state.phase(10).attempts == 2 and False in decided
    store.close()
