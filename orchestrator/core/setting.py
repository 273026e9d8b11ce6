"""Every setting: its kind, bounds, default and meaning, and how it is written; apart so that all may print it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from orchestrator.core.value import Value
from orchestrator.errors import CODES

COUNT, DURATION, BYTES, FACTOR, SWITCH = "count", "duration", "bytes", "factor", "switch"
TEXT, WORDS = "text", "words"
PLAIN = "plain"  # text, a number, true or false, or a list of these: what its default is
RETRIED = {name: code.retry for name, code in CODES.items() if code.retry is not None}


class Setting(Value):
    name: str  # with the tables it stands in: "logs.keep"
    kind: str
    default: Any  # None: worked out from the machine, or from other settings
    meaning: str
    least: float = 0
    most: float | None = None
    words: tuple[str, ...] = ()  # of WORDS: which there are

    def written(self, value: Any) -> str:
        """As it could stand in the file."""
        if self.kind in (PLAIN, TEXT, WORDS):
            return json.dumps(value, ensure_ascii=False)
        if self.kind == SWITCH:
            return "true" if value else "false"
        if self.kind == DURATION:
            return _in_units(value, _TIME, "s")
        if self.kind == BYTES:
            return _in_units(value, _SIZES, "B")
        return f"{value:g}" if self.kind == FACTOR else str(value)

    @property
    def expected(self) -> str:
        if self.kind == PLAIN:
            return "text, a number, true or false, or a list of these"
        if self.kind == TEXT:
            return "text of one line"
        if self.kind == WORDS:
            return f"a list of {', '.join(self.words)}"
        if self.kind == SWITCH:
            return "true or false"
        least = self.written(self.least)
        bounds = f"of at least {least}" if self.most is None else f"from {least} to {self.written(self.most)}"
        return f"{_NOUNS[self.kind]} {bounds}"


_NOUNS = {COUNT: "a whole number", FACTOR: "a number", DURATION: "a duration", BYTES: "a size"}
_TIME = (("d", 86400), ("h", 3600), ("m", 60))
_SIZES = (("GB", 10**9), ("MB", 10**6), ("kB", 1000))


def _in_units(value: float, units: tuple[tuple[str, int], ...], smallest: str) -> str:
    """In the largest unit that says it exactly."""
    unit, factor = next(((unit, factor) for unit, factor in units if value and value % factor == 0), (smallest, 1))
    amount = value / factor
    return f"{int(amount) if amount == int(amount) else amount}{unit}"


def _retry_rows() -> Iterator[Setting]:
    for code, rule in RETRIED.items():
        table, what = f"retry.{code}", f"{code} ({CODES[code].meaning})"
        yield from (
            Setting(f"{table}.tries", COUNT, rule.tries, f"how often {what} is tried after the first try", 0, 1000),
            Setting(f"{table}.delay", DURATION, rule.delay, "how long before the first of these tries"),
            Setting(f"{table}.factor", FACTOR, rule.factor, "how many times longer before each further one", 1, 100),
            Setting(f"{table}.cap", DURATION, rule.cap, "the longest such wait"),
            Setting(f"{table}.jitter", FACTOR, rule.jitter, "by which share a wait varies", 0, 1),
        )  # fmt: skip


SETTINGS: tuple[Setting, ...] = (
    Setting("jobs", COUNT, None, "how many attempts may run at once; left out: the processors, at least 4", 1, 10_000),
    Setting("timeout", DURATION, 3600.0, "how long an attempt may take, where its phase says nothing else", 0.1),
    Setting("kill_grace", DURATION, 5.0, "how long what was asked to end may take before it is killed", 0, 3600),
    Setting("stale_after", DURATION, None, "after how long an attempt counts as lost whose owner cannot be asked;"
            " left out: 2h, or timeout + kill_grace where that is longer", 1),
    Setting("beat_interval", DURATION, 2.0, "how often an agent says that it is alive", 0.1, 60),
    Setting("heartbeat_timeout", DURATION, 120.0, "after how long a silent orchestrator counts as hung", 1),
    Setting("load_timeout", DURATION, 30.0, "how long the import of one phase file may take", 0.1, 3600),
    Setting("logs.phase_bytes", BYTES, 10_000_000, "how much of one attempt's output is kept", 1000, 10**12),
    Setting("logs.keep", COUNT, 20, "of how many attempts of a phase the logs are kept", 1, 100_000),
    Setting("logs.structured_bytes", BYTES, 20_000_000, "how large the structured log gets before it is rotated", 1000,
            10**12),
    Setting("logs.max_age", DURATION, 30 * 86400.0, "after how long a log is removed", 1),
    Setting("checkpoints.keep", COUNT, 20, "how many checkpoints are kept; what a phase may still need is", 1, 10_000),
    Setting("checkpoints.max_age", DURATION, 30 * 86400.0, "after how long a checkpoint is removed", 1),
    Setting("trust", SWITCH, False, "whether phases/ is used although group or others may write to it"),
    *_retry_rows(),
)  # fmt: skip
BY_NAME = {setting.name: setting for setting in SETTINGS}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(i?)b?", re.IGNORECASE)


def size(text: object) -> int:
    """1000, "64kB", "10MB", "1GiB" -> bytes; ValueError says what a size looks like."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or (match[3] and not match[2]) or len(match[1]) > 20:
        raise ValueError(f'{text!r} is not a size: write bytes, or "64kB", "10MB", "1GB"')
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " kmg".index(match[2].lower() or " "))
