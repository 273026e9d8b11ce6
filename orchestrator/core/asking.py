"""What people ask of a run, and the answer: accepted or refused, and always why."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core import events as ev
from orchestrator.core.draft import Draft
from orchestrator.core.fanning import missed_items, stop_items
from orchestrator.core.item import Item, phase_of
from orchestrator.core.observations import Asked
from orchestrator.core.table import CANCELLED, FAILED, PENDING, RETRY_WAIT

CANCELLED_FROM_ELSEWHERE = 1  # the exit code of a run that somebody cancelled

Answer = tuple[bool, str]


def answer(draft: Draft, ask: Asked) -> Answer:
    reply = _VERBS.get(ask.verb)
    if reply is None:
        return False, f"no such ask: {ask.verb}"
    if ask.number is not None and not _is_known(draft, ask.number):
        return False, _unknown(draft, ask.number)
    return reply(draft, ask)


def _is_known(draft: Draft, number: int) -> bool:
    if isinstance(number, Item):
        return number.index < len(draft.phase(number.phase).items or ())
    return number in draft.plan.specs or number in draft.state.phases


def _unknown(draft: Draft, number: int) -> str:
    if isinstance(number, Item) and _is_known(draft, number.phase):
        many = len(draft.phase(number.phase).items or ())
        there = f"it has {number.phase}[0] to {number.phase}[{many - 1}]" if many else "it has not fanned out"
        return f"there is no {number}: {there}"
    number = phase_of(number)
    numbers = sorted(draft.plan.specs or draft.state.phases)
    if not numbers:
        return f"there is no phase {number}: no phase is known here yet"
    near = min(numbers, key=lambda known: abs(known - number))
    return f"there is no phase {number}; the nearest is {near} of {numbers[0]} to {numbers[-1]}"


def _cancel(draft: Draft, ask: Asked) -> Answer:
    if ask.number is not None:
        return _cancel_one(draft, ask.number, f"cancelled by {ask.by}")
    live = sorted(draft.live())
    if not live and (not draft.mode.starts or draft.is_over):
        return False, "nothing is in progress"
    why = f"cancelled by {ask.by}"
    if draft.mode.starts and not draft.stopping:
        draft.stop_run(why, CANCELLED_FROM_ELSEWHERE)
    draft.stop_all(why)
    return True, f"ending {len(live)} {'attempt' if len(live) == 1 else 'attempts'}"


def _cancel_one(draft: Draft, number: int, why: str) -> Answer:
    phase = draft.phase(number)
    if phase.is_live:
        draft.stop(number, why)
        return True, f"ending attempt {number}.{phase.attempt}"
    if phase.status in (PENDING, RETRY_WAIT):
        draft.note(ev.PhaseCancelled(number, why))
        if many := stop_items(draft, number, why):
            return True, f"ending {many} of its items; `orch retry {number}` takes that back"
        return True, f"phase {number} will not run; `orch retry {number}` takes that back"
    if phase.status == CANCELLED:
        return True, f"phase {number} is cancelled already"
    return False, f"phase {number} is {phase.status} already"


def _retry(draft: Draft, ask: Asked) -> Answer:
    if ask.number is None:
        return False, "which phase? `orch retry N`"
    number, phase = ask.number, draft.phase(ask.number)
    if phase.is_live:
        return False, f"phase {number} is in progress; `orch cancel {number}` ends it"
    if phase.is_done:
        return False, f"phase {number} is {phase.status}; `orch run --only {number} --force` runs it again"
    if draft.stopping:
        return False, "the run is being ended; ask again when it is over"
    if phase.status == PENDING:
        return True, f"phase {number} is pending already" + _when(draft)
    assert phase.status in (FAILED, CANCELLED, RETRY_WAIT)
    why = f"retry asked by {ask.by}"
    draft.note(ev.PhaseReset(number, why, items=missed_items(draft, number, by_hand=True)))
    if isinstance(number, Item) and draft.phase(number.phase).status != PENDING:
        draft.note(ev.PhaseReset(number.phase, why, items=()))
    return True, f"phase {number} is pending, with fresh tries" + _when(draft)


def _when(draft: Draft) -> str:
    return "" if draft.mode.starts and not draft.is_over else "; `orch run` runs it"


_VERBS: dict[str, Callable[[Draft, Asked], Answer]] = {"cancel": _cancel, "retry": _retry}
