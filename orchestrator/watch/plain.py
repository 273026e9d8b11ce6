"""One line for each start, end and retry, and now and then one about what goes on; a failure's last lines at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from orchestrator import clock
from orchestrator.core import events as ev
from orchestrator.core.agenda import Agenda
from orchestrator.core.draft import Decision
from orchestrator.core.names import Moment, iso
from orchestrator.core.observations import Observation
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.watch.outlook import Outlook
from orchestrator.watch.remaining import left
from orchestrator.watch.tally import Tally
from orchestrator.watch.words import clocked, closing, going_on, is_bad, only_waits, told

FIRST_PAUSE, LONGEST_PAUSE = 30.0, 600.0  # so long nothing is said before a line about what goes on
NEVER = 3600.0
PAUSED = "paused: `orch resume` lets it go on"


class Lines(Protocol):
    """Where lines go: an outlet, or the part of a screen that scrolls away."""

    def line(self, text: str) -> None: ...


class PlainLines:
    """`quiet`: failures only. `starts`: not where what runs is seen anyway."""

    def __init__(self, lines: Lines, *, quiet: bool = False, starts: bool = True) -> None:
        self.tally = Tally()
        self.starts = starts
        self._lines, self._quiet = lines, quiet
        self._outlook = Outlook(lambda _: None)  # the loop's own says why, if it cannot tell
        self._state: State | None = None
        self._pause, self._said_at = FIRST_PAUSE, 0.0

    def tell(
        self, batch: Sequence[Observation], decision: Decision, state: State, agenda: Agenda, plan: Plan, moment: Moment
    ) -> None:
        self._state = state
        self._outlook.tell(batch, decision, state, agenda, plan, moment)
        self.tally.follow(batch, decision, state, plan, moment)
        for event in decision.events:
            for line in self._told(event, state, plan, moment):
                self._say(moment, line)
        if self.starts and not self._quiet and any(isinstance(event, ev.RunContinued) for event in decision.events):
            for line in only_waits(state, agenda, moment):
                self._say(moment, line)

    def _told(self, event: ev.Event, state: State, plan: Plan, moment: Moment) -> list[str]:
        if self._quiet and not is_bad(event):
            return []
        if isinstance(event, ev.AttemptIntended) and not self.starts:
            return []
        if isinstance(event, ev.RunEnded):
            return closing(event, self.tally, state, plan, moment)
        return told(event, state, plan)

    def _say(self, moment: Moment, line: str) -> None:
        self._lines.line(clocked(moment, line))
        self._said_at = moment.tick

    def tend(self) -> float:
        """A line about what goes on, after a silence; each may last longer than the one before."""
        state = self._state
        if self._quiet or state is None or not self.tally.has_begun or state.run.verdict is not None:
            return NEVER
        moment = clock.System().moment()
        if moment.tick - self._said_at >= self._pause:
            when = left(self._outlook.eta(state, moment)) if state.run.paused is None else PAUSED
            self._say(moment, f"{going_on(self.tally, state, moment)}; {when}")
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return max(0.0, self._said_at + self._pause - moment.tick)


class JsonLines:
    """Every event as one JSON object a line, as it is in the journal."""

    def __init__(self, outlet: Lines) -> None:
        self._outlet = outlet

    def tell(
        self, batch: Sequence[Observation], decision: Decision, state: State, agenda: Agenda, plan: Plan, moment: Moment
    ) -> None:
        for event in decision.events:
            self._outlet.line(json.dumps({"at": iso(moment.now), **event.as_dict()}, default=str))

    def tend(self) -> float:
        return NEVER
