"""Starting: who begins now, each in its place, with what it is made of written down before."""

from __future__ import annotations

from orchestrator.core import events as ev
from orchestrator.core import undoing
from orchestrator.core.cachekey import NO_FILES, Material, key_of
from orchestrator.core.draft import Draft
from orchestrator.core.item import Item
from orchestrator.core.names import AttemptId
from orchestrator.core.table import PENDING, RETRY_WAIT


def start_what_is_due(draft: Draft) -> None:
    free = draft.mode.jobs - len(draft.live())
    if free <= 0 or not draft.mode.agent:
        return
    for number in draft.startable(free):
        if draft.phase(number).restore:
            continue  # what it made is on its way back
        ruled_out = draft.plan.ruled_out(number, draft.params, draft.phase)
        if ruled_out is not None and draft.phase(number).status == PENDING:
            draft.reason = "its needs are done"
            draft.note(ev.PhaseSkipped(number, ruled_out))
        elif number not in draft.materials and draft.plan.has_files(number, None):
            draft.look(number)
        else:
            _start(draft, number, draft.materials.get(number, NO_FILES))


def _start(draft: Draft, number: int, material: Material) -> None:
    plan, attempt = draft.plan, draft.phase(number).attempt + 1
    is_retry = draft.phase(number).status == RETRY_WAIT
    key, of = _made_of(draft, number, material)
    draft.reason = ("its retry is due" if is_retry else "its needs are done") + ", and a slot is free"
    draft.note(
        ev.AttemptIntended(
            number, attempt, draft.mode.agent, key, of, plan.asks_afterwards(number),
        )
    )  # fmt: skip
    this = AttemptId(draft.state.run.id, number, attempt)
    draft.do(undoing.first_step(draft, plan.order(this, draft.state.run.due, draft.phase, draft.params)))


def _made_of(draft: Draft, number: int, material: Material) -> tuple[str, dict[str, str]]:
    """An item that may be kept by itself has got its key when its phase fanned out."""
    if isinstance(number, Item) and (keys := draft.phase(number.phase).keys):
        return keys[number.index], {}
    made_of = draft.plan.ingredients(number, draft.params, material, draft.phase)
    return key_of(number, made_of), draft.plan.compared(number, made_of)
