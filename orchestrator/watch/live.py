"""The live view of a run on a terminal: when to draw, and what to do if that fails; never in the way of the loop."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator import clock
from orchestrator.core.agenda import Agenda
from orchestrator.core.draft import Decision
from orchestrator.core.names import Moment
from orchestrator.core.observations import Beat, Observation
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.watch.outlet import Outlet
from orchestrator.watch.outlook import Outlook
from orchestrator.watch.plain import NEVER, PlainLines
from orchestrator.watch.rows import ASCII, Marks, View, rows_of
from orchestrator.watch.screen import Paint, Screen, Size

SHORTEST, LONGEST = 0.1, 1.0  # seconds between two drawings: with news, and without


class LiveView:
    """Lines that stay are those of PlainLines; below them, drawn anew, what goes on."""

    def __init__(self, outlet: Outlet, size: Size, environ: Mapping[str, str], *, unicode: bool = True) -> None:
        self._outlet, self._marks = outlet, Marks() if unicode else ASCII
        self._screen = Screen(outlet, size, Paint(environ))
        self._lines = PlainLines(self._screen, starts=False)
        self._outlook = Outlook(lambda _: None)  # the loop's own says why, if it cannot tell
        self._shown: tuple[State, Agenda, Plan] | None = None
        self._drawn_at = -NEVER
        self._has_news = self._is_broken = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> LiveView:
        # Both wake the loop, because whoever holds the run lets signals write to its inbox.
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGWINCH, signal.SIGCONT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._screen.close()

    def tell(
        self, batch: Sequence[Observation], decision: Decision, state: State, agenda: Agenda, plan: Plan, moment: Moment
    ) -> None:
        self._lines.tell(batch, decision, state, agenda, plan, moment)
        self._outlook.tell(batch, decision, state, agenda, plan, moment)
        self._shown = (state, agenda, plan)
        self._has_news |= bool(decision.events) or any(isinstance(seen, Beat) for seen in batch)
        if self._is_broken:
            self._screen.close()

    def tend(self) -> float:
        """Draw if it is time; returns the seconds until it is time again."""
        flushed = self._outlet.flush()
        if self._shown is None or not self._lines.tally.has_begun or self._is_broken:
            return flushed
        moment = clock.System().moment()
        left = self._drawn_at + (SHORTEST if self._has_news else LONGEST) - moment.tick
        if left <= 0:
            self._draw(*self._shown, moment)
            left = LONGEST
        return min(left, flushed)

    def _draw(self, state: State, agenda: Agenda, plan: Plan, moment: Moment) -> None:
        self._drawn_at, self._has_news = moment.tick, False
        if state.run.verdict is not None or not self._outlet.is_clear:
            return
        try:
            columns, lines = self._screen.size
            tally = self._lines.tally
            eta = self._outlook.eta(state, moment)
            view = View(state, agenda, plan, tally, moment, max(10, columns - 1), lines, self._marks, eta)
            self._screen.draw(rows_of(view))
        except Exception as error:  # a fault of the display must not become one of the run
            self._is_broken = self._lines.starts = True
            self._screen.line(f"(the live view failed: {type(error).__name__}: {error}; plain lines from here on)")
            self._screen.close()

    def _on_signal(self, number: int, _frame: object) -> None:
        self._has_news = True
        if number == signal.SIGCONT:
            self._screen.forget()
