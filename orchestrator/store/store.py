"""The store of whoever holds the lock: one durable line per decision, then the fold, then state.json in its time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from orchestrator import clock, disk
from orchestrator.core import formats
from orchestrator.core.draft import Decision
from orchestrator.core.events import Event, PhaseEvent
from orchestrator.core.names import iso
from orchestrator.core.phase import PhaseState
from orchestrator.core.state import State
from orchestrator.disk import unwritable
from orchestrator.errors import OrchError, StateUnwritable
from orchestrator.store import journal, lines
from orchestrator.store.keeping import keep
from orchestrator.store.reading import Loaded, oldest_format, read_state
from orchestrator.store.snapshot import Encoder, Position

SMALL = 32 * 1024  # a snapshot up to this size is written after every decision
AT_MOST_BEHIND = 1.0  # seconds, for a larger one
LARGE = 16 * 1024 * 1024  # beyond that (20,000 phases) so many bytes a second: what a transition costs must not grow
SEGMENT = 4 * 1024 * 1024  # a segment beyond this, and beyond twice the snapshot, is closed
NOTHING_DUE = 3600.0

Move = tuple[int, PhaseState, PhaseState]


class JournalStore:
    def __init__(self, system: Path, still_mine: Callable[[], None], segment_bytes: int = SEGMENT) -> None:
        """`still_mine` raises if the lock was deleted or replaced under us; asked before every commit."""
        self._system, self._folder, self._still_mine = system, system / "journal", still_mine
        self._segment_bytes = segment_bytes
        with _writing(system):
            disk.make_folder(self._folder)
        loaded = read_state(system, verify=True)
        older = oldest_format(system)
        self.notices = loaded.notices
        self._state, self._position = loaded.state, loaded.position
        self._encoder = Encoder()
        # Before the first line there is nothing to show, and nothing would prove a snapshot that a power cut has torn.
        self._dirty = not loaded.snapshot_is_exact and loaded.position.seq > 0
        self._written_at, self._size = 0.0, 0
        self._failed: StateUnwritable | None = None
        with _writing(system):
            self._open(loaded)
            if older < formats.VERSION:
                self._upgrade(older)

    @property
    def state(self) -> State:
        return self._state

    @property
    def position(self) -> Position:
        return self._position

    def commit(self, decision: Decision, now: float) -> list[Move]:
        if self._failed:
            raise self._failed
        self._still_mine()
        document = {
            "v": formats.VERSION, "seq": self._position.seq + 1, "at": iso(now),
            "events": [event.as_dict() for event in decision.events], "because": decision.reasons,
        }  # fmt: skip
        data, chain = lines.encode(document, self._position.chain)
        self._append(data)
        position = self._position
        self._position = Position(position.seq + 1, chain, position.segment, position.offset + len(data))
        self._dirty = True
        return self._fold(decision.events, now)

    def settle(self, now: float) -> float:
        """Write state.json if it is due; returns the seconds until it is."""
        if not self._dirty:
            return NOTHING_DUE
        due = self._written_at + (0 if self._size <= SMALL else AT_MOST_BEHIND * max(1.0, self._size / LARGE))
        if self._written_at <= now < due:
            return due - now
        self._write_snapshot(durable=False)
        self._written_at = now
        if self._position.offset > max(self._segment_bytes, 2 * self._size):
            self._compact()
        return NOTHING_DUE

    def give_up(self, error: OSError) -> None:
        """Somebody else could not write to system/: from now on nothing is written, or synced again."""
        self._failed = self._failed or unwritable(error, self._system)

    def close(self) -> None:
        """At rest state.json is exact, and on the disk; unless a write has failed."""
        try:
            if self._failed is None and self._dirty:
                self._write_snapshot(durable=True)
        finally:
            self._file.close()

    def _fold(self, events: tuple[Event, ...], now: float) -> list[Move]:
        moves: list[Move] = []
        for event in events:
            if isinstance(event, PhaseEvent):
                before = self._state.phase(event.number)
                self._state.apply(event, now)
                moves.append((event.number, before, self._state.phase(event.number)))
                self._encoder.moved(event.number)
                if event.kind in ("PhaseReset", "FannedOut") and event.number in self._state.fans:
                    self._encoder.forget()  # its items move with it
            else:
                self._state.apply(event, now)
                if event.kind in ("RunStarted", "PlanAdopted", "RolledBack"):
                    self._encoder.forget()
        return moves

    def _append(self, data: bytes) -> None:
        try:
            self._file.append(data, durable=True)
        except OSError as error:
            # What the kernel could not write it may have dropped: a second sync that succeeds would prove nothing.
            self._failed = unwritable(error, self._file.path)
            raise self._failed from error

    def _write_snapshot(self, *, durable: bool) -> None:
        path = self._system / "state.json"
        with _writing(path, self):
            disk.replace(path, self._encoder.pieces(self._state, self._position), durable=durable)
        self._size, self._dirty = self._encoder.size, False

    def _open(self, loaded: Loaded) -> None:
        path = journal.path_of(self._folder, self._position.segment)
        if loaded.torn:  # a decision not taken: nobody acted on it
            os.truncate(path, self._position.offset)
        self._file = disk.Appender(path)
        # A holder that was killed may have written a line, or made a folder, and not synced it: that comes first.
        disk.confirm(path)
        for folder in (self._system, self._system.parent):
            disk.sync_folder(folder)
        for folder in (self._system, self._folder, self._system / "logs"):
            disk.remove_drafts(folder)
        if loaded.mend:
            self._compact(damaged=True)

    def _upgrade(self, older: int) -> None:
        """What was written by an older orch is kept as it is, and gone on from in a new segment of today's format."""
        kept = keep(self._system, f"format_{older}", ("state.json", "journal"), clock.now())
        self._compact()
        what = f"{self._system} was of format {older} and is of format {formats.VERSION} now"
        self.notices.append(f"{what}; a copy of it as it was is in {kept}")

    def _compact(self, *, damaged: bool = False) -> None:
        """A new segment, beginning from a snapshot; the segment before and its base are kept, older ones go."""
        kept, first = self._position.segment, self._position.seq + 1
        # One with our number is what a holder left that was killed here: it becomes ours.
        old = [one for one in journal.segments(self._folder) if one.first < first]
        with _writing(self._system, self):
            self._position = Position(self._position.seq, self._position.chain, first, 0)
            base = journal.base_of(self._folder, first)
            disk.replace(base, self._encoder.pieces(self._state, self._position), durable=True)
            fresh = disk.Appender(journal.path_of(self._folder, first))
            self._file.close()
            self._file = fresh
            self._write_snapshot(durable=True)
            for one in old:
                if damaged:
                    one.path.rename(one.path.with_suffix(".damaged"))
                elif one.first < kept:
                    disk.remove(one.path)
                    disk.remove(journal.base_of(self._folder, one.first))


class _writing:
    """Turns the system's refusal into ours: what could not be written, why, and that nothing is tried again."""

    def __init__(self, path: Path, store: JournalStore | None = None) -> None:
        self._path, self._store = path, store

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, OrchError):
            failed = unwritable(error, self._path)
            if self._store is not None:
                self._store._failed = failed
            raise failed from error
