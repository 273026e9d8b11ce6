"""Every setting: its kind, bounds, default and meaning, and how it is written; apart so that all may print it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.core.names import nearest
from orchestrator.core.value import Value
from orchestrator.errors import CODES

COUNT, DURATION, BYTES, FACTOR, SWITCH = "count", "duration", "bytes", "factor", "switch"
RETRIED = {name: code.retry for name, code in CODES.items() if code.retry is not None}


class Setting(Value):
    name: str  # with the tables it stands in: "logs.keep"
    kind: str
    default: Any  # None: worked out from the machine, or from other settings
    meaning: str
    least: float = 0
    most: float | None = None

    def written(self, value: Any) -> str:
        """As it could stand in the file."""
        if self.kind == PLAIN:
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
    Setting("checkpoints.keep", COUNT, 20, "how many checkpoints are kept; what a phase may still need is", 1, 10_000),
    Setting("checkpoints.max_age", DURATION, 30 * 86400.0, "after how long a checkpoint is removed", 1),
    Setting("trust", SWITCH, False, "whether phases/ is used although group or others may write to it"),
    *_retry_rows(),
)  # fmt: skip
BY_NAME = {setting.name: setting for setting in SETTINGS}
POOLS, PARAMS = "pools.", "params."  # tables whose keys are the project's own
PLAIN = "plain"  # text, a number, true or false: what its default is
_POOL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,40}")
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def pool(name: str) -> Setting:
    return Setting(POOLS + name, COUNT, None, f"how many tokens there are of {name}, for phases that take it", 1, 10**9)


def is_pool(name: str) -> bool:
    return _POOL.fullmatch(name) is not None


def param(name: str) -> Setting:
    return Setting(
        PARAMS + name, PLAIN, None, f"what {name} is in a run that is not told otherwise (`--set {name}=...`)"
    )


def is_param(name: str) -> bool:
    return _PARAM.fullmatch(name) is not None


def setting_of(name: str) -> Setting:
    if name.startswith(PARAMS):
        return param(name.removeprefix(PARAMS))
    return BY_NAME[name] if name in BY_NAME else pool(name.removeprefix(POOLS))


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)(i?)b?", re.IGNORECASE)


def size(text: object) -> int:
    """1000, "64kB", "10MB", "1GiB" -> bytes; ValueError says what a size looks like."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or (match[3] and not match[2]) or len(match[1]) > 20:
        raise ValueError(f'{text!r} is not a size: write bytes, or "64kB", "10MB", "1GB"')
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " kmg".index(match[2].lower() or " "))


def by_table(pools: Iterable[str] = (), params: Iterable[str] = ()) -> dict[str, Any]:
    """The settings as their tables nest; with the project's own pools and parameters."""
    top: dict[str, Any] = {
        "pools": {name: pool(name) for name in pools if is_pool(name)},
        "params": {name: param(name) for name in params if is_param(name)},
    }
    for setting in SETTINGS:
        *tables, key = setting.name.split(".")
        table = top
        for word in tables:
            table = table.setdefault(word, {})
        table[key] = setting
    return top


def unknown(name: str) -> str:
    """What to say of a name that is no setting."""
    tables, _, key = name.rpartition(".")
    if tables == "pools":
        return f"{name}: this is not the name of a pool: letters, digits, _ and -, at most 41, a letter first"
    if tables == "params":
        return f"{name}: this is not the name of a parameter: letters, digits and _, at most 64, no digit first"
    if tables == "retry":
        return _unknown_class(key)
    right = _neighbour(tables, key) or _elsewhere(key)
    return f"{name} is not a setting: " + (f"did you mean {right}?" if right else "`orch config show` lists them all")


def _unknown_class(key: str) -> str:
    code, may = key.upper(), f"rules may be set for {', '.join(RETRIED)}"
    if code in CODES and code not in RETRIED:
        return (
            f"[retry.{key}]: {code} ({CODES[code].meaning}) is never retried, because trying again cannot help; {may}"
        )
    right = code if code in RETRIED else nearest(code, list(RETRIED))
    return f"[retry.{key}]: no class of errors has this name: " + (f"did you mean {right}?" if right else may)


def _neighbour(tables: str, key: str) -> str | None:
    level = by_table()
    for table in tables.split(".") if tables else ():
        level = level.get(table, {})
    right = nearest(key.lower(), list(level))
    return f"{tables}.{right}" if tables and right else right


def _elsewhere(key: str) -> str | None:
    """The same key where it belongs: a table forgotten, or begun too early, is the common slip."""
    found = [name.rpartition(".")[0] for name in BY_NAME if name.rpartition(".")[2] == key.lower()]
    if not 1 <= len(found) <= 2:
        return None
    if found == [""]:
        return f"{key.lower()} above the first [table]"
    return f"{key.lower()} under {' or '.join(f'[{table}]' for table in found)}"
