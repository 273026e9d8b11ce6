"""Agenda: what could start, what waits and until when, what the net watches; derived from plan and state.

It exists so that a decision costs the same with ten thousand phases as with a hundred: it is built once and then
follows each move, and no decision walks all phases. Nothing in it is kept on disk.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

from orchestrator.core.events import Scope
from orchestrator.core.names import Moment, epoch
from orchestrator.core.plan import Plan
from orchestrator.core.priority import places
from orchestrator.core.state import PhaseState, State
from orchestrator.core.stuck import Watch
from orchestrator.core.table import PENDING, RETRY_WAIT


class Agenda:
    def __init__(self, plan: Plan, state: State, moment: Moment) -> None:
        self._plan = plan
        self._due_ticks: dict[int, float] = {}
        self.scope: Scope = state.run.scope
        self.place = places(plan, state, self.scope)  # of each phase where several may start
        self.unmet: dict[int, int] = {}
        self.ready: list[int] = []  # by place: pending, in the range, every need done
        self.waiting: list[tuple[float, int]] = []  # the same of retries, sorted: (tick at which it is due, number)
        self.watches: dict[int, Watch] = {}
        for number, needs in plan.needs.items():
            self.unmet[number] = sum(not state.phase(need).is_done for need in set(needs))
        for number in (*plan.needs, *(number for number in state.live if number not in plan.needs)):
            self._enter(number, state.phase(number), moment)

    def follow(self, number: int, before: PhaseState, after: PhaseState, state: State, moment: Moment) -> None:
        """One phase moved; whoever needs it may have become ready, or ceased to be."""
        self._leave(number, before)
        self._enter(number, after, moment)
        if not after.is_live:
            self.watches.pop(number, None)
        if before.is_done == after.is_done:
            return
        for dependent in self._plan.dependents.get(number, ()):
            self._leave(dependent, state.phase(dependent))
            self.unmet[dependent] += -1 if after.is_done else 1
            self._enter(dependent, state.phase(dependent), moment)

    def press(self, number: int, tick: float) -> None:
        """The net has struck: it waits before it presses harder."""
        self.watches[number] = self.watches[number].pressed(tick)

    def _enter(self, number: int, phase: PhaseState, moment: Moment) -> None:
        if phase.is_live:
            strikes_at = moment.tick + self._plan.net_seconds(number)
            self.watches.setdefault(number, Watch(phase.attempt, strikes_at))
        elif number in self.scope and self.unmet.get(number) == 0:
            if phase.status == PENDING:
                insort(self.ready, number, key=self.place.__getitem__)
            elif phase.status == RETRY_WAIT:
                self._due_ticks[number] = moment.tick + _remaining(phase, moment.now)
                insort(self.waiting, (self._due_ticks[number], number))

    def _leave(self, number: int, phase: PhaseState) -> None:
        if phase.status == PENDING:
            _discard(self.ready, number, self.place.get)
        elif phase.status == RETRY_WAIT and number in self._due_ticks:
            _discard(self.waiting, (self._due_ticks.pop(number), number), None)


def _remaining(phase: PhaseState, now: float) -> float:
    """Never longer than the retry's own delay: the clock may have been set back."""
    left = epoch(phase.retry_at) - now if phase.retry_at else 0.0
    return max(0.0, min(left, phase.retry_delay_seconds if phase.retry_delay_seconds is not None else left))


def _discard(items: list[Any], item: Any, key: Any) -> None:
    index = bisect_left(items, key(item) if key else item, key=key)
    if index < len(items) and items[index] == item:
        del items[index]
