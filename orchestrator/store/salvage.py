"""What can still be used behind a damaged line: later lines that are whole, laid over the last state that is proven.

A line that is lost may have said anything about its phases. So an event counts only where it can follow from what is
known, or where it says by itself how a phase ended; a phase of which too little is known stays as last proven.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from orchestrator.core import events as ev
from orchestrator.core import table
from orchestrator.core.events import Event, PhaseEvent
from orchestrator.core.formats import MALFORMED
from orchestrator.core.item import number_of
from orchestrator.core.names import epoch
from orchestrator.core.outcome import Failure
from orchestrator.core.state import State
from orchestrator.store.proof import Later

LOST = "what became of it was written in a decision that is damaged"
_NUMBER = re.compile(rb'"number":"?(-?\d{1,9}(?:\[\d{1,6}\])?)\b')


def phases_in(raw: bytes) -> set[int]:
    """Those that a damaged line still names."""
    return {number_of(number.decode()) for number in _NUMBER.findall(raw)}


class Salvage:
    def __init__(self, state: State) -> None:
        self.state = state
        self.lost: list[Later] = []
        self.kept: list[Later] = []
        self.concerned: set[int] = set()  # phases that the lost lines were about, as far as can be told
        self.last = 0  # the last sequence number that is known

    def take(self, lines: Iterable[Later]) -> None:
        for later in lines:
            if later.line is None or later.events is None:
                self.lost.append(later)
                self.concerned |= phases_in(later.raw)
                self.last += 1
                continue
            self.kept.append(later)
            self.last = max(self.last, later.line.seq)
            for event in later.events:
                self._try(event, epoch(later.line.at))

    def never_again(self, logs: Mapping[int, int], now: float) -> None:
        """No attempt that there has been is begun again: of those that nothing proves any more, the logs tell."""
        for number, attempt in logs.items():
            phase = self.state.phase(number)
            if attempt == phase.attempt and phase.is_live and phase.pid is None and number in self.concerned:
                self.state._put(number, phase.replace(pid=0, ticks=0))  # it was started: it has a log
            if attempt <= phase.attempt:
                continue
            self.concerned.add(number)
            if phase.is_live:  # a later attempt was begun, so this one was over
                failure = Failure("INTERRUPTED", LOST, log=phase.log or "")
                self.state.apply(ev.PhaseRecovered(number, phase.attempt, failure), now)
            self.state._put(number, self.state.phase(number).replace(attempt=attempt))

    def name_the_run(self, run: str, at: str) -> None:
        """The line that began the run is lost, not what was done in it."""
        if not self.state.run.id and any(phase.attempt for phase in self.state.phases.values()):
            self.state.run = self.state.run.replace(id=run or f"{at[:10]}-repaired", started_at=at)

    def _try(self, event: Event, at: float) -> None:
        try:
            self._use(event, at)
        except MALFORMED:  # it says what cannot be, whatever went before
            self.concerned |= {event.number} if isinstance(event, PhaseEvent) else set()

    def _use(self, event: Event, at: float) -> None:
        if not isinstance(event, PhaseEvent):
            if not isinstance(event, ev.RunStopping) and not (
                isinstance(event, ev.RunEnded) and not self._is_at_rest(event)
            ):
                self.state.apply(event, at)
            return
        number, phase = event.number, self.state.phase(event.number)
        attempt = getattr(event, "attempt", None)
        begins = isinstance(event, ev.AttemptIntended)
        follows = phase.place in table.TABLE[event.kind] and (attempt in (None, phase.attempt) or begins)
        if (
            not follows
            and isinstance(event, ev.AttemptIntended | ev.PhaseCompleted)
            and (attempt or 0) >= phase.attempt
        ):
            self.concerned.add(number)
            place = (
                {"status": table.PENDING, "step": None}
                if begins
                else {"status": table.IN_PROGRESS, "step": table.RUNNING}
            )
            known = attempt == phase.attempt  # else nobody knows what it was made of: it is not compared
            key, made = (phase.inputs_hash, phase.made) if known else (None, None)
            self.state._put(number, phase.replace(**place, attempt=attempt, inputs_hash=key, made=made))
            follows = True
        if follows:
            self.state.apply(event, at)
        else:
            self.concerned.add(number)
            seen = max(phase.attempt, attempt or 0)
            self.state._put(number, phase.replace(attempt=phase.attempt if phase.is_live else seen))

    def _is_at_rest(self, event: ev.RunEnded) -> bool:
        """A run that ended left nothing in progress; if we know of something, its end is among what is lost."""
        scope = self.state.run.scope
        done = all(phase.is_done for number, phase in self.state.phases.items() if phase.planned and number in scope)
        return not self.state.live and (done or event.verdict != "completed")
