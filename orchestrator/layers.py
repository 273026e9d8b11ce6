"""The places that settings come from, as they were written, and where exactly each of them says something."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import disk
from orchestrator.core.names import cut, nearest, readable
from orchestrator.core.setting import BY_NAME
from orchestrator.core.value import Value

FILE, SHARED_FILE = "orch.toml", "pyproject.toml"
_NOT_SETTINGS = ("ORCH_PROJECT", "ORCH_NO_CGROUP")
_VARIABLES = {f"ORCH_{name.upper()}": name for name in BY_NAME if "." not in name}


class Layer(Value):
    """One place that settings come from: what it says, and where exactly it says it."""

    tree: dict[str, Any]
    strict: bool  # a file has types; variables and flags are text
    where: Callable[[str], str]


class Texts(NamedTuple):
    """The files that settings may stand in, as they were written."""

    own: str
    shared: str  # empty where the word does not stand in it: most pyproject.toml say nothing about orch
    has_own: bool


def texts_in(root: Path, faults: list[str]) -> Texts:
    own, shared = _read(root / FILE, faults), _read(root / SHARED_FILE, faults)
    return Texts(own, shared if "orch" in shared else "", (root / FILE).exists())


def file_layer(texts: Texts, faults: list[str]) -> Layer:
    own, shared, has_own = texts
    tree = _parsed(FILE, own, faults)
    tools = _parsed(SHARED_FILE, shared, faults).get("tool")
    section = tools.get("orch") if isinstance(tools, dict) else None
    if section is None:
        return Layer(tree, True, lambda name: _place(FILE, own, name))
    there = _place(SHARED_FILE, shared, "tool.orch")
    if has_own:
        faults.append(f"{there}: [tool.orch] and {FILE} both have settings: keep one of the two places")
        return _NOTHING
    if not isinstance(section, dict):
        faults.append(f"{there}: tool.orch = {as_toml(section)} is not a table: write [tool.orch], its keys below")
        return _NOTHING
    return Layer(section, True, lambda name: _place(SHARED_FILE, shared, f"tool.orch.{name}"))


def variable_layer(environ: Mapping[str, str]) -> Layer:
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


def flag_layer(flags: Mapping[str, object]) -> Layer:
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


def line_of(fault: str) -> int:
    found = re.match(r"[\w.]+:(\d+): ", fault)
    return int(found[1]) if found else 0


def as_toml(value: object) -> str:
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return cut(readable(json.dumps(value, ensure_ascii=False, default=str)), 60)
