"""The pipeline as a graph: order, circles, what waits for what, the longest way through it.

`needs` maps each phase to the phases that it needs. A need that is no key of the map (outside the range, or in error)
counts nowhere. Nothing recurses: a chain of 10,000 phases is a chain like any other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

Needs = Mapping[int, Sequence[int]]

_STEPS_FOR_A_SHORTER_CIRCLE = 500_000  # a circle is for a person to read: a short one helps, the shortest is a luxury


def order(needs: Needs) -> list[int]:
    """Every phase after all that it needs; of those that could come next, the smallest number."""
    ordered = _peel(needs)
    if len(ordered) != len(needs):
        raise ValueError(f"phases that need each other in a circle have no order: {circle(needs)}")
    return ordered


def dependents(needs: Needs) -> dict[int, list[int]]:
    """For each phase those that need it, smallest first."""
    waiting: dict[int, list[int]] = {number: [] for number in needs}
    for number in sorted(needs):
        for need in dict.fromkeys(needs[number]):
            if need in waiting:
                waiting[need].append(number)
    return waiting


def closure(needs: Needs, start: Iterable[int]) -> set[int]:
    """All that `start` needs, directly or through others; its own members only if another one needs them."""
    found: set[int] = set()
    to_see = list(start)
    while to_see:
        fresh = [need for need in needs.get(to_see.pop(), ()) if need in needs and need not in found]
        found.update(fresh)
        to_see.extend(fresh)
    return found


def longest_path(needs: Needs, weight: Mapping[int, float]) -> list[int]:
    """The chain of needs with the greatest total weight (a phase without one weighs 0), first phase first."""
    total: dict[int, float] = {}
    before: dict[int, int | None] = {}
    for number in order(needs):
        known = [need for need in needs[number] if need in total]
        before[number] = max(known, key=lambda need: (total[need], -need), default=None)
        total[number] = weight.get(number, 0.0) + max((total[need] for need in known), default=0.0)
    path: list[int] = []
    last = max(total, key=lambda number: (total[number], -number), default=None)
    while last is not None:
        path.append(last)
        last = before[last]
    return path[::-1]


def circle(needs: Needs) -> list[int] | None:
    """Phases each of which needs the next, the last one the first: the shortest found, its smallest number first."""
    inside = _trim(needs)
    if not inside:
        return None
    best = _walk(inside)
    budget = _STEPS_FOR_A_SHORTER_CIRCLE
    for start in sorted(inside):
        shorter, steps = _way_back(inside, start, shorter_than=len(best))
        best = shorter or best
        budget -= steps
        if len(best) == 1 or budget < 0:
            break
    turn = best.index(min(best))
    return best[turn:] + best[:turn]


def _peel(needs: Needs) -> list[int]:
    """Phases in order, as far as there is one."""
    missing = {number: len({need for need in wanted if need in needs}) for number, wanted in needs.items()}
    waiting = dependents(needs)
    ready = [number for number, count in missing.items() if count == 0]
    heapify(ready)
    ordered = []
    while ready:
        number = heappop(ready)
        ordered.append(number)
        for following in waiting[number]:
            missing[following] -= 1
            if missing[following] == 0:
                heappush(ready, following)
    return ordered


def _trim(needs: Needs) -> dict[int, list[int]]:
    """Only circles and what lies between them: peeled from the front, then from the back."""
    for _ in range(2):
        gone = set(_peel(needs))
        needs = dependents({number: wanted for number, wanted in needs.items() if number not in gone})
    return {number: list(wanted) for number, wanted in needs.items()}


def _walk(inside: dict[int, list[int]]) -> list[int]:
    """Some circle: where everybody has a need, following them must come back."""
    place: dict[int, int] = {}
    here = min(inside)
    while here not in place:
        place[here] = len(place)
        here = inside[here][0]
    return list(place)[place[here] :]


def _way_back(inside: dict[int, list[int]], start: int, *, shorter_than: int) -> tuple[list[int] | None, int]:
    """The shortest circle through `start`, if it is shorter than that; and the steps it cost to look."""
    came_from: dict[int, int] = {}
    depth = {start: 1}
    to_see = deque([start])
    steps = 0
    while to_see:
        here = to_see.popleft()
        if depth[here] >= shorter_than:
            break
        for need in inside[here]:
            steps += 1
            if need == start:
                return _trace(came_from, start, here), steps
            if need not in depth:
                depth[need], came_from[need] = depth[here] + 1, here
                to_see.append(need)
    return None, steps


def _trace(came_from: dict[int, int], start: int, end: int) -> list[int]:
    path = [end]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]
