"""Carrying: which items stand when a phase fans out again; found by their own key, wherever they stood in the list.

Apart from the fold because who decides, and who only says what would be decided, counts by the same rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.core.cachekey import Made, is_of_item
from orchestrator.core.phase import PhaseState, anew, bare, may_be_kept
from orchestrator.core.table import COMPLETED, PENDING
from orchestrator.core.value import Value


class Carried(Value):
    states: tuple[PhaseState, ...]  # of each item of the new list
    kept: int = 0  # how many are done by that
    since: str = ""  # the last run in which one of those was made; empty: this one
    first: int | None = None  # that is to be run


def carried(before: Mapping[int, PhaseState], old: Sequence[str], keys: Sequence[str]) -> Carried:
    """`old`: the keys of the list of before, in this run. Whoever stands where it stood is left as it is.

    Each success stands for one item: of two that are equal, and one was reset, that one is run.
    """
    mine = {
        at for at, key in enumerate(keys)
        if key and (key == (old[at] if at < len(old) else "") or key == _key(before.get(at)))
    }  # fmt: skip
    spare: dict[str, list[PhaseState]] = {}
    for at, phase in sorted(before.items(), reverse=True):
        if at not in mine and standing(phase) is not None:
            spare.setdefault(_key(phase), []).append(phase)
    states = []
    for at, key in enumerate(keys):
        was = before.get(at) or PhaseState()
        if at in mine:
            states.append(was if was.is_done else _kept(was, was))
        else:
            states.append(_kept(was, spare[key].pop()) if spare.get(key) else bare(was))
    done = [phase for phase in states if phase.is_done]
    since = max((phase.made.run for phase in done if phase.made), default="")
    first = next((at for at, phase in enumerate(states) if not phase.is_done), None)
    return Carried(tuple(states), len(done), since, first)


def standing(phase: PhaseState) -> Made | None:
    """What came out of an item, if that may be taken again; never of one that failed, or was killed."""
    made = may_be_kept(phase) if phase.status in (PENDING, COMPLETED) else None
    return made if made is not None and is_of_item(made.key) else None


def spared(phase: PhaseState, run: str) -> PhaseState:
    """What the run after `run` knows of an item."""
    return anew(phase, run).replace(log=phase.log) if standing(phase) else bare(phase)


def told(found: Carried, first: str = "") -> str:
    """How many are run; empty where all are."""
    many, run = len(found.states), len(found.states) - found.kept
    since = f" since run {found.since}" if found.since else ""
    if not found.kept:
        return ""
    if not run:
        return f"none of its {many:,} items runs, all are unchanged{since}"
    return f"{run:,} of {many:,} items {'runs' if run == 1 else 'run'}{first}, the others are unchanged{since}"


def _key(phase: PhaseState | None) -> str:
    return phase.made.key if phase is not None and phase.made is not None else ""


def _kept(was: PhaseState, source: PhaseState) -> PhaseState:
    """In the place of `was`, whose attempts are counted on; one that has to run stays as it stands."""
    made = standing(source)
    if made is None:
        return was
    return bare(was).replace(
        status=COMPLETED, outputs={"result": made.result}, inputs_hash=made.key, made=made.replace(result=None),
        log=source.log, why=f"unchanged since run {made.run}" if made.run else None,
    )  # fmt: skip
