"""Outgoing: what a holder of the lock tells outside, where the project has somebody to tell; the joint of its parts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator import clock
from orchestrator.config import Settings
from orchestrator.core.events import Event
from orchestrator.core.state import State
from orchestrator.errors import OrchError
from orchestrator.ports import Watcher
from orchestrator.secret import for_sender
from orchestrator.services.outbox import Outbox
from orchestrator.store.reading import read_lines
from orchestrator.supervisor import SUPERVISOR
from orchestrator.watch.notify import Notify, Past

LAST_WORDS = 10.0  # seconds
WAKES_EVERY = 1800.0  # what is due only in days is left lying by a sender, and one may be killed, or give up


def linger(root: Path, settings: Settings) -> None:
    """Where all ends with us (a service, a container), the sender has a moment; elsewhere it goes on alone."""
    if settings.notify and (SUPERVISOR.is_there or os.getpid() == 1):
        Outbox(root).settle(LAST_WORDS, settings.notify)


class Outgoing:
    """Whatever goes wrong in here is said in the record, and the run does not notice."""

    def __init__(
        self, root: Path, settings: Settings, position: Callable[[], int], record: Callable[[str], None]
    ) -> None:
        self._root, self._record, self._targets = root, record, settings.notify
        self._notify: Notify | None = None
        self._wakes_at = clock.ticking() + WAKES_EVERY
        told = root / "system" / "outbox" / "told.json"
        if settings.notify:
            self._outbox = Outbox(root, record, for_sender(settings.secrets, settings.notify, os.environ))
            self._notify = Notify(told, self._outbox, settings.notify, position, record)
        elif told.exists():  # who is told again some day is told from then on
            self._guarded(told.unlink)

    @property
    def watchers(self) -> list[Watcher]:
        return [self._notify] if self._notify is not None else []

    def begin(self, state: State) -> None:
        self._guarded(lambda: Outbox(self._root).expire_strays(self._targets))
        if self._notify is not None:
            notify = self._notify
            self._guarded(lambda: notify.begin(self._past, state))
            self._guarded(self._wake)

    def tend(self) -> float:
        """From the loop as it goes round: a run may wait for a person for days."""
        if self._notify is None:
            return WAKES_EVERY
        if clock.ticking() >= self._wakes_at:
            self._wakes_at = clock.ticking() + WAKES_EVERY
            self._guarded(self._wake)
        return self._wakes_at - clock.ticking()

    def nothing_to_do(self, run: str) -> None:
        if self._notify is not None:
            notify = self._notify
            self._guarded(lambda: notify.nothing_to_do(run))

    def close(self) -> None:
        if self._notify is not None:
            self._guarded(self._notify.close)

    def _wake(self) -> None:
        if self._outbox.waits():
            self._outbox.wake()

    def _past(self, after: int) -> Iterator[Past]:
        for line in read_lines(self._root / "system", after):
            yield line.seq, line.at, [Event.from_dict(event) for event in line.events]

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (OrchError, OSError) as error:
            self._record(f"notify: {error}")
        except Exception as error:
            self._record(f"notify failed: {type(error).__name__}: {error}")
