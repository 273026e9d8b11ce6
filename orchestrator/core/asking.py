"""What people ask of a run, and the answer: accepted or refused, and always why."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core import events as ev
from orchestrator.core.draft import Draft
from orchestrator.core.observations import Asked
from orchestrator.core.table import CANCELLED, FAILED, PENDING, RETRY_WAIT

CANCELLED_FROM_ELSEWHERE = 1  # the exit code of a run that somebody cancelled

Answer = tuple[bool, str]


def answer(draft: Draft, ask: Asked) -> Answer:
    reply = _VERBS.get(ask.verb)
    if reply is None:
        return False, f"no such ask: {ask.verb}"
    if ask.number is not None and ask.number not in draft.plan.specs and ask.number not in draft.state.phases:
        return False, _unknown(draft, ask.number)
    return reply(draft, ask)


def _unknown(draft: Draft, number: int) -> str:
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
    draft.note(ev.PhaseReset(number, f"retry asked by {ask.by}"))
    return True, f"phase {number} is pending, with fresh tries" + _when(draft)


def _when(draft: Draft) -> str:
    return "" if draft.mode.starts and not draft.is_over else "; `orch run` runs it"


_VERBS: dict[str, Callable[[Draft, Asked], Answer]] = {"cancel": _cancel, "retry": _retry}
