"""The keys of one phase: what each must hold, and what is said when it does not; Python and TOML alike."""

from __future__ import annotations

import math
import os
import re
from typing import Any

from orchestrator.core.names import nearest, seconds
from orchestrator.core.own import POOLS, is_own
from orchestrator.core.spec import Limits, RetryRule, Spec
from orchestrator.core.value import Value
from orchestrator.errors import CODES
from orchestrator.load import foreach, making
from orchestrator.load.approvals import approval
from orchestrator.load.definitions import Reader, Report, Written, Wrong, shown
from orchestrator.load.reading import LARGEST, at_least_one, is_number, is_table, is_whole, switch

NAME_LENGTH = 80
SMALLEST_MEMORY, LARGEST_MEMORY = 1_000_000, 2**62
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


class Checked(Value):
    """One phase, its own keys in order; what it has to do with others is seen later."""

    written: Written
    spec: Spec
    needs_left_out: bool


def check(written: Written, report: Report) -> Checked | None:
    """None without a number: then nothing else can be said of it to others."""
    keys = {key: value for key, value in written.keys.items() if value is not None or key == "number"}
    label = f"phase {keys['number']}: " if is_whole(keys.get("number")) else ""
    values: dict[str, Any] = {}
    for key, value in keys.items():
        if key not in _READ:
            report(written, key, f"{label}unknown key {key}", _meant(key, written))
        elif key == "run" and not written.is_command:
            report(written, key, f"{label}run belongs to phases in .toml files", "call the command in the function")
        else:
            values[key] = _READ[key](value, _wrong(written, key, label, report))
    _whole(written, keys, label, report)
    if values.get("number") is None:
        return None
    return Checked(
        written, _spec(written, {key: value for key, value in values.items() if value is not None}), "needs" not in keys
    )


def _wrong(written: Written, key: str, label: str, report: Report) -> Wrong:
    return lambda said, hint: report(written, key, label + said, hint)


def _whole(written: Written, keys: dict[str, Any], label: str, report: Report) -> None:
    if "number" not in keys:
        hint = "number = 3" if written.is_command else "@phase(3)"
        report(written, "", "a phase without a number", f"write {hint}")
    if written.is_command and "run" not in keys:
        report(written, "", f"{label}nothing to run", 'write run = "command", or a list')
    for key in ("max_parallel", "fail_fast", "fail_after"):
        if key in keys and "foreach" not in keys:
            report(written, key, f"{label}{key} without foreach", "it is about items, and this phase has none")
    if "fail_fast" in keys and "fail_after" in keys:
        report(written, "fail_after", f"{label}fail_fast and fail_after", "one of them: fail_after says after how many")
    if keys.get("on_critical") and keys.get("checkpoint") is False:
        report(written, "checkpoint", f"{label}on_critical goes back to a checkpoint", "remove checkpoint = false")
    if keys.get("foreach") is not None and keys.get("approval"):
        report(written, "approval", f"{label}approval and foreach exclude each other", _GATE)
    if keys.get("foreach") is not None and (keys.get("on_critical") or keys.get("checkpoint")):
        report(written, "checkpoint", f"{label}checkpoint and foreach exclude each other", _FAN_OUT)
    if written.oddity:
        report(written, "", label + written.oddity, "")


_FAN_OUT = "give the checkpoint to a phase before it"
_GATE = "give the gate to a phase of its own, before it or after it"


def _spec(written: Written, values: dict[str, Any]) -> Spec:
    own = written.name if not written.name.startswith("<") else ""  # a lambda
    values.setdefault("name", own[:NAME_LENGTH] or f"phase-{values['number']}")
    values.setdefault("title", "".join(each for each in written.title if each.isprintable()))
    if values.get("inputs") or values.get("outputs"):
        values.setdefault("cache", True)
    if values.get("on_critical"):
        values.setdefault("checkpoint", True)
    if written.threads:
        values["isolation"] = "spawn"
    return Spec(file=written.file, line=written.line, digest=written.digest, broken=written.broken, **values)


def _meant(key: str, written: Written) -> str:
    known = [each for each in _READ if written.is_command or each != "run"]
    found = nearest(key, known)
    return f"did you mean {found}?" if found else f"known are {', '.join(known)}"


# ── one reader for each key: the value as a Spec has it, or None and a word about what is wrong ────────────────


def _number(value: Any, wrong: Wrong) -> Any:
    if not is_whole(value):
        digits = " of at most nine digits" if type(value) is int else ""
        return wrong(f"number: {shown(value)} is not a whole number{digits}", "number = 3")
    return value


def _name(value: Any, wrong: Wrong) -> Any:
    text = _line("name", value, wrong)
    if text is not None and not 1 <= len(text.strip()) <= len(text) <= NAME_LENGTH:
        return wrong(f"name: {len(text)} characters", f"write 1 to {NAME_LENGTH}")
    return text


def _title(value: Any, wrong: Wrong) -> Any:
    return _line("title", value, wrong)


def _line(key: str, value: Any, wrong: Wrong) -> Any:
    if not isinstance(value, str):
        return wrong(f"{key}: {shown(value)} is not text", f'{key} = "..."')
    if not value.isprintable():
        return wrong(f"{key}: {shown(value)} holds characters that cannot be printed", "write one plain line")
    return value


def _needs(value: Any, wrong: Wrong) -> Any:
    if is_whole(value):
        return wrong(f"needs: {value} is not a list", f"needs = [{value}]")
    if not isinstance(value, (list, tuple)):
        return wrong(f"needs: {shown(value)} is not a list of numbers", "needs = [1, 2], or [] for nothing")
    for each in value:
        if not is_whole(each):
            wrong(f"needs: {shown(each)} is not the number of a phase", "needs = [1, 2]")
    return tuple(dict.fromkeys(each for each in value if is_whole(each)))


def _duration(key: str) -> Reader:
    def read(value: Any, wrong: Wrong) -> Any:
        found = _seconds(key, value, wrong)
        return wrong(f"{key}: must be more than 0", f'{key} = "10m"') if found == 0 else found

    return read


def _seconds(key: str, value: Any, wrong: Wrong) -> Any:
    try:
        return seconds(value)
    except (ValueError, OverflowError) as error:
        if "ten years" in str(error) or isinstance(error, OverflowError):
            return wrong(f"{key}: {shown(value)} is no length of time for this", "write one between 0 and ten years")
        return wrong(f"{key}: {shown(value)} is not a duration", 'write seconds, or "90s", "10m", "2h", "1d"')


def _tries(key: str) -> Reader:
    def read(value: Any, wrong: Wrong) -> Any:
        if not is_whole(value) or value < 0:
            return wrong(f"{key}: {shown(value)} is not a whole number from 0 up", f"{key} = 3")
        return value

    return read


def _retry(value: Any, wrong: Wrong) -> Any:
    if not is_table(value):
        return wrong(f"retry: {shown(value)} is not a table of rules by class", "retry = { TRANSIENT = { tries = 5 } }")
    rules = {}
    for name, rule in value.items():
        if (found := _rule(name, rule, wrong)) is not None:
            rules[name] = found
    return rules


def _rule(name: str, rule: Any, wrong: Wrong) -> Any:
    if name not in CODES:
        found = nearest(name.upper(), list(CODES))
        return wrong(
            f"retry: no class {name}", f"did you mean {found}?" if found else f"classes are {', '.join(CODES)}"
        )
    default = CODES[name].retry
    if default is None:
        return wrong(
            f"retry: {name} is never retried: {CODES[name].meaning}, and another try changes nothing", "remove it"
        )
    if not is_table(rule):
        return wrong(f"retry: {name}: {shown(rule)} is not a table", f"retry = {{ {name} = {{ tries = 5 }} }}")
    fields = default._asdict()
    for key, value in rule.items():
        if key not in _RULE:
            found = nearest(key, list(_RULE))
            wrong(
                f"retry: {name}: unknown key {key}",
                f"did you mean {found}?" if found else f"known are {', '.join(_RULE)}",
            )
        elif (read := _RULE[key](value, lambda said, hint: wrong(f"retry: {name}: {said}", hint))) is not None:
            fields[key] = read
    return RetryRule(**fields)


def _ratio(key: str, low: float, high: float) -> Reader:
    def read(value: Any, wrong: Wrong) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        return wrong(f"{key}: {shown(value)} is not a number from {low:g} to {high:g}", f"{key} = {low:g}")

    return read


_RULE: dict[str, Reader] = {
    "tries": _tries("tries"),
    "delay": lambda value, wrong: _seconds("delay", value, wrong),
    "factor": _ratio("factor", 1, 100),
    "cap": lambda value, wrong: _seconds("cap", value, wrong),
    "jitter": _ratio("jitter", 0, 1),
}


def _env(value: Any, wrong: Wrong) -> Any:
    if not is_table(value):
        return wrong(f"env: {shown(value)} is not a table", 'env = { LEVEL = "9" }')
    for name, text in value.items():
        if not name or "=" in name or not name.isprintable():
            wrong(f"env: {name!r} is not the name of a variable", 'env = { LEVEL = "9" }')
        if not isinstance(text, str):
            told = shown(text)
            wrong(f"env: {name}: {told} is not text", f'{name} = "{told}"' if is_number(text) else f'{name} = "..."')
        elif "\0" in text:
            wrong(f"env: {name}: a NUL byte cannot be in the environment", "remove it")
    return {name: text for name, text in value.items() if isinstance(text, str)}


def _cwd(value: Any, wrong: Wrong) -> Any:
    if not isinstance(value, str) or "\0" in value:
        return wrong(f"cwd: {shown(value)} is not a path", 'cwd = "data"')
    path = os.path.normpath(value)
    if path == ".." or path.startswith("../"):
        return wrong(f"cwd: {value} leads out of the project", "write an absolute path if that is meant")
    return path


def _limits(value: Any, wrong: Wrong) -> Any:
    if not is_table(value):
        return wrong(
            f"limits: {shown(value)} is not a table", 'limits = { memory = "500MB", cpu = "5m", open_files = 256 }'
        )
    fields = {}
    for key, limit in value.items():
        if key not in _LIMIT:
            found = nearest(key, list(_LIMIT))
            wrong(f"limits: unknown key {key}", f"did you mean {found}?" if found else f"known are {', '.join(_LIMIT)}")
        elif limit is not None:
            fields[key] = _LIMIT[key](limit, lambda said, hint: wrong(f"limits: {said}", hint))
    return Limits(**fields)


def _memory(value: Any, wrong: Wrong) -> Any:
    size = _size(value)
    if size is None:
        return wrong(f"memory: {shown(value)} is not a size", 'memory = "500MB", or bytes')
    if size > LARGEST_MEMORY:
        return wrong(f"memory: {shown(value)} is more than any machine has", 'memory = "500MB"')
    if size < SMALLEST_MEMORY:
        return wrong(f"memory: {size:g} bytes is too little for any process to start", 'memory = "500MB"')
    return int(size)


def _size(value: object) -> float | None:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2].upper() not in _UNITS:
        return None
    return float(match[1]) * _UNITS[match[2].upper()]


def _cpu(value: Any, wrong: Wrong) -> Any:
    found = _seconds("cpu", value, wrong)
    return wrong("cpu: must be more than 0", 'cpu = "5m"') if found == 0 else found and math.ceil(found)


_LIMIT: dict[str, Reader] = {"memory": _memory, "cpu": _cpu, "open_files": at_least_one("open_files", 256)}


def _pools(value: Any, wrong: Wrong) -> Any:
    if not is_table(value):
        return wrong(f"pools: {shown(value)} is not a table of tokens", "pools = { gpu = 1 }")
    for pool, many in value.items():
        if not isinstance(pool, str) or not is_own(POOLS, pool):
            wrong(f"pools: {shown(pool)} is not the name of a pool", "letters, digits, _ and -")
        elif not is_whole(many) or not 0 < many <= LARGEST:
            wrong(f"pools: {pool}: {shown(many)} is not a whole number above 0", f"pools = {{ {pool} = 1 }}")
    return {pool: many for pool, many in value.items() if is_whole(many)}


def _secrets(value: Any, wrong: Wrong) -> Any:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return wrong(f"secrets: {shown(value)} is not a list of names", 'secrets = ["token"]')
    return tuple(dict.fromkeys(names))


def _isolation(value: Any, wrong: Wrong) -> Any:
    if value not in ("fork", "spawn"):
        return wrong(f"isolation: {shown(value)} is neither fork nor spawn", 'isolation = "spawn"')
    return str(value)


def _run(value: Any, wrong: Wrong) -> Any:
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return wrong(
            f"run: {shown(value)} is neither a command nor a list of words", 'run = "make all", or ["make", "all"]'
        )
    if any("\0" in word for word in words):
        return wrong("run: a NUL byte cannot be in a command", "remove it")
    if not words or not words[0].strip():
        return wrong("run: is empty", 'run = "make all"')
    return value if isinstance(value, str) else tuple(words)


_READ: dict[str, Reader] = {
    "number": _number,
    "name": _name,
    "title": _title,
    "needs": _needs,
    "timeout": _duration("timeout"),
    "heartbeat_timeout": _duration("heartbeat_timeout"),
    "retries": _tries("retries"),
    "retry": _retry,
    "env": _env,
    "cwd": _cwd,
    "limits": _limits,
    "isolation": _isolation,
    "approval": approval,
    "pools": _pools,
    "secrets": _secrets,
    "foreach": foreach.foreach,
    "max_parallel": at_least_one("max_parallel"),
    "fail_fast": switch("fail_fast"),
    "fail_after": foreach.fail_after,
    "inputs": making.patterns("inputs"),
    "outputs": making.patterns("outputs"),
    "params": making.params,
    "cache": switch("cache", "false"),
    "checkpoint": switch("checkpoint"),
    "on_critical": making.on_critical,
    "when": making.when,
    "run": _run,
}
