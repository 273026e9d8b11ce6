"""What a watcher remembers of a run between two decisions: counts, what ran, the last news of each attempt.

It follows each event, so that showing a run costs the same with ten thousand phases as with a hundred.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from orchestrator.core import events as ev
from orchestrator.core.draft import Decision
from orchestrator.core.gate import Gate
from orchestrator.core.item import Item, phase_of
from orchestrator.core.item import item as item_number
from orchestrator.core.names import AttemptId, Moment, epoch, left_until
from orchestrator.core.observations import Beat, Observation
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.core.table import CANCELLED, DONE, FAILED, RETRY_WAIT

_OPENINGS = (ev.RunStarted, ev.RunContinued, ev.PlanAdopted)
_HOLDING = (FAILED, CANCELLED)


class Tally:
    def __init__(self) -> None:
        self.total = self.retries = 0
        self.ran: set[int] = set()  # in this call
        self.ran_items: set[int] = set()
        self._items: dict[int, Counter[str]] = {}  # of each phase that has fanned out: where its items stand
        self._at: dict[int, str] = {}
        self.blocked: set[int] = set()  # not to be run before something that failed is
        self._holds: set[int] = set()  # what blocks them
        self._begun_at: float | None = None
        self._done_before: set[int] = set()
        self._status: dict[int, str] = {}
        self._by_status: dict[str, set[int]] = {}
        self._beats: dict[int, tuple[int, dict[str, Any]]] = {}

    def follow(
        self, batch: Sequence[Observation], decision: Decision, state: State, plan: Plan, moment: Moment
    ) -> None:
        """Call it with each decision, after it was folded into `state`."""
        for seen in batch:
            if isinstance(seen, Beat):
                self._heard(seen)
        if any(isinstance(event, _OPENINGS) for event in decision.events):
            self._open(state, plan, moment)
        moved = [event for event in decision.events if isinstance(event, ev.PhaseEvent)]
        for event in moved:
            self._moved(event, state)
        self._block([event.number for event in moved], plan)

    # ---- what is asked of it

    @property
    def has_begun(self) -> bool:
        return self._begun_at is not None

    @property
    def done(self) -> int:
        return sum(len(self.of(status)) for status in DONE)

    @property
    def kept(self) -> int:
        return len(self._done_before - self.ran)

    def of(self, status: str) -> set[int]:
        return self._by_status.get(status, set())

    def items(self, number: int) -> Counter[str]:
        """How many items of a phase that has fanned out stand where; those that were never begun are not counted."""
        return self._items.get(number, Counter())

    @property
    def retrying_items(self) -> int:
        return sum(counts[RETRY_WAIT] for counts in self._items.values())

    def seconds(self, moment: Moment) -> float:
        """Since this call of `orch run` began."""
        return moment.tick - self._begun_at if self._begun_at is not None else 0.0

    def elapsed(self, number: int, state: State, moment: Moment) -> float:
        started = state.phase(number).started_at
        return max(0.0, moment.now - epoch(started)) if started else 0.0

    def news(self, number: int, state: State) -> dict[str, Any]:
        """The last beat about the attempt that is in progress; empty if there was none."""
        attempt, news = self._beats.get(number, (0, {}))
        return news if attempt == state.phase(number).attempt else {}

    def fraction(self, number: int, state: State) -> float | None:
        """How far it says that it is, from 0 to 1."""
        news = self.news(number, state)
        done, total = news.get("done"), news.get("total")
        if not isinstance(done, (int, float)) or not isinstance(total, (int, float)) or total <= 0:
            return None
        return min(1.0, max(0.0, done / total))

    def expected(self, number: int, state: State, moment: Moment) -> float | None:
        """How far it should be by now, as its earlier durations say; never quite at its end."""
        from statistics import median  # brings fractions and decimals

        durations = state.phase(number).durations
        usual = median(durations) if durations else 0.0
        return min(0.99, self.elapsed(number, state, moment) / usual) if usual >= 1.0 else None

    # ---- how it follows

    def _heard(self, beat: Beat) -> None:
        for key, news in beat.attempts.items():
            attempt = AttemptId.parse(key)
            self._beats[attempt.phase] = (attempt.number, news)

    def _open(self, state: State, plan: Plan, moment: Moment) -> None:
        if self._begun_at is None:
            self._begun_at = moment.tick
        self._status, self._by_status = {}, {}
        for number in plan.specs:
            if number in state.run.scope:
                self._put(number, state.phase(number).status)
        self.total = len(self._status)
        self._items, self._at = {}, {}
        for item in state.items:
            self._put_item(item, state.phase(item).status)
        self._done_before = {number for status in DONE for number in self.of(status)}
        self._block_all(plan)

    def _moved(self, event: ev.PhaseEvent, state: State) -> None:
        number = event.number
        if isinstance(event, ev.AttemptIntended):
            self.retries += (self._at if isinstance(number, Item) else self._status).get(number) == RETRY_WAIT
            self.ran.add(phase_of(number))
        elif isinstance(event, ev.PhaseKept):
            self._done_before.add(number)
        if isinstance(number, Item):
            self.ran_items.add(number)
            self._put_item(number, state.phase(number).status)
        elif isinstance(event, ev.PhaseReset) and number in self._items:
            for item in [one for one in self._at if phase_of(one) == number]:
                self._put_item(item, state.phase(item).status)
        elif isinstance(event, ev.FannedOut) and event.kept:
            for place, phase in state.items_of(number).items():
                self._put_item(item_number(number, place), phase.status)
        if number in self._status:
            self._by_status[self._status[number]].discard(number)
            self._put(number, state.phase(number).status)
        if not state.phase(number).is_live:
            self._beats.pop(number, None)

    def _block(self, moved: list[int], plan: Plan) -> None:
        holding = [number for number in moved if self._status.get(number) in _HOLDING]
        if len(holding) < len(moved) and not self._holds.isdisjoint({*moved}.difference(holding)):
            self._block_all(plan)
        elif holding:
            self._block_behind(holding, plan)

    def _block_all(self, plan: Plan) -> None:
        self.blocked, self._holds = set(), set()
        self._block_behind([number for status in _HOLDING for number in self.of(status)], plan)

    def _block_behind(self, numbers: list[int], plan: Plan) -> None:
        """Each phase is blocked once, however many failures it stands behind."""
        self._holds.update(numbers)
        to_see = list(numbers)
        while to_see:
            fresh = {n for n in plan.dependents.get(to_see.pop(), ()) if n in self._status} - self.blocked
            self.blocked |= fresh
            to_see.extend(fresh)

    def _put_item(self, number: Item | int, status: str) -> None:
        counts = self._items.setdefault(phase_of(number), Counter())
        counts[self._at.get(number, "")] -= 1
        counts[status] += 1
        self._at[number] = status

    def _put(self, number: int, status: str) -> None:
        self._status[number] = status
        self._by_status.setdefault(status, set()).add(number)


def retry_due_in(number: int, state: State, moment: Moment) -> float:
    phase = state.phase(number)
    return left_until(phase.retry_at if phase.status == RETRY_WAIT else None, phase.retry_delay_seconds, moment.now)


def seconds_left(gate: Gate, moment: Moment) -> float:
    return left_until(gate.due_at, gate.delay_seconds, moment.now)
