"""How much longer, in words that do not jitter."""

from __future__ import annotations

from orchestrator.core.eta import Eta
from orchestrator.watch.words import short_span

UNKNOWN = "time left not known yet"
_STEPS = ((20, 1), (60, 5), (600, 10), (3600, 60), (36_000, 300), (1e9, 3600))  # below this, in steps of that


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
