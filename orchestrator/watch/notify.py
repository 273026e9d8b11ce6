"""Notify: from what was decided to what somebody is to hear. First into the outbox, then the cursor is moved.

Killed in between, the next holder of the lock reads the journal from the cursor on, and tells it again under the same
ids. Who sends it is no concern of the run: that is another process.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator import clock, disk
from orchestrator.core.agenda import Agenda
from orchestrator.core.draft import Decision
from orchestrator.core.events import Event
from orchestrator.core.formats import MALFORMED
from orchestrator.core.names import Moment, epoch, iso
from orchestrator.core.observations import Observation
from orchestrator.core.outward import Target
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.core.telling import PINGS, Message, Teller, nothing_to_do
from orchestrator.ports import Outbox

STRIDE = 256  # lines of the journal that may have to be read again
AGAIN = 5.0  # seconds between two tries to put down what could not be
STALE = 7 * 86400.0  # seconds after which nobody needs to hear of it
MOST_HELD = 1000  # in memory, while the disk takes nothing

Past = tuple[int, str, list[Event]]  # a line of the journal: its number, when, what


class Notify:
    def __init__(
        self, told: Path, outbox: Outbox, targets: Mapping[str, Target], position: Callable[[], int],
        complain: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`position`: the number of the last line of the journal."""
        self._path, self._outbox, self._targets = told, outbox, targets
        self._position, self._complain = position, complain
        self._teller, self._seq = _read(told, complain)
        self._written, self._saved = self._seq or 0, dict[str, Any]()
        self._held: list[tuple[str, Message]] = []
        self._failed_at: float | None = None

    @property
    def cursor(self) -> int | None:
        """Up to where all is told; None: nothing ever was."""
        return self._seq

    def begin(self, lines: Callable[[int], Iterable[Past]], state: State) -> None:
        """What was decided and not told, because whoever was to tell it was killed; without a cursor it begins now."""
        last = self._position()
        if self._seq is None or self._seq > last:
            if self._seq is not None:
                self._complain(
                    f"notify: told up to line {self._seq}, but the journal ends at {last}: it goes on from now"
                )
            self._seq, self._teller.run = last, state.run.id
            self._forget_done(state)
            self._save(force=True)
            return
        if self._seq == last:
            return
        for seq, at, events in lines(self._seq):
            if seq > self._seq + 1:
                gone = f"lines {self._seq + 1} to {seq - 1} of the journal are gone"
                self._complain(f"notify: {gone}: what happened then is told to nobody")
                self._forget_done(state)
            self._hear(seq, at, events, state)
        self._save(force=True)

    def tell(
        self, batch: Sequence[Observation], decision: Decision, state: State, agenda: Agenda, plan: Plan, moment: Moment
    ) -> None:
        if decision.events:
            self._hear(self._position(), iso(clock.now()), decision.events, state)
        elif self._held:
            self._put([])

    def nothing_to_do(self, run: str) -> None:
        """A call that begins nothing writes no line, and yet a dead man's switch waits for it."""
        self._post([nothing_to_do(run, clock.now())])

    def close(self) -> None:
        self._put([])
        self._save(force=True)

    def _hear(self, seq: int, at: str, events: Iterable[Event], state: State) -> None:
        told = self._teller.hear(seq, at, events, state.name_of)
        self._seq = seq
        for ident in told.withdrawn:
            self._outbox.withdraw(ident)
        self._post([one for one in told.messages if clock.now() - epoch(one.at) < STALE])

    def _post(self, messages: Iterable[Message]) -> None:
        """Each to those who want to hear of it."""
        new = [(name, one) for one in messages for name, target in self._targets.items() if wants(target, one)]
        had = bool(new or self._held)
        self._put(new)
        self._save(force=had)
        if new and not self._held:
            self._outbox.wake()

    def _put(self, new: list[tuple[str, Message]]) -> None:
        """In order; what the disk does not take is held, and the cursor stays before it."""
        self._held += new
        if self._failed_at is not None and clock.ticking() - self._failed_at < AGAIN:
            return
        try:
            while self._held:
                self._outbox.put(*self._held[0])
                self._held.pop(0)
        except OSError as error:
            if self._failed_at is None:
                self._complain(f"notify: a message could not be put down: {error.strerror}; the run goes on")
            self._failed_at = clock.ticking()
            self._held = self._held[-MOST_HELD:]
            return
        if self._failed_at is not None:
            self._failed_at = None
            self._outbox.wake()

    def _save(self, *, force: bool) -> None:
        seq = self._seq or 0
        if self._held or not (force or seq - self._written >= STRIDE):
            return
        document = {"version": 1, "seq": seq, **self._teller.as_dict()}
        if document == self._saved:
            return
        try:
            disk.make_folder(self._path.parent)
            disk.replace(self._path, json.dumps(document).encode() + b"\n", durable=True)
            self._written, self._saved = seq, document
        except OSError as error:
            self._complain(f"notify: {self._path.name} could not be written: {error.strerror}; the run goes on")

    def _forget_done(self, state: State) -> None:
        self._teller.forget([number for number in self._teller.failing if state.phase(number).is_done])


def wants(target: Target, message: Message) -> bool:
    return message.event in PINGS if target.ping else message.event in target.events


def _read(path: Path, complain: Callable[[str], None]) -> tuple[Teller, int | None]:
    try:
        document: dict[str, Any] = json.loads(disk.read(path))
        return Teller.from_dict(document), int(document["seq"])
    except FileNotFoundError:
        return Teller(), None
    except (OSError, *MALFORMED) as error:
        complain(f"notify: {path.name} cannot be read ({type(error).__name__}): it begins now")
        return Teller(), None
