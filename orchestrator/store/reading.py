"""Reading the state without a lock: snapshot, then the later lines; what one copy proves, the other need not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestrator import disk
from orchestrator.core import formats
from orchestrator.core.events import Event
from orchestrator.core.formats import MALFORMED
from orchestrator.core.names import epoch
from orchestrator.core.state import State
from orchestrator.errors import StateDamaged
from orchestrator.store import journal, snapshot
from orchestrator.store.lines import BadLine, Line
from orchestrator.store.shape import check_event
from orchestrator.store.snapshot import Position

T = TypeVar("T")

TRIES = 5
CHECKPOINTS, ROLLBACK = "backup/checkpoints", "rollback.json"  # the latter of one that is under way
REMEDY = "nothing was touched; `orch fsck` says what is damaged, `orch fsck --repair` goes back to what can be proven"


class Loaded:
    """The state as it is on disk, up to where, and what had to be explained about it."""

    def __init__(self, state: State, position: Position) -> None:
        self.state, self.position = state, position
        self.torn = False
        self.notices: list[str] = []
        self.snapshot_is_exact = True
        self.mend = False  # an older part of the journal is damaged, and proven by the snapshot


def read_state(system: Path, *, verify: bool = False) -> Loaded:
    """`verify`: also check the lines that the snapshot covers already (a writer does, before it adds to them)."""
    return _steady(system, lambda: _read(system, verify))


def is_being_rolled_back(system: Path) -> bool:
    """Or was, and was cut off."""
    return (system / CHECKPOINTS / ROLLBACK).exists()


def read_lines(system: Path, after: int = 0) -> list[Line]:
    """Every line behind `after` that the journal still has, oldest first; StateDamaged where one cannot be trusted."""
    return _steady(system, lambda: _lines(system, after))


def _steady(system: Path, look: Callable[[], T]) -> T:
    """Compacted under our eyes, what we read may not belong together: then we look again."""
    for _ in range(TRIES):
        before = _names(system)
        try:
            return look()
        except (FileNotFoundError, StateDamaged):
            if _names(system) == before:
                raise
    return look()


def _names(system: Path) -> tuple[object, ...]:
    """What changes with each compaction, and not with each line."""
    try:
        snapshot_file: object = os.stat(system / "state.json").st_ino
    except (FileNotFoundError, NotADirectoryError):
        snapshot_file = None
    return (snapshot_file, *journal.segments(system / "journal"))


def _lines(system: Path, after: int) -> list[Line]:
    folder = system / "journal"
    there = journal.segments(folder)
    position = _oldest_base(folder, there).position if there else Position()
    lines: list[Line] = []
    for segment in there:
        if segment.first < position.segment:
            continue
        found = journal.read(segment.path, position.chain, position.seq, after=after)
        for line in found.lines:
            events_of(segment.path, line)
        lines += found.lines
        if found.damage is not None:
            raise StateDamaged(str(found.damage), REMEDY)
        position = Position(found.last, found.chain, segment.first, found.end)
    return lines


def _read(system: Path, verify: bool) -> Loaded:
    folder = system / "journal"
    there = journal.segments(folder)
    found = snapshot.load(system / "state.json")
    if found is None or isinstance(found, BadLine):
        return _from_journal(system, there, found)
    loaded = Loaded(*found)
    if verify:
        _verify_covered(folder, there, loaded)
    _fold_later(folder, there, loaded)
    return loaded


def _from_journal(system: Path, there: list[journal.Segment], why: BadLine | None) -> Loaded:
    """state.json is missing or damaged: the journal proves the state from its oldest base on."""
    if not there:
        if why is not None:
            raise StateDamaged(f"{system / 'state.json'}: {why}, and there is no journal to prove it", REMEDY)
        return Loaded(State(), Position())
    loaded = _oldest_base(system / "journal", there)
    _fold_later(system / "journal", there, loaded)
    loaded.snapshot_is_exact = not loaded.position.seq
    if why is not None and not loaded.position.seq:
        raise StateDamaged(f"{system / 'state.json'}: {why}, and the journal is empty", REMEDY)
    complaint = "is missing" if why is None else f"is damaged ({why})"
    if loaded.position.seq:  # before the first line there is nothing to miss
        loaded.notices.append(f"{system / 'state.json'} {complaint}; the journal proves the state")
    return loaded


def _oldest_base(folder: Path, there: list[journal.Segment]) -> Loaded:
    complaints = []
    for segment in there:
        if segment.first == 1:
            return Loaded(State(), Position())
        base = snapshot.load(journal.base_of(folder, segment.first))
        if base is not None and not isinstance(base, BadLine):
            return Loaded(*base)
        complaints.append(f"{journal.base_of(folder, segment.first).name}: {base or 'missing'}")
    raise StateDamaged(f"{folder}: no snapshot to begin from ({'; '.join(complaints)})", REMEDY)


def _fold_later(folder: Path, there: list[journal.Segment], loaded: Loaded) -> None:
    position = loaded.position
    segment = next((one for one in there if one.first == position.segment), None)
    if segment is None and position.seq:
        raise StateDamaged(f"{folder}: {journal.path_of(folder, position.segment).name} is missing", REMEDY)
    for one in there:
        if one.first < position.segment:
            continue
        offset = loaded.position.offset if one.first == position.segment else 0
        _fold_segment(one, offset, loaded, is_last=one is there[-1])


def _fold_segment(segment: journal.Segment, offset: int, loaded: Loaded, *, is_last: bool) -> None:
    position = loaded.position
    if segment.path.stat().st_size < offset:
        raise StateDamaged(
            f"{segment.path}: ends at byte {segment.path.stat().st_size}, but state.json knows it up to byte {offset}: "
            "the snapshot is ahead of the journal",
            REMEDY,
        )
    found = journal.read(segment.path, position.chain, position.seq, offset=offset)
    if found.damage is not None or (found.torn and not is_last):
        raise StateDamaged(f"{found.damage or f'{segment.path}: cut off, but not the last'}", REMEDY)
    for line in found.lines:
        _fold_line(segment, line, loaded.state)
        loaded.snapshot_is_exact = False
    loaded.position = Position(found.last, found.chain, segment.first, found.end)
    loaded.torn = found.torn


def events_of(path: Path, line: Line) -> list[Event]:
    """StateDamaged where a line that is whole says what this orch does not know."""
    try:
        for event in line.events:
            check_event(event)
        epoch(line.at)
        return [Event.from_dict(event) for event in line.events]
    except MALFORMED as error:
        raise not_followed(path, line, error) from error


def not_followed(path: Path, line: Line, error: Exception) -> StateDamaged:
    what = error.args[0] if error.args else type(error).__name__
    return StateDamaged(f"{path}: line {line.seq} says what this orch cannot follow ({what})", REMEDY)


def _fold_line(segment: journal.Segment, line: Line, state: State) -> None:
    events, at = events_of(segment.path, line), epoch(line.at)
    try:
        for event in events:
            state.apply(event, at)
    except MALFORMED as error:
        raise not_followed(segment.path, line, error) from error


def verify(system: Path, loaded: Loaded) -> None:
    """Also the lines that were not read, as the snapshot covers them; what is wrong with them is noted in `loaded`."""
    _verify_covered(system / "journal", journal.segments(system / "journal"), loaded)


def _verify_covered(folder: Path, there: list[journal.Segment], loaded: Loaded) -> None:
    """Lines that the snapshot has folded in must be there unharmed, or be replaced by it."""
    covered = [one for one in there if one.first <= loaded.position.segment]
    if not covered or covered[-1].first != loaded.position.segment:
        return  # _fold_later says what is missing
    try:
        start = _oldest_base(folder, covered).position
    except StateDamaged as error:
        loaded.notices.append(f"{error.message}; state.json proves the state")
        loaded.mend = True
        return
    for one in covered:
        if one.first < start.segment or one.path.stat().st_size == 0:
            continue
        found = journal.read(one.path, start.chain, start.seq, after=loaded.position.seq)
        if (found.damage is not None or found.torn) and found.last < loaded.position.seq:
            what = found.damage or f"{one.path.name}: cut off after line {found.last}"
            loaded.notices.append(f"the journal is damaged ({what}); state.json proves the state")
            loaded.mend = True
            return
        start = Position(found.last, found.chain, one.first, found.end)


def oldest_format(system: Path) -> int:
    """Of the files that the next writer would add to; this orch's own where there are none."""
    last = [one.path for one in journal.segments(system / "journal")][-1:]
    told = [_FORMAT.match(_head(path)) for path in (system / "state.json", *last)]
    return min((int(found[1]) for found in told if found), default=formats.VERSION)


_FORMAT = re.compile(rb'{"v(?:ersion)?":(\d{1,9}),')


def _head(path: Path) -> bytes:
    try:
        return disk.read(path, most=40)
    except OSError:
        return b""
