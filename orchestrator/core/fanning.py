"""What a decision does for phases that fan out: which items they have, and, when those have ended, how it went."""

from __future__ import annotations

from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.agenda import MISSED
from orchestrator.core.cachekey import NO_FILES, Material, digest, key_of
from orchestrator.core.carrying import carried, standing, told
from orchestrator.core.draft import Draft
from orchestrator.core.fanout import NotAList, ends_early, may_fail, unfit
from orchestrator.core.item import Item
from orchestrator.core.names import epoch
from orchestrator.core.outcome import Failure
from orchestrator.core.plan import stays_failed
from orchestrator.core.table import COMPLETED, FAILED, PENDING


def files_listed(draft: Draft, seen: obs.FilesListed) -> None:
    if not _waits_for_items(draft, seen.number) or not draft.mode.starts:
        return  # it was asked for twice, or nobody waits for it any more
    if seen.why_not:
        draft.note(ev.GatherFailed(seen.number, unfit(seen.why_not)))
    else:
        _note_items(draft, seen.number, NO_FILES.replace(each=dict.fromkeys(seen.files, "")))


def fan_out(draft: Draft) -> None:
    for number in sorted(draft.agenda.to_fan_out):
        foreach = draft.plan.specs[number].foreach
        if foreach is None or not _waits_for_items(draft, number):
            continue
        ruled_out = draft.plan.ruled_out(number, draft.params, draft.phase)
        if ruled_out is not None:
            draft.reason = "its needs are done"
            draft.note(ev.PhaseSkipped(number, ruled_out))
            continue
        draft.reason = f"its needs are done: it fans out over {foreach}"
        if number in draft.materials:
            _note_items(draft, number, draft.materials[number])
        elif draft.plan.has_files(number, draft.phase(number).made):
            draft.look(number)
        elif foreach.files:
            draft.do(act.ListFiles(number, foreach.files))
        else:
            _note_items(draft, number, NO_FILES)


def _note_items(draft: Draft, number: int, material: Material) -> None:
    """The items, and which of them are done already: who decides counts them as the fold will."""
    plan, phase = draft.plan, draft.phase(number)
    try:
        items, keys = plan.fan(number, draft.params, material, draft.phase)
    except NotAList as why:
        draft.note(ev.GatherFailed(number, unfit(str(why))))
        return
    before = draft.state.items_of(number) if keys else {}
    may_be_kept = any(one.status == PENDING and standing(one) for one in before.values())
    if may_be_kept and not plan.outputs_stand(number, phase.made, material):
        draft.note(ev.PhaseReset(number, "its outputs are not known to be what its items have left"))
        before = {}
    made_of = plan.ingredients(number, draft.params, material, draft.phase)
    kept = told(carried(before, phase.keys, keys)) if keys else ""
    draft.note(ev.FannedOut(number, items, key_of(number, made_of), plan.compared(number, made_of), keys, kept))


def _waits_for_items(draft: Draft, number: int) -> bool:
    """What it needs may have been reset meanwhile, also in this very decision."""
    phase = draft.phase(number)
    waits = draft.plan.fans_out(number) and phase.status == PENDING and phase.items is None
    return waits and draft.has_its_needs(number)


def gather(draft: Draft) -> list[int]:
    """Those that failed by it."""
    failed = []
    for number in sorted(draft.agenda.to_gather):
        phase = draft.phase(number)
        waits = phase.status == PENDING and phase.items is not None  # a reset in this very decision has forgotten them
        if waits and not draft.has_begun_again(number) and not _gather_one(draft, number):
            failed.append(number)
    return failed


def _gather_one(draft: Draft, number: int) -> bool:
    spec, phase, items = draft.plan.specs[number], draft.phase(number), draft.plan.items_of.get(number, [])
    missed = [item for item in items if draft.phase(item).status in MISSED]
    if len(missed) > may_fail(spec, len(items)):
        give_up(draft, number, missed)
        return False
    seen = draft.materials.pop(number, None)  # nobody is to judge by it: it says nothing of inputs
    made = seen or NO_FILES
    if spec.outputs and seen is None:
        draft.look_at_outputs(number)
        return True
    if spec.outputs and (fault := _fault_of_outputs(made)):
        draft.reason = "its items have ended"
        draft.note(ev.GatherFailed(number, Failure("VALIDATION", f"its items succeeded, but its output {fault}")))
        return False
    begun = phase.started_at or ""
    took = draft.moment.now - epoch(begun) if begun >= (draft.state.run.continued_at or "") else 0.0
    results = [(draft.phase(item).outputs or {}).get("result") for item in items]
    draft.reason = "its items have ended"
    kept = sum(draft.phase(item).status == COMPLETED and not draft.phase(item).attempts for item in items)
    draft.note(
        ev.Gathered(
            number, results, tuple(item.index for item in missed), round(max(0.0, took), 3), made.outputs,
            digest([results, made.outputs]), kept,
        )
    )  # fmt: skip
    return True


def _fault_of_outputs(found: Material) -> str:
    if found.missing:
        return f"{', '.join(found.missing[:3])} is not there"
    return "" if found.outputs else str(found.of_outputs or "cannot be read")


def give_up_early(draft: Draft) -> list[int]:
    """Those that have failed although not all of their items have ended: no other is begun in this very decision."""
    given_up = []
    for number in sorted({item.phase for item in draft.failed_items}):
        spec, items = draft.plan.specs.get(number), draft.plan.items_of.get(number, [])
        if spec is None or draft.phase(number).status != PENDING or not ends_early(spec, draft.mode.fail_fast):
            continue
        if draft.agenda.missed(number) + draft.missed_now(number) > may_fail(spec, len(items)):
            give_up(draft, number, [item for item in items if draft.phase(item).status in MISSED])
            given_up.append(number)
    return given_up


def give_up(draft: Draft, number: int, missed: list[Item]) -> None:
    """Too many have failed: what still runs of the others is ended."""
    items = draft.plan.items_of.get(number, [])
    left = sum(draft.phase(item).status == PENDING for item in items)
    errors = draft.phase(missed[0]).errors
    first = f": {errors[-1]['code']}: {errors[-1]['message']}" if errors else f" was {draft.phase(missed[0]).status}"
    rest = f"; {left} were not begun" if left else ""
    message = f"{len(missed)} of {len(items)} items failed, the first is {missed[0]}{first}{rest}"
    draft.reason = "too many of its items failed"
    draft.note(ev.GatherFailed(number, Failure("FAILED", message, log=draft.phase(missed[0]).log or "")))
    stop_items(draft, number, f"phase {number} has failed: {len(missed)} of its items did")


def live_items(draft: Draft, number: int) -> list[Item]:
    return sorted(one for one in draft.live() if isinstance(one, Item) and one.phase == number)


def stop_items(draft: Draft, number: int, why: str) -> int:
    mine = live_items(draft, number)
    for one in mine:
        draft.stop(one, why)
    return len(mine)


def missed_items(draft: Draft, number: int, *, by_hand: bool = False) -> tuple[int, ...] | None:
    """Of a phase that has fanned out those to be run again with it; not those that only a person sends again."""
    if draft.phase(number).items is None:
        return None
    every = draft.plan.items_of.get(number, [])
    items = [item for item in every if draft.phase(item).status in MISSED]
    if draft.phase(number).status == FAILED and all(draft.phase(item).is_done for item in every):
        return None  # what they have made together was the fault
    return tuple(one.index for one in items if by_hand or not stays_failed(draft.plan, one, draft.phase(one)))


def relists(draft: Draft, number: int) -> bool:
    """Whether another call finds the items of this phase anew, as something may have been mended since."""
    if not draft.plan.keeps_items(number) or not draft.phase(number).keys:
        return False  # an older orch, or another definition, has given its items no keys: what is done stays so
    return missed_items(draft, number) is not None and not live_items(draft, number)
