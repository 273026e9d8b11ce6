"""What state.json and the journal prove: every place to begin from, how far each leads, and where it breaks off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from orchestrator import disk
from orchestrator.core.events import Event
from orchestrator.core.formats import MALFORMED
from orchestrator.core.names import epoch
from orchestrator.core.phase import phase_document
from orchestrator.core.state import State, run_document
from orchestrator.errors import StateDamaged
from orchestrator.store import journal, snapshot
from orchestrator.store.journal import Damage, Segment, is_whole
from orchestrator.store.lines import BadLine, Line, decode, told_chain
from orchestrator.store.reading import events_of
from orchestrator.store.snapshot import Position


class Start(NamedTuple):
    """A place to begin from: a snapshot, or the empty state before the first line."""

    path: Path | None
    state: State
    position: Position
    said: str = ""  # the state as it was there: following the lines changes it


class Reach(NamedTuple):
    """How far a start leads. `state` is what it proves; `damage` is why it leads no further."""

    start: Start
    state: State
    position: Position
    damage: Damage | None = None
    torn: bool = False
    passed: dict[int, tuple[int, int, str]] = {}  # noqa: RUF012  a value: segment -> what was proven where it begins
    is_refuted: bool = False  # the damage is a line that is whole, and says what cannot be

    @property
    def seq(self) -> int:
        return self.position.seq


class Later(NamedTuple):
    """One line behind the damage. `events` is None where it cannot be proven to be what was written."""

    path: Path
    number: int
    byte: int
    raw: bytes
    line: Line | None
    events: list[Event] | None


class Evidence:
    """All that is there, and what it proves."""

    def __init__(self, system: Path) -> None:
        self.folder = system / "journal"
        self.segments = journal.segments(self.folder)
        self.bad: dict[Path, str] = {}  # snapshots that cannot be trusted, or are not there: why
        self.state_file = system / "state.json"
        bases = [start for one in self.segments if (start := self._base(one)) is not None]
        whole = self._snapshot(self.state_file)
        self.from_state_file = self._walk(whole) if whole is not None else None
        self.from_journal = [self._judged(self._walk(start)) for start in bases]

    @property
    def best(self) -> Reach | None:
        """The one that leads furthest; of two that lead as far, that of the journal, the older the better."""
        found = [*self.from_journal, *([self.from_state_file] if self.from_state_file else [])]
        return max(found, key=lambda reach: (reach.seq, reach.damage is None), default=None)

    def _base(self, segment: Segment) -> Start | None:
        if segment.first == 1:
            return Start(None, State(), Position())
        return self._snapshot(journal.base_of(self.folder, segment.first))

    def _snapshot(self, path: Path) -> Start | None:
        found = snapshot.load(path)
        if found is None or isinstance(found, BadLine):
            self.bad[path] = str(found or "it is missing")
            return None
        return Start(path, *found, written(found[0]))

    def _walk(self, start: Start) -> Reach:
        reach, bad_line = self._follow(start, None)
        if bad_line is None:
            return reach
        again = Start(None, State(), Position()) if start.path is None else self._snapshot(start.path)
        assert again is not None, "it was read a moment ago"
        until, _ = self._follow(again, bad_line.seq)  # the state was half way through that line
        return until._replace(damage=reach.damage, is_refuted=True)

    def _judged(self, reach: Reach) -> Reach:
        """What looks like a decision not taken was one if state.json has it."""
        if not reach.torn or self.from_state_file is None or self.from_state_file.start.position.seq <= reach.seq:
            return reach
        path, line = journal.path_of(self.folder, reach.position.segment), reach.seq - reach.position.segment + 2
        why = "it is cut off here, and state.json knows more"
        return reach._replace(damage=Damage(path, line, reach.position.offset, why), torn=False)

    def _follow(self, start: Start, before: int | None) -> tuple[Reach, Line | None]:
        """Up to the first damage, or to line `before`; and the line that says what cannot be, if that is why."""
        state, position, passed = start.state, start.position, dict[int, tuple[int, int, str]]()
        there = [one for one in self.segments if one.first >= position.segment]
        torn, damage = False, self._unreachable(start, there)
        for one in there if damage is None else []:
            if one.first > position.segment:
                passed[one.first] = (position.seq, position.chain, written(state))
            offset = position.offset if one.first == position.segment else 0
            found = journal.read(one.path, position.chain, position.seq, offset=offset)
            for index, line in enumerate(found.lines):
                if line.seq == before:
                    if position.segment == one.first:
                        position = position._replace(offset=_place_of(one.path, line.seq, offset, index)[1])
                    return Reach(start, state, position, passed=passed), None
                if (why := _apply(state, one.path, line)) is not None:
                    place = _place_of(one.path, line.seq, offset, index)
                    return Reach(start, state, position, Damage(one.path, *place, why), False, passed), line
                position = Position(line.seq, line.chain, one.first, 0)
            position, torn = Position(found.last, found.chain, one.first, found.end), found.torn
            damage = found.damage
            if damage is None and torn and one is not there[-1]:
                damage = Damage(one.path, found.last - one.first + 2, found.end, "it is cut off, and others follow it")
            if damage is not None:
                break
        return Reach(start, state, position, damage, torn and damage is None, passed), None

    def _unreachable(self, start: Start, there: list[Segment]) -> Damage | None:
        path = journal.path_of(self.folder, start.position.segment)
        if not there or there[0].first != start.position.segment:
            return Damage(path, 0, 0, "it is missing") if start.position.seq or there else None
        size = path.stat().st_size if path.is_file() else 0
        if path.is_file() and size < start.position.offset:
            name = start.path.name if start.path else ""
            return Damage(
                path, 0, size, f"it ends at byte {size}, but {name} knows it up to byte {start.position.offset}"
            )
        return None

    def later(self, reach: Reach) -> Iterator[Later]:
        """The lines from where `reach` breaks off; whole ones can be told by the sum of the line before."""
        before: int | None = reach.position.chain
        for one in self.segments:
            if one.first < reach.position.segment:
                continue
            is_first = one.first == reach.position.segment
            byte, number = (reach.position.offset, reach.seq - one.first + 2) if is_first else (0, 1)
            try:
                data = disk.read(one.path, byte)
            except OSError:
                before = None
                continue
            for raw in _pieces(data, before):
                yield _later(one.path, number, byte, raw, before, reach.seq)
                before = told_chain(raw)
                number, byte = number + 1, byte + len(raw) + 1


def _pieces(data: bytes, before: int | None) -> Iterator[bytes]:
    """Lines; also two whose newline is damaged. What is torn off at the end is a decision not taken, and left out."""
    *lines, tail = data.split(b"\n")
    for raw in [*lines, *([tail] if _SEAL.search(tail) else [])]:
        rest = raw
        while (found := _SEAL.search(rest)) is not None and found.end() < len(rest):
            if before is None or not is_whole(rest[: found.end()], before):
                break
            yield rest[: found.end()]
            before, rest = told_chain(rest[: found.end()]), rest[found.end() + 1 :]
        if rest or not raw:
            yield rest
        before = told_chain(rest) if rest else before


_SEAL = re.compile(rb',"sum":"[0-9a-f]{8}"}')


def written(state: State) -> str:
    """A state as text, to be compared: as it stands in a snapshot."""
    phases = {number: phase_document(phase) for number, phase in sorted(state.phases.items())}
    items = {str(number): phase.as_dict() for number, phase in state.items.items()}
    return json.dumps({**run_document(state), "phases": phases, "items": items}, sort_keys=True, default=str)


def _apply(state: State, path: Path, line: Line) -> str | None:
    """Why the line cannot be true. StateDamaged where it is of a kind that this orch does not know."""
    events, at = events_of(path, line), epoch(line.at)
    try:
        for event in events:
            state.apply(event, at)
    except MALFORMED as error:
        return f"it says what cannot be: {error.args[0] if error.args else type(error).__name__}"
    return None


def _place_of(path: Path, seq: int, offset: int, index: int) -> tuple[int, int]:
    """Line and byte of a line that is whole, as `index` others are between it and `offset`."""
    before = disk.read(path, offset).split(b"\n")[:index]
    return seq - int(path.stem) + 1, offset + sum(len(raw) + 1 for raw in before)


def _later(path: Path, number: int, byte: int, raw: bytes, before: int | None, seq: int) -> Later:
    line: Line | None = None
    events: list[Event] | None = None
    try:
        line = decode(raw, before, str(path)) if before is not None else None
        events = events_of(path, line) if line is not None and line.seq > seq else None
    except (BadLine, StateDamaged, *MALFORMED):
        events = None
    return Later(path, number, byte, raw, line if events is not None else None, events)
