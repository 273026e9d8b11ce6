"""Fan-out: which items a phase has, what each of them is as a phase of the plan, and how many may fail."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from orchestrator.core.cachekey import Material
from orchestrator.core.item import MOST_ITEMS, Item, item
from orchestrator.core.names import short
from orchestrator.core.outcome import Failure
from orchestrator.core.phase import PhaseState
from orchestrator.core.spec import Foreach, Spec
from orchestrator.core.state import State

Look = Callable[[int], PhaseState]


class NotAList(Exception):
    """What the items were to come from is something else; the sentence says what."""


def items_in(foreach: Foreach, look: Look, params: Mapping[str, Any], material: Material) -> tuple[Any, ...]:
    """Those that are written down, that a parameter holds or a phase has returned, or files that were looked at."""
    if foreach.items is not None:
        return foreach.items
    if foreach.param:
        if not isinstance(found := params.get(foreach.param), list | tuple):
            raise NotAList(f"{foreach} is no list: it is {short(found)}")
        return tuple(found)
    if foreach.files:
        return _files(foreach.files, material)
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


def _files(pattern: str, material: Material) -> tuple[str, ...]:
    if material.of_over is not None and not material.over:
        raise NotAList(f"the files {pattern} cannot be looked at: {material.of_over}")
    if fault := misnamed(pattern, material.each):
        raise NotAList(fault)
    return tuple(sorted(material.each))


def misnamed(pattern: str, files: Collection[str]) -> str:
    """Why these cannot be items; empty if they can."""
    if len(files) > MOST_ITEMS:
        return f"{pattern} means more than {MOST_ITEMS} files, and there may be no more"
    wrong = next((path for path in sorted(files) if not path.isprintable()), None)
    return f"{wrong!r} has a name that cannot be printed" if wrong is not None else ""


def without_list(foreach: Foreach, result: Any) -> Any:
    """What a phase has returned, but for the list that this one is done for."""
    if not foreach.keys:
        return None
    found = whole = _opened(result)
    for key in foreach.keys[:-1]:
        found[key] = found = _opened(found[key])
    found[foreach.keys[-1]] = None
    return whole


def _opened(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else list(value)


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
