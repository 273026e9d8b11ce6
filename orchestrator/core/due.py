"""Which instant of a schedule a run is for, and what becomes of the others: each is settled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Any

from orchestrator.core.events import InstantSettled
from orchestrator.core.names import epoch, iso
from orchestrator.core.schedule import Schedule, all_between
from orchestrator.core.value import Value

MOST = 10_000  # instants that are told apart; of what was missed before them nobody needs to know each
RAN, CAUGHT_UP, SKIPPED = "ran", "caught_up", "skipped"
LATE = 600.0  # cron itself may begin that late: after a short sleep, or on a busy machine
MISSED = "nobody began it in time"

Records = Sequence[dict[str, Any]]


class Met(Value):
    """What is to be settled now."""

    settled: tuple[InstantSettled, ...] = ()
    chosen: InstantSettled | None = None  # the one that a run is for

    @property
    def is_nothing(self) -> bool:
        return not self.settled and self.chosen is None


def looked_at_from(since: float, records: Records, now: float) -> float:
    """What is not settled comes after this instant. One may wait while later ones are skipped: so all records count.

    A clock that was set back settles nothing twice, and waits for nothing.
    """
    ends = [_end(record) for record in records if not _is_void(record, now)]
    return max(since, min((end for end in ends if end <= now), default=now - LATE if records else since))


def meet(
    name: str, instants: Sequence[float], records: Records, now: float, catch_up: float, *, every: bool,
    busy: Callable[[float], str] = lambda instant: "", waits: float | None = None,
) -> Met:  # fmt: skip
    """`instants` are those that have come. With `every` each that may be caught up has its run, the oldest first.

    `busy` says which run was going on at an instant; `waits` is the one that has waited for its turn, however long.
    """
    fresh = _without_record(instants, records, now)
    may = [instant for instant in fresh if now - instant <= max(catch_up, LATE if instant == fresh[-1] else 0.0)]
    if waits in fresh:
        may = [waits]
    if not may:
        return Met(_skipped(name, fresh, busy))
    chosen = may[0] if every else may[-1]
    is_late = chosen != waits and (chosen != fresh[-1] or now - chosen > LATE)
    settled = _skipped(name, [instant for instant in fresh if instant < chosen], busy)
    return Met(settled, InstantSettled(name, iso(chosen), CAUGHT_UP if is_late else RAN))


def unsettled(schedule: Schedule, zone: tzinfo, records: Records, now: float) -> list[float]:
    """The instants that have come and have no record, the oldest first."""
    start = looked_at_from(epoch(schedule.since), records, now)
    return _without_record(all_between(schedule, zone, start, now, MOST), records, now)


def _without_record(instants: Sequence[float], records: Records, now: float) -> list[float]:
    known = [(epoch(record["due"]), _end(record)) for record in records if not _is_void(record, now)]
    return [instant for instant in instants if not any(first <= instant <= last for first, last in known)]


def skipped(name: str, instants: Sequence[float], why: str, *, missed: bool = False) -> InstantSettled:
    """Several in a row are one record."""
    last = iso(instants[-1]) if len(instants) > 1 else ""
    return InstantSettled(name, iso(instants[0]), SKIPPED, why, missed=missed, last=last, count=len(instants))


def _skipped(name: str, instants: Sequence[float], busy: Callable[[float], str]) -> tuple[InstantSettled, ...]:
    found = list[InstantSettled]()
    group, of = list[float](), ""
    for instant in instants:
        run = busy(instant)
        if group and run != of:
            found.append(_of_group(name, group, of))
            group = []
        group.append(instant)
        of = run
    return (*found, _of_group(name, group, of)) if group else ()


def _of_group(name: str, group: Sequence[float], run: str) -> InstantSettled:
    why = f"run {run} was still going on" if run else MISSED
    return skipped(name, group, why, missed=not run)


def is_settled(records: Records, event: InstantSettled, now: float) -> bool:
    """It, or one of those that it stands for, has a record already."""
    first, last = epoch(event.due), epoch(event.last or event.due)
    known = (record for record in records if not _is_void(record, now))
    return any(epoch(record["due"]) <= last and first <= _end(record) for record in known)


def _end(record: dict[str, Any]) -> float:
    return epoch(record["last"] or record["due"])


def _is_void(record: dict[str, Any], now: float) -> bool:
    """Said to be missed at a time that has not come: the clock had been wrong, and was set back by a good deal."""
    return bool(record["missed"]) and epoch(record["at"]) > now + LATE
