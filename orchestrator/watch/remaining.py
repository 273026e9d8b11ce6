"""How much longer, for those who look: asked now and then, in words that do not jitter."""

from __future__ import annotations

from orchestrator.core.eta import Eta, Forecast
from orchestrator.core.names import Moment
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.watch.tally import Tally
from orchestrator.watch.words import short_span

ASK_EVERY = 2.0
UNKNOWN = "time left not known yet"
_STEPS = ((20, 1), (60, 5), (600, 10), (3600, 60), (36_000, 300), (1e9, 3600))  # below this, in steps of that


class Remaining:
    def __init__(self) -> None:
        self._forecast: Forecast | None = None
        self._for: object = None
        self._eta: Eta | None = None
        self._asked_at = 0.0

    def eta(self, tally: Tally, state: State, plan: Plan, moment: Moment) -> Eta | None:
        which = (plan, state.run.scope, state.run.jobs)
        if self._forecast is None or which != self._for:
            self._forecast, self._for = Forecast(plan, state.run.scope, state.run.jobs), which
            self._asked_at = -ASK_EVERY
        if moment.tick - self._asked_at >= ASK_EVERY:
            self._eta = self._forecast.eta(state, moment.now, tally.progress(state))
            self._asked_at = moment.tick
        return self._eta.after(moment.tick - self._asked_at) if self._eta else None


def left(eta: Eta | None, is_wide: bool = True, is_narrow: bool = False) -> str:
    """about 2m left (1m 40s to 3m); 1m 40s to 3m left; 1m 40s to 3m."""
    if eta is None:
        return "" if is_narrow else UNKNOWN
    low, likely, high = rough(eta.low), rough(eta.likely), rough(eta.high)
    band = likely if low == high else f"{low} to {high}"
    if is_wide:
        return f"about {likely} left" + ("" if low == high else f" ({band})")
    return band if is_narrow else f"{band} left"


def rough(seconds: float) -> str:
    step = next(step for most, step in _STEPS if seconds < most)
    return short_span(round(seconds / step) * step)
