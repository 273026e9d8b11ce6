"""Outcomes that no orchestrator has taken yet: reported again to each, and on the disk before they could be lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator import disk
from orchestrator.agent.loop import Loop, Timer
from orchestrator.agent.site import Site
from orchestrator.core import formats
from orchestrator.core.names import AttemptId
from orchestrator.core.outcome import Outcome

PATIENCE_SECONDS = 0.25
RETRY_SECONDS = 2.0


class Untaken:
    def __init__(self, site: Site, on_written: Callable[[], None]) -> None:
        self._site = site
        self._loop: Loop = site.loop
        self._on_written = on_written
        self._outcomes: dict[str, Outcome] = {}
        self._timers: dict[str, Timer] = {}
        self._written: set[str] = set()
        self._failing: set[str] = set()

    def add(self, key: str, outcome: Outcome, *, is_urgent: bool) -> None:
        """`is_urgent`: nobody is there who could take it."""
        self._outcomes[key] = outcome
        if is_urgent:
            self._write(key)
        else:
            self._timers[key] = self._loop.after(PATIENCE_SECONDS, lambda: self._write(key))

    def get(self, key: str) -> Outcome | None:
        return self._outcomes.get(key)

    def items(self) -> Iterator[tuple[str, Outcome]]:
        return iter(list(self._outcomes.items()))

    def take(self, key: str) -> None:
        self._outcomes.pop(key, None)
        if key in self._timers:
            self._timers.pop(key).cancel()
        if key in self._written:
            self._written.discard(key)
            disk.remove(self._path(key))

    def write_all(self) -> None:
        for key in self._outcomes:
            if key not in self._written and key not in self._failing:
                self._write(key)

    @property
    def is_safe(self) -> bool:
        """Everything is taken or on the disk."""
        return self._written >= self._outcomes.keys()

    @property
    def is_empty(self) -> bool:
        return not self._outcomes

    def _path(self, key: str) -> Path:
        return self._site.folder / "outcomes" / f"{AttemptId.parse(key)}.json"

    def _write(self, key: str) -> None:
        """Tried again as long as it fails: until then the agent stays, and remembers."""
        self._timers.pop(key, None)
        if key not in self._outcomes or key in self._written:
            return
        data = {"attempt": key, "outcome": self._outcomes[key].as_dict(), "version": formats.VERSION}
        path = self._path(key)
        try:
            disk.make_folder(path.parent)
            disk.replace(path, json.dumps(data).encode(), durable=True)
        except OSError as fault:
            if key not in self._failing:
                self._site.log(f"outcome of {key} cannot be written, trying again: {fault}")
            self._failing.add(key)
            self._timers[key] = self._loop.after(RETRY_SECONDS, lambda: self._write(key))
            return
        self._failing.discard(key)
        self._written.add(key)
        self._site.log(f"outcome of {key} written: nobody has taken it")
        self._on_written()
