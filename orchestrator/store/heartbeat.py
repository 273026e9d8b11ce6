"""system/logs/heartbeat.json: written by the loop itself as it goes round, so that a loop that hangs falls silent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import clock, disk, process
from orchestrator.core.eta import Eta
from orchestrator.core.formats import MALFORMED
from orchestrator.core.names import Identity, Moment, epoch, iso
from orchestrator.core.state import State
from orchestrator.core.value import Value
from orchestrator.disk import unwritable

AT_MOST_APART = 60.0
NEWS_APART = 2.0  # between two that differ in when the run will be over
_NEWS = 0.05  # by so much of what is left
_LOOKS_APART = 0.25  # seconds between two looks whether it is another

Expect = Callable[[State, Moment], Eta | None]


class Heartbeat:
    def __init__(
        self, system: Path, identity: Identity, heartbeat_timeout: float, expect: Expect = lambda state, moment: None,
        awake: Callable[[], float] = clock.awake, tell: Callable[[str], None] = lambda doing: None,
    ) -> None:  # fmt: skip
        self._path = system / "logs" / "heartbeat.json"
        self._identity = identity
        self._every = min(AT_MOST_APART, heartbeat_timeout / 4)
        self._expect = expect  # when the run will be over
        self._awake = awake
        self._tell = tell  # whoever ends us if we fall silent
        self._told: Eta | None = None
        self._said = ""
        self._written: float | None = None
        self._looked = -_LOOKS_APART

    def beat(self, state: State, moment: Moment) -> float:
        """Write if it is due; returns the seconds until it is due again."""
        since = moment.tick - self._written if self._written is not None else self._every
        if since < self._every and not (since >= NEWS_APART and self._has_news(state, moment, since)):
            return (self._every if self._said == _doing(state) else NEWS_APART) - since
        self._write(state, moment, _doing(state), self._expect(state, moment))
        self._written = moment.tick
        return self._every

    def _has_news(self, state: State, moment: Moment, since: float) -> bool:
        if self._said != _doing(state):
            return True
        if 0 <= moment.tick - self._looked < _LOOKS_APART:
            return False
        self._looked = moment.tick
        eta, told = self._expect(state, moment), self._told and self._told.after(since)
        if eta is None or told is None:
            return eta is not told
        most = 0.5 + _NEWS * eta.likely
        return abs(eta.likely - told.likely) > most or abs(eta.low - told.low) + abs(eta.high - told.high) > 4 * most

    def stop(self, state: State, moment: Moment) -> None:
        """A clean exit says so."""
        self._write(state, moment, "stopped", None)

    def _write(self, state: State, moment: Moment, what: str, eta: Eta | None) -> None:
        self._told, self._said = eta, what
        doing = [f"{number} {state.phase(number).step}" for number in sorted(state.live)][:20]
        document = {
            "state": what, **self._identity.as_dict(), "run": state.run.id, "at": iso(moment.now),
            "awake": round(self._awake(), 3),
            "heartbeat_seconds": self._every, "doing": doing, "eta_seconds": _rounded(eta),
        }  # fmt: skip
        try:
            disk.make_folder(self._path.parent)
            disk.replace(self._path, json.dumps(document).encode() + b"\n", durable=False)
        except OSError as error:
            raise unwritable(error, self._path) from error
        self._tell(f"run {state.run.id}: {what}{': ' if doing else ''}{', '.join(doing)}")


def _doing(state: State) -> str:
    return "running" if state.run.paused is None else "paused"


def _rounded(eta: Eta | None) -> dict[str, float] | None:
    return {name: round(value, 3) for name, value in eta.as_dict().items()} if eta else None


class Pulse(Value):
    """What a reader finds."""

    identity: Identity
    age: float
    stopped: bool
    eta: Eta | None = None  # as it is by now


def run_of(system: Path) -> str:
    """Which run beat last; empty if nobody can say."""
    try:
        return str(json.loads(disk.read(system / "logs" / "heartbeat.json"))["run"])
    except (OSError, *MALFORMED):
        return ""


def read(system: Path, now: float) -> Pulse | None:
    try:
        data: dict[str, Any] = json.loads(disk.read(system / "logs" / "heartbeat.json"))
        age = _age(data, now)
        eta = Eta(**data["eta_seconds"]).after(age) if data.get("eta_seconds") else None
        return Pulse(Identity.from_dict(data), age, data["state"] == "stopped", eta)
    except (OSError, *MALFORMED):
        return None


def _age(data: dict[str, Any], now: float) -> float:
    """The clock that nobody sets, where it is the same as the writer's: else a clock set forward would make it hang."""
    since = now - epoch(data["at"])
    if "awake" in data and data["boot"] == process.boot():
        since = clock.awake() - float(data["awake"])
    return max(0.0, since)
