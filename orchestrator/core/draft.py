"""Draft: a decision while it is being made. The events so far, laid over a state that stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import Any

from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core.agenda import MISSED, Agenda
from orchestrator.core.cachekey import Material
from orchestrator.core.item import Item
from orchestrator.core.names import AttemptId, Moment, iso
from orchestrator.core.phase import PhaseState, fold_phase
from orchestrator.core.plan import Plan
from orchestrator.core.pools import fits
from orchestrator.core.state import State
from orchestrator.core.table import AWAITING, PENDING, RETRY_WAIT
from orchestrator.core.value import Value


class Mode(Value):
    """What this holder of the lock may do."""

    starts: bool  # a run; False: a turn, which commits, stops and collects, and never starts an attempt
    jobs: int = 0
    agent: str = ""  # which agent takes new work; empty: none yet
    no_wait: bool = False
    fail_fast: bool = False  # one failure that is final ends the run
    hidden: tuple[str, ...] = ()  # agents of whom nobody can say from here whether they live


class Decision(Value):
    events: tuple[ev.Event, ...]
    actions: tuple[act.Action, ...]
    reasons: tuple[str, ...] = ()  # for each event what it follows from
    pressed: tuple[int, ...] = ()  # phases on which the net pressed: nothing to remember on disk
    recovered: tuple[int, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.events and not self.actions


class Draft:
    def __init__(self, plan: Plan, state: State, agenda: Agenda, moment: Moment, mode: Mode) -> None:
        self.plan, self.state, self.agenda, self.moment, self.mode = plan, state, agenda, moment, mode
        self.opened = self.ended = False
        # A turn ends nothing that a run had begun to end: that run is over, or gone.
        self.stopping = state.run.stopping if mode.starts else None
        self.stopping_code = state.run.stopping_code or 0
        self.paused = state.run.paused is not None
        self.over: set[AttemptId] = set()  # attempts whose end is among the news
        self.materials = dict[int, Material]()  # what the disk says of the files of phases, just now
        self.settled = list[ev.InstantSettled]()  # what became of instants of schedules
        self.answers = dict[str, tuple[bool, str]]()
        self.pressed: list[int] = []
        self.recovered: list[int] = []
        self.failed_items: list[Item] = []
        self.reason = ""  # what the events that are noted now follow from
        self._events: list[ev.Event] = []
        self._reasons: list[str] = []
        self._actions: list[act.Action] = []
        self._changed: dict[int, PhaseState] = {}
        self._known, self._known_after = dict[int, int](), 0  # the delta, and after how many events that was
        self._freed: list[int] = []  # pending, and could start by it

    def phase(self, number: int) -> PhaseState:
        return self._changed.get(number) or self.state.phase(number)

    def attempt_id(self, number: int) -> AttemptId:
        return AttemptId(self.state.run.id, number, self.phase(number).attempt)

    def is_current(self, attempt: AttemptId) -> bool:
        """Is this the attempt that its phase is waiting for?"""
        phase = self.phase(attempt.phase)
        return phase.is_live and phase.attempt == attempt.number and attempt.run == self.state.run.id

    def records(self, schedule: str) -> list[dict[str, Any]]:
        """What became of its instants, by now."""
        now = iso(self.moment.now)
        noted = ({**vars(event), "at": now} for event in self.settled if event.schedule == schedule)
        return [*self.state.schedules.get(schedule, ()), *noted]

    def live(self) -> set[int]:
        live = {*self.state.live}
        for number, phase in self._changed.items():
            (live.add if phase.is_live else live.discard)(number)
        return live

    def restoring(self) -> bool:
        """Are outputs on their way back to a checkpoint?"""
        changed = any(phase.restore for phase in self._changed.values())
        return changed or any(number not in self._changed for number in self.state.restoring)

    def note(self, event: ev.PhaseEvent) -> None:
        self.note_run(event)
        self._changed[event.number] = fold_phase(self.phase(event.number), event, iso(self.moment.now))

    def note_run(self, event: ev.Event) -> None:
        self._events.append(event)
        self._reasons.append(self.reason)

    def do(self, action: act.Action) -> None:
        self._actions.append(action)

    @property
    def params(self) -> dict[str, Any]:
        return self.state.run.params

    def look(self, number: int) -> None:
        """Have its files looked at, unless that is under way."""
        if number not in self.agenda.looking:
            self.do(self.plan.question(number, self.phase(number).made))

    def look_at_outputs(self, number: int) -> None:
        """Of a phase whose items have ended: what they have made together."""
        if number not in self.agenda.looking:
            self.do(act.Measure(number, (), self.plan.specs[number].outputs, ended=True))

    def stop(self, number: int, why: str, *, insist: bool = False) -> None:
        phase = self.phase(number)
        if phase.step != "stopping" or insist:
            self.note(ev.StopRequested(number, phase.attempt, why, insist))
        self.do(act.StopAttempt(self.attempt_id(number), why, insist))

    def stop_all(self, why: str, *, insist: bool = False) -> None:
        for number in sorted(self.live()):
            self.stop(number, why, insist=insist)

    @property
    def plan_digest(self) -> str:
        """Of the plan that the run has adopted: what a turn knows of phases/ may be nothing."""
        return self.plan.digest if self.opened else self.state.run.plan

    @property
    def is_over(self) -> bool:
        """The run has ended before: what comes now finds nothing to end, and starts nothing."""
        return self.state.run.verdict is not None and not self.opened

    def is_all_done(self) -> bool:
        """Of what the run was asked for."""
        numbers = self.plan.specs or (number for number, phase in self.state.phases.items() if phase.planned)
        return all(self.phase(number).is_done for number in numbers if number in self.state.run.scope)

    def stop_run(self, why: str, exit_code: int) -> None:
        if self.is_over:
            return
        self.note_run(ev.RunStopping(why, exit_code))
        self.stopping, self.stopping_code = why, exit_code

    def startable(self, most: int) -> list[int]:
        """The first phases that may start by now: retries that are due and what is ready, each in its place.

        Whoever finds no token left lets others pass.
        """
        delta, left = self._delta(), self.agenda.free_tokens(self.live())
        found = {number for number in self._due() if number not in self._changed}
        found.update(n for n in self._freed if not self._asks_first(n) and not self._is_judged(n))
        ready = (n for n in self.agenda.next_ready(left) if n not in self._changed and not delta.get(n))
        place = self.agenda.place.__getitem__
        chosen: list[int] = []
        for number in merge(sorted(found, key=place), ready, key=place) if found else ready:
            wants = self.plan.wants_of(number)
            if len(chosen) >= most:
                break
            if self.is_held(number):
                continue
            if fits(wants, left):
                chosen.append(number)
                left.subtract(dict(wants))
        return chosen

    def is_held(self, number: int) -> bool:
        """An item of a phase that in this very decision ceased to wait for it, or does not know it any more."""
        if not isinstance(number, Item):
            return False
        before, now = self.state.phase(number.phase), self.phase(number.phase)
        return now.status != PENDING or now.items is not before.items

    def changed(self) -> list[PhaseState]:
        return [*self._changed.values()]

    def missed_now(self, number: int) -> int:
        """How many more of its items have failed by this decision, or were cancelled."""
        mine = (one for one in self._changed if isinstance(one, Item) and one.phase == number)
        return sum((self.phase(one).status in MISSED) - (self.state.phase(one).status in MISSED) for one in mine)

    def has_begun_again(self, number: int) -> bool:
        """Whether an item of it waits since this very decision: somebody has asked for it again."""
        mine = (one for one in self._changed if isinstance(one, Item) and one.phase == number)
        return any(self.phase(one).status in (PENDING, RETRY_WAIT) or self.phase(one).is_live for one in mine)

    def concerns_fans(self) -> bool:
        """What fans out is looked at again when this decision is written, before anybody says that all is over."""
        if self.agenda.to_gather:
            return True
        return any(isinstance(n, Item) or self.plan.fans_out(n) for n in (*self._changed, *self._delta()))

    def unjudged(self) -> list[int]:
        """Pending phases whose needs are done by now, and whose last success may stand."""
        delta = self._delta()
        found = {n for n in self.agenda.unjudged if n not in self._changed and not delta.get(n)}
        found.update(number for number in self._freed if self._is_judged(number))
        return sorted(found)

    def to_ask(self) -> list[int]:
        """Those that may start by now, but that a person is to be asked first."""
        delta = self._delta()
        known = (number for number in self.agenda.asking if number not in self._changed and not delta.get(number))
        freed = (n for n in self._freed if self._asks_first(n) and not self._is_judged(n))
        return sorted({*known, *freed})

    def awaiting(self) -> set[int]:
        """Who waits for a person."""
        changed = {number for number, phase in self._changed.items() if phase.status == AWAITING}
        return changed | {number for number in self.state.awaiting if number not in self._changed}

    def gates_due(self) -> list[int]:
        return [number for tick, number in self.agenda.gates if tick <= self.moment.tick]

    def _asks_first(self, number: int) -> bool:
        return self.plan.asks_first(number, self.phase(number))

    def _is_judged(self, number: int) -> bool:
        return self.plan.is_judged(number, self.phase(number))

    def has_waiting(self) -> bool:
        if any(self.phase(number).status == RETRY_WAIT for _, number in self.agenda.waiting):
            return True
        delta = self._delta()
        return any(self._is_free_by_now(RETRY_WAIT, number, delta) for number in {*delta, *self._changed})

    def _due(self) -> Iterator[int]:
        for tick, number in self.agenda.waiting:
            if tick > self.moment.tick:
                return
            yield number

    def _delta(self) -> dict[int, int]:
        """How this decision's own events change the number of unsettled needs; worked out anew after each event."""
        if self._known_after != len(self._events):
            self._known_after, self._known = len(self._events), self._work_out_delta()
            touched = {*self._known, *self._changed}
            self._freed = [number for number in touched if self._is_free_by_now(PENDING, number, self._known)]
        return self._known

    def _work_out_delta(self) -> dict[int, int]:
        delta, above, agenda = dict[int, int](), dict[int, int](), self.agenda
        turned = []
        for number, phase in self._changed.items():
            was, now = agenda.stands(number, self.state.phase(number)), agenda.stands(number, phase)
            if was != now:
                turned.append((number, was, now))
        while turned:
            number, was, now = turned.pop()
            for dependent, counts in agenda.moved_by(number):
                delta[dependent] = delta.get(dependent, 0) + now[0] - was[0]
                more = above.get(dependent, 0)
                above[dependent] = more + (now[1] - was[1]) * counts
                if not (phase := self.phase(dependent)).is_done:
                    continue  # nothing turns with it
                before, after = (agenda.stands(dependent, phase, many) for many in (more, above[dependent]))
                if before != after:
                    turned.append((dependent, before, after))
        return delta

    def has_its_needs(self, number: int) -> bool:
        """Is all settled that it needs, by now?"""
        return self.agenda.unmet.get(number, 0) + self._delta().get(number, 0) == 0

    def _is_free_by_now(self, status: str, number: int, delta: dict[int, int]) -> bool:
        """Does it stand there, with nothing that it needs still missing?"""
        unmet = self.agenda.unmet.get(number)
        if unmet is None or unmet + delta.get(number, 0) or number not in self.agenda.scope:
            return False
        return self.phase(number).status == status and not self.plan.fans_out(number)

    def decision(self) -> Decision:
        events, actions, reasons = tuple(self._events), tuple(self._actions), tuple(self._reasons)
        return Decision(events, actions, reasons, tuple(self.pressed), tuple(self.recovered))
