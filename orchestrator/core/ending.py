"""The end of a call: whether anything is left to do, and what that says of the run."""

from __future__ import annotations

from orchestrator.core import events as ev
from orchestrator.core.draft import Draft
from orchestrator.core.table import FAILED, IN_PROGRESS, RETRY_WAIT


def end_if_over(draft: Draft) -> None:
    if draft.live() or draft.restoring() or draft.state.run.verdict is not None or not draft.state.run.id:
        return
    due_at = ""
    if draft.stopping:
        code = draft.stopping_code
        verdict = "failed" if draft.mode.fail_fast and FAILED in _statuses(draft) else "cancelled"
    else:
        could_start, is_due_later = bool(draft.agenda.to_fan_out or draft.startable(1)), draft.has_waiting()
        if (could_start and not draft.paused) or draft.concerns_fans() or draft.unjudged():
            return  # a slot or an agent will be there for it, or it is looked at again
        if (could_start or is_due_later) and not draft.mode.no_wait:
            return
        waits = could_start or is_due_later or any(number in draft.agenda.scope for number in draft.awaiting())
        verdict, code = ("waiting", 1 if FAILED in _statuses(draft) else 3) if waits else _verdict(draft)
        due_at = _first_due(draft) if waits else ""
    draft.reason = draft.stopping or "nothing is left to do" + (" now" if verdict == "waiting" else "")
    draft.note_run(ev.RunEnded(verdict, code, due_at))
    draft.ended = True


def _verdict(draft: Draft) -> tuple[str, int]:
    statuses = _statuses(draft)
    if statuses & {FAILED, RETRY_WAIT, IN_PROGRESS}:
        return "failed", 1
    if "cancelled" in statuses:
        return "cancelled", 1
    return ("failed", 1) if "pending" in statuses else ("completed", 0)


def _first_due(draft: Draft) -> str:
    waiting = [draft.phase(number) for _, number in draft.agenda.waiting if not draft.is_held(number)]
    waiting += draft.changed()
    return min((phase.retry_at or "" for phase in waiting if phase.status == RETRY_WAIT), default="")


def _statuses(draft: Draft) -> set[str]:
    return {draft.phase(number).status for number in draft.plan.specs if number in draft.agenda.scope}
