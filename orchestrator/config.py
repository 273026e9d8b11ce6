"""Settings: flags before environment before file before default, checked all at once, each knowing where it comes from.

Without a file, a variable and a flag there is nothing to check, and the library that checks is not imported: most
starts of orch are such starts.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import disk
from orchestrator.core.names import cut, nearest, readable, seconds
from orchestrator.core.setting import (
    BY_NAME,
    BYTES,
    COUNT,
    DURATION,
    PARAMS,
    PLAIN,
    POOLS,
    RETRIED,
    SETTINGS,
    SWITCH,
    Setting,
    by_table,
    setting_of,
    size,
)
from orchestrator.core.setting import unknown as not_a_setting
from orchestrator.core.spec import RetryRule
from orchestrator.core.value import Value
from orchestrator.errors import SettingsError

FILE, SHARED_FILE = "orch.toml", "pyproject.toml"
DEFAULT = "default"
_NOT_SETTINGS = ("ORCH_PROJECT", "ORCH_NO_CGROUP")
_VARIABLES = {f"ORCH_{name.upper()}": name for name in BY_NAME if "." not in name}


class Settings(Value):
    jobs: int
    timeout: float
    kill_grace: float
    stale_after: float
    beat_interval: float
    heartbeat_timeout: float
    load_timeout: float
    logs_phase_bytes: int
    logs_keep: int
    logs_structured_bytes: int
    checkpoints_keep: int
    checkpoints_max_age: float
    trust: bool
    retry: dict[str, RetryRule]  # every class that may be retried at all
    pools: dict[str, int]  # how many tokens there are of each
    params: dict[str, Any]  # the parameters that a run may be given, with their defaults
    origins: dict[str, str]  # of what is no default


class Shown(NamedTuple):
    name: str
    value: str
    origin: str
    meaning: str


class Layer(Value):
    """One place that settings come from: what it says, and where exactly it says it."""

    tree: dict[str, Any]
    strict: bool  # a file has types; variables and flags are text
    where: Callable[[str], str]


def settings(root: Path, flags: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """What holds for the project at `root`; SettingsError with every fault. A flag that is None was not given."""
    faults: list[str] = []
    given: dict[str, tuple[Any, str]] = {}
    for layer in (_file_layer(root, faults), _variable_layer(environ), _flag_layer(flags)):
        if layer.tree:
            given.update(_checked(layer, faults))
    values = _with_defaults({name: value for name, (value, _) in given.items()})
    origins = {name: origin for name, (_, origin) in given.items()}
    faults += [] if faults else _contradictions(values, origins)
    if faults:
        raise SettingsError(_told(faults), "correct what is named, then `orch config check`")
    return _settled(values, origins)


def describe(settings: Settings) -> list[Shown]:
    """Every setting as it holds, for people: the value as it could be written in the file, its origin, its meaning."""
    own = [*(POOLS + name for name in settings.pools), *(PARAMS + name for name in settings.params)]
    rows = [*SETTINGS, *map(setting_of, own)]
    return [
        Shown(row.name, row.written(_value(settings, row.name)), settings.origins.get(row.name, DEFAULT), row.meaning)
        for row in rows
    ]


# Where settings come from


def _file_layer(root: Path, faults: list[str]) -> Layer:
    own, shared = _read(root / FILE, faults), _read(root / SHARED_FILE, faults)
    tree = _parsed(FILE, own, faults)
    # the word is looked for first: most pyproject.toml say nothing about orch and need not be parsed
    tools = _parsed(SHARED_FILE, shared, faults).get("tool") if "orch" in shared else None
    section = tools.get("orch") if isinstance(tools, dict) else None
    if section is None:
        return Layer(tree, True, lambda name: _place(FILE, own, name))
    there = _place(SHARED_FILE, shared, "tool.orch")
    if (root / FILE).exists():
        faults.append(f"{there}: [tool.orch] and {FILE} both have settings: keep one of the two places")
        return _NOTHING
    if not isinstance(section, dict):
        faults.append(f"{there}: tool.orch = {_toml(section)} is not a table: write [tool.orch], its keys below")
        return _NOTHING
    return Layer(section, True, lambda name: _place(SHARED_FILE, shared, f"tool.orch.{name}"))


def _variable_layer(environ: Mapping[str, str]) -> Layer:
    tree = {name: environ[variable] for variable, name in _VARIABLES.items() if environ.get(variable)}
    return Layer(tree, False, lambda name: f"ORCH_{name.upper()}")


def strange_variables(environ: Mapping[str, str]) -> list[str]:
    """What looks as if it were meant for orch, and is not; what an attempt is given has names of its own."""
    if "ORCH_PHASE" in environ:
        return []
    said = list[str]()
    for name in sorted(environ):
        if name.startswith("ORCH_") and name not in _VARIABLES and name not in _NOT_SETTINGS:
            right = nearest(name, list(_VARIABLES))
            hint = f"did you mean {right}?" if right else "it is ignored"
            said.append(f"{readable(name)}: there is no such variable: {hint}")
    return said


def _flag_layer(flags: Mapping[str, object]) -> Layer:
    tree: dict[str, Any] = {}
    for name, value in flags.items():
        if value is not None:
            *tables, key = name.split(".")
            _inner(tree, tables)[key] = value
    return Layer(tree, False, lambda name: "--" + name.replace("_", "-"))


_NOTHING = Layer({}, True, str)


def _inner(tree: dict[str, Any], tables: list[str]) -> dict[str, Any]:
    for table in tables:
        tree = tree.setdefault(table, {})
    return tree


def _read(path: Path, faults: list[str]) -> str:
    try:
        return disk.read(path).decode("utf-8").replace("\r\n", "\n")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except UnicodeDecodeError as error:
        faults.append(f"{path.name}: it is not UTF-8 text (byte {error.start})")
    except OSError as error:
        faults.append(f"{path.name}: it cannot be read: {error.strerror}")
    return ""


def _parsed(file: str, text: str, faults: list[str]) -> dict[str, Any]:
    if not text:
        return {}
    import tomllib

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # an endless number, or nesting without end, is no TOMLDecodeError
        line = re.search(r"at line (\d+)", str(error))
        number = int(line[1]) if line else text.count("\n") + 1
        faults.append(f"{file}:{number}: it is not valid TOML: {str(error).partition(' (at ')[0]}")
    return {}


_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_LINE = re.compile(rf"\s*(?:\[\[?\s*(?P<table>{_DOTTED})\s*\]|(?P<key>{_DOTTED})\s*=)")


def _place(file: str, text: str, name: str) -> str:
    """The line that gives this name, or the nearest table around it (tomllib does not tell)."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := _LINE.match(line):
            words = tuple(re.findall(r"[^\s.\"']+", match["table"] or match["key"]))
            table = words if match["table"] else table
            words = words if match["table"] else (*table, *words)
            for end in range(1, len(words) + 1):
                lines.setdefault(words[:end], number)
    words = tuple(name.split("."))
    known = next((words[:end] for end in range(len(words), 0, -1) if words[:end] in lines), None)
    return f"{file}:{lines[known]}" if known else file


def _line_of(fault: str) -> int:
    found = re.match(r"[\w.]+:(\d+): ", fault)
    return int(found[1]) if found else 0


# Checking


def _checked(layer: Layer, faults: list[str]) -> dict[str, tuple[Any, str]]:
    from pydantic import ValidationError

    try:
        pools, params = (layer.tree.get(table) for table in ("pools", "params"))
        known = by_table(pools if isinstance(pools, dict) else (), params if isinstance(params, dict) else ())
        checked = _model(known, layer.tree).model_validate(layer.tree, strict=layer.strict)
    except ValidationError as invalid:
        found = list[str]()
        for error in invalid.errors(include_url=False):
            name = readable(".".join(map(str, error["loc"])))
            said = readable(_sentence(name, error, _as_given(layer.tree, error["loc"])))
            found.append(f"{layer.where(name)}: {said}")
        faults += sorted(found, key=_line_of)
        return {}
    return {name: (value, layer.where(name)) for name, value in _leaves(checked.model_dump())}


def _model(known: dict[str, Any], given: dict[str, Any]) -> Any:
    """A model of what is given and known: one of everything takes as long to build as the library to import."""
    from pydantic import ConfigDict, create_model

    fields: dict[str, Any] = {
        key: (_inner_model(item, given[key]) if isinstance(item, dict) else _type_of(item), None)
        for key, item in known.items()
        if key in given
    }
    return create_model("Settings", __config__=ConfigDict(extra="forbid"), **fields)


def _inner_model(known: dict[str, Any], given: object) -> Any:
    return _model(known, given if isinstance(given, dict) else {})


def _type_of(setting: Setting) -> Any:
    from typing import Annotated

    from pydantic import BeforeValidator, Field

    if setting.kind == PLAIN:
        return Annotated[Any, BeforeValidator(_plain)]
    bounds = Field(ge=setting.least, le=setting.most)
    if setting.kind == DURATION:
        return Annotated[float, bounds, BeforeValidator(_finite_seconds)]
    if setting.kind == BYTES:
        return Annotated[int, bounds, BeforeValidator(size)]
    return bool if setting.kind == SWITCH else Annotated[int if setting.kind == COUNT else float, bounds]


def _plain(given: object) -> object:
    if isinstance(given, str | bool) or (isinstance(given, int | float) and abs(given) < 2**63):
        return given
    if isinstance(given, list) and not any(isinstance(each, list) for each in given):
        return [_plain(each) for each in given]
    raise ValueError("it is neither text nor a number, true or false, nor a list of these")


def _finite_seconds(given: object) -> float:
    try:
        return seconds(given)
    except OverflowError:
        raise ValueError("it is longer than ten years") from None


def _leaves(tree: dict[str, Any], tables: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{tables}{key}.")
        else:
            yield f"{tables}{key}", value


def _contradictions(values: dict[str, Any], origins: dict[str, str]) -> Iterator[str]:
    """Settings that are right each for itself and wrong together."""

    def said(name: str) -> str:
        return f"{name} = {BY_NAME[name].written(values[name])} ({origins.get(name, DEFAULT)})"

    if values["heartbeat_timeout"] < 2 * values["beat_interval"]:
        yield f"{said('heartbeat_timeout')} is less than twice {said('beat_interval')}: a late beat looks like a hang"
    for code in RETRIED:
        delay, cap = f"retry.{code}.delay", f"retry.{code}.cap"
        if values[delay] > values[cap]:
            yield f"{said(delay)} is longer than {said(cap)}: raise the cap, or lower the delay"


# What is said of a fault


def _told(faults: list[str]) -> str:
    where = "" if len(faults) == 1 else f" in {len(faults)} places"
    return "\n  ".join([f"the settings are wrong{where}; nothing was started", *faults])


def _sentence(name: str, error: Mapping[str, Any], given: object) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return not_a_setting(name)
    if kind == "value_error":
        return f"{name}: {error['ctx']['error']}"
    if kind == "model_type":
        return f"{name} = {_toml(given)} is not a table: write [{name}], its keys below"
    return f"{name} = {_toml(given)} is not {setting_of(name).expected}"


def _as_given(tree: Any, path: tuple[Any, ...]) -> Any:
    """The error shows what was parsed: of "2m" it says 120.0."""
    for key in path:
        tree = tree[key]
    return tree


def _toml(value: object) -> str:
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return cut(readable(json.dumps(value, ensure_ascii=False, default=str)), 60)


# What holds


def _with_defaults(given: dict[str, Any]) -> dict[str, Any]:
    values = {setting.name: setting.default for setting in SETTINGS} | given
    if values["jobs"] is None:
        values["jobs"] = max(4, len(os.sched_getaffinity(0)))
    if values["stale_after"] is None:
        values["stale_after"] = max(7200.0, values["timeout"] + values["kill_grace"])
    return values


def _settled(values: dict[str, Any], origins: dict[str, str]) -> Settings:
    retry = {
        code: RetryRule(*(values[f"retry.{code}.{field}"] for field in ("tries", "delay", "factor", "cap", "jitter")))
        for code in RETRIED
    }
    pools = {name.removeprefix(POOLS): value for name, value in values.items() if name.startswith(POOLS)}
    params = {name.removeprefix(PARAMS): value for name, value in values.items() if name.startswith(PARAMS)}
    tables = ("retry.", POOLS, PARAMS)
    plain = {name.replace(".", "_"): value for name, value in values.items() if not name.startswith(tables)}
    return Settings(**plain, retry=retry, pools=pools, params=params, origins=origins)


def _value(settings: Settings, name: str) -> Any:
    if name.startswith("retry."):
        _, code, field = name.split(".")
        return getattr(settings.retry[code], field)
    if name.startswith(POOLS):
        return settings.pools[name.removeprefix(POOLS)]
    if name.startswith(PARAMS):
        return settings.params[name.removeprefix(PARAMS)]
    return getattr(settings, name.replace(".", "_"))
