"""system/logs/heartbeat.json: written by the loop itself as it goes round, so that a loop that hangs falls silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator import disk
from orchestrator.core.names import Identity, Moment, epoch, iso
from orchestrator.core.state import State
from orchestrator.core.value import Value
from orchestrator.store.store import unwritable

AT_MOST_APART = 60.0


class Heartbeat:
    def __init__(self, system: Path, identity: Identity, heartbeat_timeout: float) -> None:
        self._path = system / "logs" / "heartbeat.json"
        self._identity = identity
        self._every = min(AT_MOST_APART, heartbeat_timeout / 4)
        self._written: float | None = None

    def beat(self, state: State, moment: Moment) -> float:
        """Write if it is due; returns the seconds until it is due again."""
        if self._written is not None and moment.tick - self._written < self._every:
            return self._every - (moment.tick - self._written)
        self._write(state, moment.now, "running")
        self._written = moment.tick
        return self._every

    def stop(self, state: State, moment: Moment) -> None:
        """A clean exit says so."""
        self._write(state, moment.now, "stopped")

    def _write(self, state: State, now: float, what: str) -> None:
        doing = [f"{number} {state.phase(number).step}" for number in sorted(state.live)][:20]
        document = {
            "state": what, **self._identity.as_dict(), "run": state.run.id, "at": iso(now),
            "heartbeat_seconds": self._every, "doing": doing,
        }  # fmt: skip
        try:
            disk.make_folder(self._path.parent)
            disk.replace(self._path, json.dumps(document).encode() + b"\n", durable=False)
        except OSError as error:
            raise unwritable(error, self._path) from error


class Pulse(Value):
    """What a reader finds."""

    identity: Identity
    age: float
    stopped: bool


def read(system: Path, now: float) -> Pulse | None:
    try:
        data: dict[str, Any] = json.loads((system / "logs" / "heartbeat.json").read_text())
        return Pulse(Identity.from_dict(data), max(0.0, now - epoch(data["at"])), data["state"] == "stopped")
    except (OSError, ValueError, KeyError, TypeError):
        return None
