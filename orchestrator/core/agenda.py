"""Agenda: what could start, what waits and until when, what the net watches; derived from plan and state.

It exists so that a decision costs the same with ten thousand phases as with a hundred: it is built once and then
follows each move, and no decision walks all phases. Nothing in it is kept on disk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Any

from orchestrator.core import events as ev
from orchestrator.core.actions import Action, Measure
from orchestrator.core.events import Scope
from orchestrator.core.fanout import ends_early, may_fail
from orchestrator.core.item import Item
from orchestrator.core.names import Moment, left_until
from orchestrator.core.observations import Measured, Observation
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import Plan
from orchestrator.core.pools import Wants, fits, free
from orchestrator.core.priority import places
from orchestrator.core.state import State
from orchestrator.core.stuck import Watch
from orchestrator.core.table import AWAITING, CANCELLED, DONE, FAILED, PENDING, RETRY_WAIT, SKIPPED

MISSED = frozenset({FAILED, CANCELLED})
_ENDED = DONE | MISSED


_OPENINGS = (ev.RunStarted, ev.RunContinued, ev.PlanAdopted, ev.RolledBack)


def begins_anew(plan: Plan, events: Iterable[ev.Event]) -> bool:
    """Whether what is to be done is no more what plan and agenda were made from."""
    return any(
        isinstance(event, (*_OPENINGS, ev.FannedOut))
        or (isinstance(event, ev.PhaseReset) and plan.fans_out(event.number))
        for event in events
    )


def renewed(before: Agenda, plan: Plan, state: State, events: Iterable[ev.Event], moment: Moment) -> Agenda:
    """Within a call what is waited for is waited for no longer because something else has fanned out."""
    opens = any(isinstance(event, _OPENINGS) for event in events)
    return Agenda(plan, state, moment, None if opens else before)


class Agenda:
    def __init__(self, plan: Plan, state: State, moment: Moment, before: Agenda | None = None) -> None:
        self._plan = plan
        self._due: dict[int, tuple[str, float]] = {**before._due} if before else {}  # when, by wall clock and by tick
        self.scope: Scope = state.run.scope
        self.place = places(plan, state, self.scope)  # of each phase where several may start
        self.unmet: dict[int, int] = {}  # how many of its needs are not settled
        self.above: dict[int, int] = {}  # the same, of those in the range: what is done is not settled before these are
        self._ready: dict[Wants, list[int]] = {}  # by place: pending, in the range, every need done; by what they take
        self.waiting: list[tuple[float, int]] = []  # the same of retries, sorted: (tick at which it is due, number)
        self.asking: list[int] = []  # as ready, but that a person is to be asked first
        self.gates: list[tuple[float, int]] = []  # sorted: (tick of the deadline, who waits for a person until then)
        self.unjudged: set[int] = set()  # pending, in the range, every need done; and its last success may stand
        self.looking: set[int] = {*before.looking} if before else set()  # phases whose files are being looked at
        self.watches: dict[int, Watch] = {}
        for number, watch in before.watches.items() if before else ():
            if number in state.live and state.phase(number).attempt == watch.attempt:
                self.watches[number] = watch
        self.to_fan_out: set[int] = set()  # pending, in the range, every need done: its items are to be found
        self.to_gather: set[int] = set()  # its items have ended, or too many of them failed
        self._open: dict[int, int] = {}  # of its items: how many may still end
        self._missed: dict[int, int] = {}  # and how many have failed, or were cancelled
        self._stands: dict[int, tuple[bool, bool]] = {}  # as it was counted: whether it is unsettled, and to be done
        for number in plan.rank:
            self.unmet[number] = self.above[number] = 0
            for need in {*plan.needs[number]}:
                unsettled, to_do = self._stands[need]
                self.unmet[number] += unsettled
                self.above[number] += to_do and self._counts_above(need)
            self._stands[number] = self.stands(number, state.phase(number))
        for number, items in plan.items_of.items():
            statuses = Counter(state.phase(item).status for item in items)
            self._missed[number] = sum(statuses[status] for status in MISSED)
            self._open[number] = len(items) - sum(statuses[status] for status in _ENDED)
        self._state = state
        strangers = (number for number in (*state.live, *state.awaiting) if number not in plan.needs)
        for number in (*plan.needs, *strangers):
            self._enter(number, state.phase(number), moment)

    def follow(self, number: int, before: PhaseState, after: PhaseState, state: State, moment: Moment) -> None:
        """One phase moved; whoever needs it may have become ready, or ceased to be."""
        self._state = state
        self._leave(number, before)
        self._enter(number, after, moment)
        if not after.is_live:
            self.watches.pop(number, None)
        if isinstance(number, Item):
            self._count(number.phase, before.status, after.status, state)
        elif number in self._open and before.status != after.status:
            for item in self._plan.items_of[number]:  # they may start only while it is pending
                self._leave(item, state.phase(item))
                self._enter(item, state.phase(item), moment)
        moved = [number]
        while moved:
            moved += self._turn(moved.pop(), state, moment)

    def stands(self, number: int, phase: PhaseState, more: int = 0) -> tuple[bool, bool]:
        """Whether it is unsettled, and whether it is to be done; `more` are above it than the agenda knows.

        Settled: done, and nothing that it was made from is to be done again. A skip is a person's word, and stands.
        """
        is_settled = phase.is_done and (phase.status == SKIPPED or self.above.get(number, 0) + more == 0)
        return not is_settled, not is_settled and phase.status not in MISSED

    def moved_by(self, number: int) -> Iterator[tuple[int, bool]]:
        """Who needs it, and whether such a one is unsettled while it is to be done."""
        counts = self._counts_above(number)
        return ((dependent, counts) for dependent in self._plan.dependents.get(number, ()))

    def _counts_above(self, number: int) -> bool:
        """What is outside of the range is as it is; of items some may have failed."""
        return not isinstance(number, Item) and number in self.scope

    def _turn(self, number: int, state: State, moment: Moment) -> Iterator[int]:
        """If it stands otherwise, by all that is true now: who needs it, as that may turn with it."""
        was, now = self._stands.get(number), self.stands(number, state.phase(number))
        if was is None or was == now:
            return
        self._stands[number] = now
        for dependent, counts in self.moved_by(number):
            phase, unmet = state.phase(dependent), self.unmet[dependent]
            self.unmet[dependent] += now[0] - was[0]
            self.above[dependent] += (now[1] - was[1]) * counts
            if unmet == 0 or self.unmet[dependent] == 0:  # else it waits as before, and is in no list
                self._leave(dependent, phase)
                self._enter(dependent, phase, moment)
            if phase.is_done:
                yield dependent

    @property
    def ready(self) -> list[int]:
        """All of them, each in its place."""
        return sorted((number for queue in self._ready.values() for number in queue), key=self.place.__getitem__)

    @property
    def count_ready(self) -> int:
        return sum(map(len, self._ready.values()))

    def missed(self, number: int) -> int:
        """How many items of a phase have failed, or were cancelled."""
        return self._missed.get(number, 0)

    def free_tokens(self, live: Iterable[int]) -> Counter[str]:
        return free(self._plan.rules.pools, self._plan.wants, live if self._plan.wants else ())

    def next_ready(self, left: Mapping[str, int]) -> Iterator[int]:
        """Those for whom there are tokens, each in its place; `left` may become less while they are taken."""
        heads = [(self.place[queue[0]], 0, wants) for wants, queue in self._ready.items() if queue]
        heapify(heads)
        while heads:
            _, at, wants = heads[0]
            queue = self._ready[wants]
            if not fits(wants, left):
                heappop(heads)  # nor for those behind it
                continue
            yield queue[at]
            if at + 1 < len(queue):
                heapreplace(heads, (self.place[queue[at + 1]], at + 1, wants))
            else:
                heappop(heads)

    def short_of(self, left: Mapping[str, int]) -> Counter[str]:
        """How many that could start but for a token wait for which pool, the first that they lack."""
        found = Counter[str]()
        for wants, queue in self._ready.items():
            lacking = [pool for pool, many in wants if left.get(pool, 0) < many]
            if queue and lacking:
                found[lacking[0]] += len(queue)
        return found

    def next_due(self, left: Mapping[str, int], tick: float) -> list[float]:
        """In how many seconds the first retry is due for which there are tokens."""
        fitting = (due for due, number in self.waiting if fits(self._plan.wants_of(number), left))
        return [due - tick for due in islice(fitting, 1)]

    def hear(self, batch: Iterable[Observation]) -> None:
        self.looking.difference_update(seen.number for seen in batch if isinstance(seen, Measured))

    def ask(self, actions: Iterable[Action]) -> None:
        self.looking.update(action.number for action in actions if isinstance(action, Measure))

    def is_idle(self, left: Mapping[str, int], free: int) -> bool:
        """Is there nothing to judge and nothing to start, but what is being looked at already?"""
        if self.unjudged - self.looking:
            return False
        return all(number in self.looking for number in islice(self.next_ready(left), max(0, free)))

    def press(self, number: int, tick: float) -> None:
        """The net has struck: it waits before it presses harder."""
        self.watches[number] = self.watches[number].pressed(tick)

    def _count(self, owner: int, before: str, after: str, state: State) -> None:
        self._open[owner] += (before in _ENDED) - (after in _ENDED)
        self._missed[owner] += (after in MISSED) - (before in MISSED)
        self._judge(owner, state.phase(owner))

    def _judge(self, owner: int, phase: PhaseState) -> None:
        spec = self._plan.specs.get(owner)
        ended = spec is not None and phase.status == PENDING and owner in self.scope and phase.items is not None
        if ended and spec is not None and self._open.get(owner, 0):
            ended = ends_early(spec) and self._missed[owner] > may_fail(spec, len(phase.items or ()))
        (self.to_gather.add if ended else self.to_gather.discard)(owner)

    def _enter(self, number: int, phase: PhaseState, moment: Moment) -> None:
        """Twice is once: whoever needs what has just moved is looked at as it is after the whole decision."""
        due = self._tick_due(number, phase, moment)
        if phase.is_live:
            strikes_at = moment.tick + self._plan.net_seconds(number)
            self.watches.setdefault(number, Watch(phase.attempt, strikes_at))
        elif phase.status == AWAITING:
            if due is not None:
                _insert(self.gates, (due, number), None)
        elif self._plan.fans_out(number):
            self._judge(number, phase)
            if phase.items is None and phase.status == PENDING and number in self.scope and self.unmet[number] == 0:
                (self.unjudged if self._plan.is_judged(number, phase) else self.to_fan_out).add(number)
        elif isinstance(number, Item) and self._state.phase(number.phase).status != PENDING:
            return
        elif number in self.scope and self.unmet.get(number) == 0:
            if phase.status == PENDING and self._plan.is_judged(number, phase):
                self.unjudged.add(number)
            elif phase.status == PENDING and self._plan.asks_first(number, phase):
                _insert(self.asking, number, None)
            elif phase.status == PENDING:
                queue = self._ready.setdefault(self._plan.wants_of(number), [])
                _insert(queue, number, self.place.__getitem__)
            elif due is not None:
                _insert(self.waiting, (due, number), None)

    def _leave(self, number: int, phase: PhaseState) -> None:
        self.to_fan_out.discard(number)
        self.unjudged.discard(number)
        if phase.status == PENDING and self._plan.asks_first(number, phase):
            _discard(self.asking, number, None)
        elif phase.status == PENDING:
            _discard(self._ready.get(self._plan.wants_of(number), []), number, self.place.get)
        elif number in self._due:
            known = (self._due[number][1], number)
            _discard(self.waiting if phase.status == RETRY_WAIT else self.gates, known, None)

    def _tick_due(self, number: int, phase: PhaseState, moment: Moment) -> float | None:
        """Worked out once for all the time that it waits: whoever sets the clock meanwhile moves it no more."""
        gate = phase.gate
        if phase.status == RETRY_WAIT:
            due_at, delay = phase.retry_at or "", phase.retry_delay_seconds
        elif phase.status == AWAITING and gate is not None and gate.due_at is not None:
            due_at, delay = gate.due_at, gate.delay_seconds
        else:
            return None
        if number not in self._due or self._due[number][0] != due_at:
            self._due[number] = (due_at, moment.tick + left_until(due_at, delay, moment.now))
        return self._due[number][1]


def _insert(items: list[Any], item: Any, key: Any) -> None:
    index = bisect_left(items, key(item) if key else item, key=key)
    if index == len(items) or items[index] != item:
        items.insert(index, item)


def _discard(items: list[Any], item: Any, key: Any) -> None:
    index = bisect_left(items, key(item) if key else item, key=key)
    if index < len(items) and items[index] == item:
        del items[index]
