"""Pools: tokens that phases share. Who has them follows from who is live: nothing is counted up or down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.core.names import nearest
from orchestrator.core.spec import Spec

Wants = tuple[tuple[str, int], ...]  # pool and how many of its tokens, by name
Specs = Mapping[int, Spec]


def wants_of(spec: Spec | None) -> Wants:
    return tuple(sorted(spec.pools.items())) if spec else ()


def free(pools: Mapping[str, int], wants: Mapping[int, Wants], live: Iterable[int]) -> Counter[str]:
    """What is left of each pool; less than nothing where a pool was made smaller meanwhile."""
    left = Counter(pools)
    for number in live:
        left.subtract(dict(wants.get(number, ())))
    return left


def fits(wants: Wants, left: Mapping[str, int]) -> bool:
    return all(left.get(pool, 0) >= many for pool, many in wants)


def waits_for(number: int, pools: Mapping[str, int], specs: Specs, live: Sequence[int]) -> str:
    """Which tokens there are too few of for this phase, and who has them; empty if it has not to wait for any."""
    left = free(pools, {one: wants_of(specs.get(one)) for one in live}, live)
    return ", ".join(
        f"{_tokens(pool, many)}, held by {_holders(pool, specs, live)}"
        for pool, many in wants_of(specs.get(number))
        if left[pool] < many
    )


def misfit(spec: Spec, pools: Mapping[str, int]) -> tuple[str, str] | None:
    """Why this phase could never start, and what to do."""
    for pool, many in wants_of(spec):
        if pool not in pools:
            right = nearest(pool, list(pools))
            return f"there is no pool {pool}", f"did you mean {right}?" if right else f"write {pool} = 1 under [pools]"
        if many > pools[pool]:
            return f"it wants {_tokens(pool, many)}, there are {pools[pool]}", f"write {pool} = {many} under [pools]"
    return None


def _tokens(pool: str, many: int) -> str:
    return pool if many == 1 else f"{many} of {pool}"


def _holders(pool: str, specs: Specs, live: Sequence[int]) -> str:
    held = [number for number in sorted(live) if number in specs and specs[number].pools.get(pool)]
    return " and ".join(map(str, held)) or "nobody"
