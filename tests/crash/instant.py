"""Hands whose work takes no time: a bridge with the face of the local one, its attempts played by a script.

`script.json` in the project says for each phase how its attempts go, one after the other; after the last, all go well.
The folder `ran` gets an entry for each attempt, before anybody is told of it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import app, clock, disk, holding
from orchestrator.bridge import survey
from orchestrator.core import actions as act
from orchestrator.core import formats
from orchestrator.core import observations as obs
from orchestrator.core.names import AttemptId, Identity
from orchestrator.core.outcome import EXITED, STOPPED, Outcome
from orchestrator.core.reconcile import Finding
from orchestrator.ports import Inbox, Sources
from orchestrator.store.store import JournalStore

OK, FAIL, HANG, LEFT, DIE = "ok", "fail", "hang", "left", "die"


class Ran(NamedTuple):
    attempt: AttemptId
    how: str


def ran(root: Path) -> list[Ran]:
    """Every attempt that any orchestrator of this project has started, in order."""
    names = sorted((root / "ran").iterdir(), key=lambda path: int(path.name.split(",")[0]))
    return [Ran(AttemptId.parse(f"{run}/{key}"), how) for _, run, key, how in (one.name.split(",") for one in names)]


class InstantBridge:
    def __init__(
        self, root: Path, inbox: Inbox, sources: Sources, owner: Identity, settings: dict[str, Any], silence: float,
        log: Callable[[str], None], environ: dict[str, str] | None = None, told: dict[str, Any] | None = None, _ahead: None = None,
    ) -> None:  # fmt: skip
        self._root, self._inbox, self._owner, self._log = root, inbox, owner, log
        self._agents = root / "system" / "agents"
        self.agent = ""
        self._script: dict[str, list[str]] = json.loads((root / "script.json").read_text())
        self._seen = Counter(one.attempt.phase for one in ran(root))

    def prepare(self) -> None:
        if self.agent:
            return
        self.agent = f"{os.getpid()}-{int(clock.ticking() * 1e9) % 10**9:09d}-1"
        self._log(f"bridge: agent {self.agent} is starting")
        disk.make_folder(self._agents / self.agent)
        document = survey.identity_document(self.agent, self._owner)
        disk.replace(self._agents / self.agent / "identity.json", document, durable=False)
        self._inbox.put(obs.AgentJoined(self.agent, self._owner))

    def perform(self, actions: Sequence[act.Action]) -> None:
        for action in actions:
            if isinstance(action, act.StartAttempt):
                self._start(action.order.attempt)
            elif isinstance(action, act.StopAttempt):
                self._inbox.put(obs.Ended(action.attempt, Outcome(STOPPED)))
            elif isinstance(action, act.TakeOutcome):
                for folder in self._agents.glob("*"):
                    if (folder / "outcomes" / f"{action.attempt}.json").exists():
                        survey.take(folder, action.attempt)

    def _start(self, attempt: AttemptId) -> None:
        number = attempt.phase
        told = self._script.get(str(number), [])
        how = told[self._seen[number]] if self._seen[number] < len(told) else OK
        self._seen[number] += 1
        os.mkdir(self._root / "ran" / f"{sum(self._seen.values())},{attempt.key.replace('/', ',')},{how}")
        if how == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        self._inbox.put(obs.Started(attempt, os.getpid(), self._owner.ticks))
        outcome = Outcome(EXITED, 1 if how == FAIL else 0, started_at=clock.now(), ended_at=clock.now())
        if how == LEFT:
            self._leave(attempt, outcome)
        elif how != HANG:
            self._inbox.put(obs.Ended(attempt, outcome))

    def _leave(self, attempt: AttemptId, outcome: Outcome) -> None:
        """As an agent does whose orchestrator is gone."""
        folder = self._agents / self.agent / "outcomes"
        disk.make_folder(folder)
        data = {"attempt": attempt.key, "outcome": outcome.as_dict(), "version": formats.VERSION}
        disk.replace(folder / f"{attempt}.json", json.dumps(data).encode(), durable=True)

    def take_over(self, findings: list[Finding]) -> list[Finding]:
        return findings

    def sweep(self, findings: list[Finding], attempts: list[Identity]) -> list[str]:
        return []

    def clear(self, agents: Iterable[str]) -> None:
        for agent in agents:
            survey.clear(self._agents / agent)

    def tend(self) -> float:
        return 10.0

    def shutdown(self) -> None:
        if self.agent:
            shutil.rmtree(self._agents / self.agent, ignore_errors=True)


def stage(segment_bytes: int | None = None) -> None:
    """For a child: instant hands, and if asked for a journal whose segments are soon full."""
    holding.LocalBridge = InstantBridge  # type: ignore[misc, assignment]
    app._agent_ahead = lambda *_: None  # type: ignore[assignment]
    if segment_bytes is not None:
        holding.JournalStore = partial(JournalStore, segment_bytes=segment_bytes)  # type: ignore[misc, assignment]


@contextmanager
def staged(segment_bytes: int | None = None) -> Iterator[None]:
    bridge, store, ahead = holding.LocalBridge, holding.JournalStore, app._agent_ahead
    stage(segment_bytes)
    try:
        yield
    finally:
        holding.LocalBridge, holding.JournalStore = bridge, store  # type: ignore[misc]
        app._agent_ahead = ahead


def set_up(root: Path, settings: str = "", script: dict[int, list[str]] | None = None, phases: int = 3) -> None:
    """A project of so many phases; `needs` make a chain of the first two, the others need the first."""
    (root / "phases").mkdir(parents=True)
    (root / "ran").mkdir()
    (root / "orch.toml").write_text(settings)
    (root / "script.json").write_text(json.dumps(script or {}))
    tables = [
        f'[[phase]]\nnumber = {number}\nname = "p{number}"\nrun = "true"\nneeds = {[1] if number > 1 else []}\n'
        for number in range(1, phases + 1)
    ]
    (root / "phases" / "p.toml").write_text("\n".join(tables))
