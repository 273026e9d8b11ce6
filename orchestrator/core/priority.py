"""Priority: who goes first where several may start: whoever the end of the run has to wait for longest.

How long a phase takes is told by its history; of one that has none, by what phases of this pipeline take. Worked out
once for a run: while it goes on nothing is learnt about what is still to come.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core.events import Scope
from orchestrator.core.plan import Plan
from orchestrator.core.state import State

_UNKNOWN = 1.0  # seconds, where nothing has ever ended: then the longest chain goes first


def places(plan: Plan, state: State, scope: Scope) -> dict[int, int]:
    """Phase -> its place among all: by the longest path from its start to the end of the range, then by number."""
    usual = {number: median(phase.durations) for number, phase in state.phases.items() if phase.durations}
    usual |= {number: median(phase.durations) for number, phase in state.items.items() if phase.durations}
    typical = median(usual.values()) if usual else _UNKNOWN
    left: dict[int, float] = {}
    for number in reversed(_downwards(plan)):
        own = usual.get(number, typical) if number in scope else 0.0
        left[number] = own + max((left[after] for after in plan.dependents[number]), default=0.0)
    ordered = sorted(plan.needs, key=lambda number: (-left[number], number))
    return {number: place for place, number in enumerate(ordered)}


def median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def _downwards(plan: Plan) -> list[int]:
    """Every phase after all that it needs; a list that is read while it grows."""
    missing = {number: len({need for need in needs if need in plan.needs}) for number, needs in plan.needs.items()}
    ordered = [number for number, count in missing.items() if not count]
    for number in ordered:
        for after in plan.dependents[number]:
            missing[after] -= 1
            if not missing[after]:
                ordered.append(after)
    return ordered
