"""What a decision does for phases that fan out: which items they have, and, when those have ended, how it went."""

from __future__ import annotations

from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.agenda import MISSED
from orchestrator.core.draft import Draft
from orchestrator.core.fanout import NotAList, ends_early, items_in, may_fail, unfit
from orchestrator.core.item import Item
from orchestrator.core.names import epoch
from orchestrator.core.outcome import Failure
from orchestrator.core.plan import stays_failed
from orchestrator.core.table import PENDING


def files_listed(draft: Draft, seen: obs.FilesListed) -> None:
    if not _waits_for_items(draft, seen.number) or not draft.mode.starts:
        return  # it was asked for twice, or nobody waits for it any more
    if seen.why_not:
        draft.note(ev.GatherFailed(seen.number, unfit(seen.why_not)))
    else:
        draft.note(ev.FannedOut(seen.number, seen.files))


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
        if foreach.files:
            draft.do(act.ListFiles(number, foreach.files))
            continue
        try:
            draft.note(ev.FannedOut(number, items_in(foreach, draft.phase)))
        except NotAList as why:
            draft.note(ev.GatherFailed(number, unfit(str(why))))


def _waits_for_items(draft: Draft, number: int) -> bool:
    """What it needs may have been reset meanwhile, also in this very decision."""
    phase = draft.phase(number)
    waits = draft.plan.fans_out(number) and phase.status == PENDING and phase.items is None
    return waits and all(draft.phase(need).is_done for need in draft.plan.needs[number])


def gather(draft: Draft) -> list[int]:
    """Those that failed by it."""
    failed = []
    for number in sorted(draft.agenda.to_gather):
        if draft.phase(number).status == PENDING and not _gather_one(draft, number):
            failed.append(number)
    return failed


def _gather_one(draft: Draft, number: int) -> bool:
    spec, phase, items = draft.plan.specs[number], draft.phase(number), draft.plan.items_of.get(number, [])
    missed = [item for item in items if draft.phase(item).status in MISSED]
    if len(missed) > may_fail(spec, len(items)):
        give_up(draft, number, missed)
        return False
    begun = phase.started_at or ""
    took = draft.moment.now - epoch(begun) if begun >= (draft.state.run.continued_at or "") else 0.0
    results = [(draft.phase(item).outputs or {}).get("result") for item in items]
    draft.reason = "its items have ended"
    draft.note(ev.Gathered(number, results, tuple(item.index for item in missed), round(max(0.0, took), 3)))
    return True


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
    items = [item for item in draft.plan.items_of.get(number, []) if draft.phase(item).status in MISSED]
    return tuple(one.index for one in items if by_hand or not stays_failed(draft.plan, one, draft.phase(one)))
