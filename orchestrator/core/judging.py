"""Judging: whether what a phase made before may stand, once all that it needs is done; nothing is run for what stands.

What the disk says comes as an observation. A phase of which that is not known yet is looked at first; one that has
changed is reset, with the first difference as the reason, and then waits for a slot like any other.
"""

from __future__ import annotations

from orchestrator.core import events as ev
from orchestrator.core.agenda import MISSED
from orchestrator.core.cachekey import NO_FILES, Material
from orchestrator.core.draft import Draft
from orchestrator.core.plan import KEEP, RUN, SKIP
from orchestrator.core.table import PENDING, SKIPPED


def judge(draft: Draft) -> None:
    """All of which enough is known; of the others the files are looked at."""
    known = [number for number in draft.materials if number in draft.plan.specs and number in draft.agenda.scope]
    above: dict[int, int | None] = {}
    for number in sorted(known, key=draft.plan.rank.__getitem__):
        phase = draft.phase(number)
        if phase.is_done and draft.plan.is_judged(number, phase):
            _judge_done(draft, number, _open_above(draft, number, above))
        elif phase.status == PENDING and draft.plan.is_judged(number, phase) and draft.has_its_needs(number):
            _judge_pending(draft, number, draft.materials[number])
    for number in draft.unjudged():
        if draft.plan.has_files(number, draft.phase(number).made):
            draft.look(number)
        else:
            _judge_pending(draft, number, NO_FILES)


def _open_above(draft: Draft, number: int, known: dict[int, int | None]) -> int | None:
    """What it needs and is not done by now; or what something done that it needs was made from, and is to be done."""
    scope, needs = draft.agenda.scope, draft.plan.specs[number].needs
    direct = next((need for need in needs if need in scope and not draft.phase(need).is_done), None)
    return direct if direct is not None else _behind(draft, number, known)


def _behind(draft: Draft, number: int, known: dict[int, int | None]) -> int | None:
    """`known`: of each that was looked at; what lies above it was judged before it, so that stays true."""
    way = [number]
    while way:
        one, found, unseen = way[-1], None, list[int]()
        for need in draft.plan.specs[one].needs:
            phase = draft.phase(need)
            if not phase.is_done:
                found = need if need in draft.agenda.scope and phase.status not in MISSED else None
            elif phase.status != SKIPPED and need in known:
                found = known[need]
            elif phase.status != SKIPPED:
                unseen.append(need)
            if found is not None:
                break
        if found is None and unseen:
            way += unseen
        else:
            known[way.pop()] = found
    return known[number]


def _again(
    draft: Draft, number: int, why: str, *, changed: bool, keeps: bool, material: Material | None = None
) -> None:
    """To be run; of what fans out each item is judged by itself, unless what they made together is another."""
    made, relists = draft.phase(number).made, draft.plan.keeps_items(number)
    relists = relists and (material is None or draft.plan.outputs_stand(number, made, material))
    items = () if relists else None
    draft.note(ev.PhaseReset(number, why, changed=changed, keeps=keeps, items=items, relists=relists))


def _judge_done(draft: Draft, number: int, need: int | None) -> None:
    if need is not None:
        draft.reason = "what it needs is not done any more"
        _again(draft, number, f"phase {need} is run again", changed=False, keeps=True)
        return
    weighed = draft.plan.weigh(number, draft.phase(number), draft.params, draft.materials[number], draft.phase)
    draft.reason = "it was compared with what it was made of"
    if weighed.what == RUN:
        keeps = draft.phase(number).status == SKIPPED
        _again(draft, number, weighed.why, changed=not keeps, keeps=keeps, material=draft.materials[number])
    elif weighed.what == SKIP and draft.phase(number).status != SKIPPED:
        _again(draft, number, weighed.why, changed=False, keeps=True)
        draft.note(ev.PhaseSkipped(number, weighed.why))


def _judge_pending(draft: Draft, number: int, material: Material) -> None:
    weighed = draft.plan.weigh(number, draft.phase(number), draft.params, material, draft.phase)
    draft.reason = "it was compared with what it was made of"
    if weighed.what == SKIP:
        draft.note(ev.PhaseSkipped(number, weighed.why))
    elif weighed.what == KEEP:
        draft.note(ev.PhaseKept(number, weighed.why or draft.state.run.id))
    else:
        _again(draft, number, weighed.why, changed=True, keeps=False, material=material)
