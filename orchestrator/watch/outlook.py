"""When the run will be over, for the heartbeat: hears what the loop hears, asks the forecast now and then."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from orchestrator.core.agenda import Agenda
from orchestrator.core.draft import Decision
from orchestrator.core.eta import Eta, Forecast
from orchestrator.core.names import AttemptId, Moment
from orchestrator.core.observations import Beat, Observation
from orchestrator.core.plan import Plan
from orchestrator.core.state import State

ASK_EVERY = 1.0  # seconds
PHASES_A_SECOND = 2000  # with more of them more seldom: an asking takes a noticeable part of a second


class Outlook:
    """Nothing is worked out when it is told something: that would come before the actions."""

    def __init__(self, record: Callable[[str], None]) -> None:
        self._record = record
        self._plan: Plan | None = None
        self._place: dict[int, int] = {}
        self._progress: dict[AttemptId, tuple[float, float]] = {}
        self._forecast: Forecast | None = None
        self._for: object = None
        self._asked_at = -math.inf
        self._eta: Eta | None = None
        self._is_broken = False

    def tell(
        self, batch: Sequence[Observation], decision: Decision, state: State, agenda: Agenda, plan: Plan, moment: Moment
    ) -> None:
        self._plan, self._place = plan, agenda.place
        for seen in batch:
            if isinstance(seen, Beat):
                self._heard(seen)

    def eta(self, state: State, moment: Moment) -> Eta | None:
        """At most once a second anew, and with many phases more seldom; in between the last one, as much later."""
        if self._plan is None or self._is_broken or not state.run.id or state.run.verdict is not None:
            return None
        if not 0 <= moment.tick - self._asked_at < max(ASK_EVERY, len(self._plan.needs) / PHASES_A_SECOND):
            self._asked_at = moment.tick
            self._ask(self._plan, state, moment)
        return self._eta.after(moment.tick - self._asked_at) if self._eta else None

    def _ask(self, plan: Plan, state: State, moment: Moment) -> None:
        try:
            which = (plan, state.run.id, state.run.scope, state.run.jobs)
            if self._forecast is None or which != self._for:
                self._forecast, self._for = Forecast(plan, self._place, state.run.scope, state.run.jobs), which
            live = {state.attempt_id(number) for number in state.live}
            self._progress = {attempt: told for attempt, told in self._progress.items() if attempt in live}
            told = {attempt.phase: share for attempt, share in self._progress.items()}
            self._eta = self._forecast.eta(state, moment.now, told)
        except Exception as error:  # whoever only looks ahead must not end a run
            self._is_broken, self._eta = True, None
            self._record(f"the time left cannot be told any more: {type(error).__name__}: {error}")

    def _heard(self, beat: Beat) -> None:
        for key, news in beat.attempts.items():
            done, total = news.get("done"), news.get("total")
            if isinstance(done, int | float) and isinstance(total, int | float) and total > 0:
                self._progress[AttemptId.parse(key)] = (float(done), float(total))
