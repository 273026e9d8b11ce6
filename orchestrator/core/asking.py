"""What people ask of a run, and the answer: accepted or refused, and always why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from orchestrator.core import due
from orchestrator.core import events as ev
from orchestrator.core.deciding import approve, not_theirs, reject
from orchestrator.core.draft import Draft
from orchestrator.core.fanning import live_items, missed_items, stop_items
from orchestrator.core.gate import ways
from orchestrator.core.graph import closure
from orchestrator.core.item import Item, phase_of
from orchestrator.core.names import owner_name
from orchestrator.core.observations import Asked
from orchestrator.core.outcome import Failure
from orchestrator.core.table import AWAITING, CANCELLED, FAILED, PENDING, RETRY_WAIT, SKIPPED

CANCELLED_FROM_ELSEWHERE = 1  # the exit code of a run that somebody cancelled

Answer = tuple[bool, str]
Verb = Callable[[Draft, Asked], Answer]


def answer(draft: Draft, ask: Asked) -> Answer:
    reply = _VERBS.get(ask.verb)
    if reply is None:
        return False, f"no such ask: {ask.verb}"
    if ask.number is not None and not draft.state.run.id:
        return False, _NO_RUN
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
    return True, f"ending {_attempts(len(live))}"


def _cancel_one(draft: Draft, number: int, why: str) -> Answer:
    phase = draft.phase(number)
    if phase.is_live:
        draft.stop(number, why)
        return True, f"ending attempt {number}.{phase.attempt}"
    if phase.status in (PENDING, RETRY_WAIT, AWAITING):
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
    if phase.is_done and phase.status != SKIPPED:
        way = f"reset '{number}'` has it run" if isinstance(number, Item) else f"run --only {number} --force` runs it"
        return False, f"phase {number} is {phase.status}; `orch {way} again"
    if phase.status == AWAITING:
        return False, f"phase {number} waits for approval: {ways(number)}"
    if draft.stopping:
        return False, _ENDING
    if phase.status == PENDING:
        return True, f"phase {number} is pending already" + _when(draft)
    assert phase.status in (FAILED, CANCELLED, RETRY_WAIT, SKIPPED)
    why = f"retry asked by {ask.by}"
    draft.note(ev.PhaseReset(number, why, items=missed_items(draft, number, by_hand=True)))
    _gather_again(draft, [number], why)
    return True, f"phase {number} is pending, with fresh tries" + _when(draft)


def _gather_again(draft: Draft, numbers: Iterable[int], why: str) -> None:
    """Where an item is another than it was, its phase waits for its items again, and keeps the others."""
    for owner in sorted({number.phase for number in numbers if isinstance(number, Item)}):
        if draft.phase(owner).status != PENDING:
            draft.note(ev.PhaseReset(owner, why, items=()))


def _when(draft: Draft) -> str:
    if draft.paused:
        return "; the run is paused: `orch resume`"
    return "" if draft.mode.starts and not draft.is_over else "; `orch run` runs it"


# ---- pause and resume


def _pause(draft: Draft, ask: Asked) -> Answer:
    if not draft.state.run.id:
        return False, _NO_RUN
    if draft.stopping:
        return False, _ENDING
    if draft.is_over and draft.is_all_done():
        return False, "the run is over: nothing in it could be paused"
    if draft.paused:
        return True, "the run is paused already" + _GOES_ON
    draft.note_run(ev.RunPaused(ask.by, ask.why))
    draft.paused = True
    live = len(draft.live())
    in_hand = f", {_attempts(live)} in hand {'goes' if live == 1 else 'go'} on" if live else ""
    return True, f"paused: nothing new starts{in_hand}{_GOES_ON}"


def _resume(draft: Draft, ask: Asked) -> Answer:
    if not draft.paused:
        return True, "the run is not paused" if draft.state.run.id else _NO_RUN
    draft.note_run(ev.RunResumed(ask.by))
    draft.paused = False
    return True, "resumed" if draft.mode.starts and not draft.is_over else "resumed; `orch run` goes on"


# ---- skip and reset


def _skip(draft: Draft, ask: Asked) -> Answer:
    if not draft.state.run.id:
        return False, _NO_RUN
    if ask.number is None:
        return False, "which phase? `orch skip N --why ...`"
    if not ask.why.strip():
        return False, "why? `orch skip N --why ...`: it is recorded"
    number, phase = ask.number, draft.phase(ask.number)
    if phase.status == SKIPPED:
        return True, f"phase {number} is skipped already"
    if phase.is_live or live_items(draft, number):
        return False, f"phase {number} is in progress; `orch cancel {number}` ends it, then skip it"
    if phase.is_done:
        return False, f"phase {number} is {phase.status} already"
    spec = draft.plan.specs.get(number)
    asks = phase.gate if phase.status == AWAITING else spec and spec.approval
    if asks and (refused := not_theirs(number, asks.who, ask.by)) is not None:
        return refused
    draft.note(ev.PhaseSkipped(number, ask.why, ask.by))
    _gather_again(draft, [number], f"of its items {number} counts as done now")
    return True, f"phase {number} counts as done; `orch retry {number}` takes that back"


def _reset(draft: Draft, ask: Asked) -> Answer:
    if not draft.state.run.id:
        return False, _NO_RUN
    if draft.stopping:
        return False, _ENDING
    if "with-dependents" in ask.options and not draft.plan.specs:
        return False, "who needs what is not known here, as phases/ has changed since: `orch plan` reads it, then reset"
    lost_only = "lost" in ask.options
    numbers = _meant(draft, ask)
    lost = {number for number in numbers if _is_lost(draft, number)}
    in_hand = [one for number in numbers for one in (number, *live_items(draft, number)) if draft.phase(one).is_live]
    busy = [number for number in in_hand if not (lost_only and number in lost)]
    if busy and not (lost_only and ask.number is None):
        return False, _in_hand(draft, busy)
    chosen = [number for number in numbers if (number in lost if lost_only else _has_a_past(draft, number))]
    for number in chosen:
        _forget(draft, number, ask.by)
    _gather_again(draft, chosen, f"reset by {ask.by}")
    if not chosen:
        nothing = "nothing was lost" if lost_only else f"{_phases(numbers)} pending already, and never ran"
        return True, nothing + _when(draft)
    return True, f"{_phases(chosen)} pending, as if never run" + _when(draft)


def _meant(draft: Draft, ask: Asked) -> list[int]:
    """One, one with all that need it, or all."""
    if ask.number is None:
        known = sorted(draft.plan.specs or (number for number, phase in draft.state.phases.items() if phase.planned))
        return [*known, *draft.plan.items] if "lost" in ask.options else known
    if "with-dependents" in ask.options:
        found = closure(draft.plan.dependents, [ask.number]) - {phase_of(ask.number)} - draft.plan.items.keys()
        return sorted({ask.number, *found})
    return [ask.number]


def _is_lost(draft: Draft, number: int) -> bool:
    """Its owner was lost, or nobody can say whether they are there."""
    phase = draft.phase(number)
    if phase.is_live:
        return phase.agent in draft.mode.hidden
    return phase.status in (FAILED, RETRY_WAIT) and bool(phase.errors) and phase.errors[-1]["code"] == "INTERRUPTED"


def _has_a_past(draft: Draft, number: int) -> bool:
    phase = draft.phase(number)
    return phase.status != PENDING or phase.attempts > 0 or phase.items is not None


def _forget(draft: Draft, number: int, by: str) -> None:
    phase = draft.phase(number)
    if phase.is_live:
        owner, since = _owner(draft, number), phase.started_at or ""
        message = f"{owner} cannot be reached, and {by} counts it as lost; it was in progress since {since}"
        failure = Failure("INTERRUPTED", message, log=phase.log or "")
        draft.note(ev.PhaseRecovered(number, phase.attempt, failure, 0.0, owner, since))
    draft.note(ev.PhaseReset(number, f"reset by {by}", forgotten=True))


def _in_hand(draft: Draft, busy: list[int]) -> str:
    named = ", ".join(f"{number} (attempt {number}.{draft.phase(number).attempt})" for number in busy[:5])
    more = f", and {len(busy) - 5} more" if len(busy) > 5 else ""
    hidden = [number for number in busy if draft.phase(number).agent in draft.mode.hidden]
    if hidden:
        way = f"whether {_owner(draft, hidden[0])} lives cannot be told from here: --lost counts it as lost"
    else:
        way = f"`orch cancel {busy[0]}` ends it" if len(busy) == 1 else "`orch cancel` ends them"
    return f"in progress: {named}{more}; {way}"


def _owner(draft: Draft, number: int) -> str:
    agent = draft.phase(number).agent or ""
    return owner_name(agent, draft.state.agents.get(agent))


def _settle(draft: Draft, ask: Asked) -> Answer:
    """A schedule says that it begins nothing at these instants, and why."""
    noted = 0
    for text in ask.options:
        instant = ev.Event.from_dict(json.loads(text))
        assert isinstance(instant, ev.InstantSettled)
        if not due.is_settled(draft.records(instant.schedule), instant, draft.moment.now):
            draft.note_run(instant)
            draft.settled.append(instant)
            noted += 1
    return True, "noted" if noted else "it was settled already"


def _phases(numbers: Iterable[int]) -> str:
    known = [*numbers]
    if len(known) == 1:
        return f"phase {known[0]} is"
    shown = ", ".join(map(str, known)) if len(known) <= 10 else str(len(known))
    return f"phases {shown} are" if len(known) <= 10 else f"{shown} phases are"


def _attempts(many: int) -> str:
    return f"{many} {'attempt' if many == 1 else 'attempts'}"


def _then_run(verb: Verb) -> Verb:
    """Says how it goes on where no run is active."""

    def answered(draft: Draft, ask: Asked) -> Answer:
        accepted, text = verb(draft, ask)
        live = draft.mode.starts and not draft.is_over
        return accepted, text + ("; `orch run` goes on" if accepted and not live and not draft.paused else "")

    return answered


_NO_RUN = "no run yet: `orch run` begins one"
_ENDING = "the run is being ended; ask again when it is over"
_GOES_ON = "; `orch resume` lets it go on"
_VERBS: dict[str, Verb] = {
    "cancel": _cancel, "retry": _retry, "pause": _pause, "resume": _resume, "skip": _skip, "reset": _reset,
    "approve": _then_run(approve), "reject": reject, "settle": _settle,
}  # fmt: skip
