"""The words for one thing: attempts, owners, times on disk, durations as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from orchestrator.core.item import number_of
from orchestrator.core.value import Value

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


class AttemptId(Value):
    """One try at one phase. Attempts of a phase are numbered through all runs, so no two ever share a log."""

    run: str
    phase: int
    number: int

    def __str__(self) -> str:
        return f"{self.phase}.{self.number}"

    @property
    def key(self) -> str:
        return f"{self.run}/{self.phase}.{self.number}"

    @classmethod
    def parse(cls, key: str) -> AttemptId:
        run, _, rest = key.rpartition("/")
        phase, _, number = rest.rpartition(".")
        return cls(run, number_of(phase), int(number))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AttemptId:
        return cls(**{**data, "phase": number_of(data["phase"])})


class Identity(Value):
    """A process that cannot be mistaken for another: a pid is used again, one with its start ticks and boot is not.

    `serial` tells apart two that had the same pid within the same tick; 0 where the kernel gives none.
    """

    pid: int
    ticks: int
    boot: str
    host: str
    serial: int = 0

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Identity:
        pid = int(data["pid"])
        if abs(pid) >= 2**31:
            raise ValueError(f"{pid} is no pid")
        return cls(pid, int(data["ticks"]), str(data["boot"]), str(data["host"]), int(data.get("serial", 0)))


def owner_name(agent: str | None, identity: Identity | None) -> str:
    if identity is None:
        return f"agent {agent}"
    return f"agent {agent} (pid {identity.pid} on {identity.host.split('/')[0]})"


class Moment(Value):
    """What the core is told of time and chance: seconds since 1970 (UTC), seconds on a clock that nobody sets, and a
    draw from [0, 1)."""

    now: float
    tick: float
    draw: float = 0.5


@lru_cache(maxsize=8)  # a decision and all that follows from it are of one moment
def iso(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def seconds(text: object) -> float:
    """90, "90s", "10m", "2h", "1d" -> seconds; ValueError says what a duration looks like."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        number = float(text)
    elif isinstance(text, str) and (match := _DURATION.fullmatch(text.strip())):
        number = float(match[1]) * _UNITS[match[2]]
    else:
        raise ValueError(f'{text!r} is not a duration: write seconds, or "90s", "10m", "2h", "1d"')
    if not 0 <= number <= 10 * 365 * 86400:
        raise ValueError(f"{text!r} is not a duration between 0 and ten years")
    return number


def span(amount: float) -> str:
    """Seconds as people read them: 0.31s, 42s, 3m 05s, 2h 07m, 1d 4h."""
    if amount < 10:
        return f"{amount:.2f}s"
    whole = round(amount)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def readable(text: str, most: int = 2000) -> str:
    """One line for a terminal, whatever somebody wrote into it: nothing that cannot be printed, and not without end."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= most else f"{text[: most * 3 // 4]} … {text[-most // 4 :]}"


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that a mistyped one most likely meant, or None."""
    from difflib import get_close_matches  # only a mistake pays for it

    found = get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def left_until(due_at: str | None, delay: float | None, now: float) -> float:
    """Seconds, never more than the whole delay: the clock may have been set back."""
    left = epoch(due_at) - now if due_at else 0.0
    return max(0.0, min(left, delay if delay is not None else left))


def short(value: object, most: int = 80) -> str:
    """As Python writes it, for a message."""
    try:
        return cut(repr(value), most)
    except ValueError:  # Python refuses to write out a number of more than 4300 digits
        return "a number too long to show"


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
