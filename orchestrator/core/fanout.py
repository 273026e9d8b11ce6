"""Fan-out: which items a phase has, what each of them is as a phase of the plan, and how many may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.core.item import MOST_ITEMS, Item, item
from orchestrator.core.names import short
from orchestrator.core.outcome import Failure
from orchestrator.core.phase import PhaseState
from orchestrator.core.spec import Foreach, Spec
from orchestrator.core.state import State

Look = Callable[[int], PhaseState]


class NotAList(Exception):
    """What the items were to come from is something else; the sentence says what."""


def items_in(foreach: Foreach, look: Look) -> tuple[Any, ...]:
    """Those that are written down, or that a phase has returned."""
    if foreach.items is not None:
        return foreach.items
    found = (look(foreach.result or 0).outputs or {}).get("result")
    way = f"result({foreach.result})"
    for key in foreach.keys:
        try:
            found = found[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            raise NotAList(f"{way} has no {key!r}: it is {short(found)}") from None
        way += f"[{key!r}]"
    if not isinstance(found, list):
        raise NotAList(f"{way} is no list: it is {short(found)}")
    if len(found) > MOST_ITEMS:
        raise NotAList(f"{way} has {len(found)} items, and there may be {MOST_ITEMS}")
    return tuple(found)


def unfit(why: str) -> Failure:
    return Failure("VALIDATION", f"it cannot fan out: {why}")


def spread(specs: Iterable[Spec], state: State) -> dict[Item, Spec]:
    """The items of all that has fanned out by now, each a phase with the same needs."""
    found: dict[Item, Spec] = {}
    for spec in specs:
        items = state.phase(spec.number).items if spec.foreach else None
        if items:
            pools = {**spec.pools, pool_of(spec.number): 1} if spec.max_parallel else spec.pools
            # what it is made from and makes is looked at for the whole
            whole = {"inputs": (), "outputs": (), "cache": False, "when": ""}
            one = spec.replace(foreach=None, max_parallel=None, fail_after=None, fail_fast=False, pools=pools, **whole)
            for index, value in enumerate(items):
                number = item(spec.number, index)
                found[number] = one.replace(number=number, item=(value,))
    return found


def pool_of(number: int) -> str:
    """The tokens that hold its items to `max_parallel`."""
    return f"max_parallel of {number}"


def may_fail(spec: Spec, many: int) -> int:
    """Of so many items, for the phase to be done all the same."""
    allowed = spec.fail_after or 0
    return int(allowed * many + 1e-9) if allowed < 1 else int(allowed)


def ends_early(spec: Spec, run_fails_fast: bool = False) -> bool:
    """Whether the rest is given up when more than that have failed."""
    return spec.fail_fast or spec.fail_after is not None or run_fails_fast
