"""The keys that say what a phase is made from and what it makes: files by pattern, parameters, whether to compare."""

from __future__ import annotations

import math
import posixpath
import re
from typing import Any

from orchestrator.core import condition
from orchestrator.core.spec import ROLLBACK
from orchestrator.load.definitions import Reader, Wrong, shown

OWN = "system"  # what lies in it is orch's: neither made from nor made by a phase
LARGEST = 2**63
LONGEST = 1000  # characters of a pattern, and of a text among the parameters
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")  # it becomes part of the name of a variable


# where the first part of a pattern may not lead
_LEADS = {
    "": "leads out of the project",
    "..": "leads out of the project",
    ".": "is the whole project, orch's own files with it",
    OWN: f"leads into {OWN}/, which is orch's own",
}


def patterns(key: str) -> Reader:
    """Files relative to the project: `*`, `?`, `[…]` within a name, `**` for any folders; a folder is all in it."""
    example = f'{key} = ["data/*.csv"]'

    def read(value: Any, wrong: Wrong) -> Any:
        if isinstance(value, str):
            return wrong(f"{key}: {shown(value)} is not a list", f"{key} = [{shown(value)}]".replace("'", '"'))
        if not isinstance(value, list | tuple):
            return wrong(f"{key}: {shown(value)} is not a list of patterns", example)
        found = []
        for each in value:
            if (fault := _misplaced(each)) is not None:
                wrong(f"{key}: {shown(each)} {fault}", example)
            else:
                found.append(posixpath.normpath(each))
        return tuple(dict.fromkeys(found))

    return read


def _misplaced(pattern: object) -> str | None:
    if not isinstance(pattern, str) or not pattern.strip():
        return "is not a pattern of files"
    if not pattern.isprintable() or len(pattern) > LONGEST:
        return "holds characters that cannot be printed" if len(pattern) <= LONGEST else "is too long"
    path = posixpath.normpath(pattern)
    if ".." in pattern.split("/") and any(char in pattern for char in "*?["):
        return "goes back up behind a wildcard"
    return _LEADS.get(path.split("/")[0])


def when(value: Any, wrong: Wrong) -> Any:
    example = "when = 'params.year >= 2024'"
    if not isinstance(value, str) or not value.strip():
        return wrong(f"when: {shown(value)} is not a condition", example)
    if (fault := condition.fault_of(value)) is not None:
        return wrong(f"when: {shown(value)} {fault}", example)
    return value.strip()


def params(value: Any, wrong: Wrong) -> Any:
    if not isinstance(value, dict) or "" in value:
        return wrong(f"params: {shown(value)} is not a table of values", "params = { year = 2024 }")
    known: dict[str, str] = {}
    for name, given in value.items():
        if not _NAME.fullmatch(name):
            wrong(f"params: {shown(name)} is not the name of a parameter", "letters, digits and _, no digit first")
        elif (other := known.setdefault(name.upper(), name)) != name:
            wrong(f"params: {other} and {name} would be one variable, ORCH_PARAM_{name.upper()}", "rename one of them")
        elif not _is_plain(given):
            hint = f'{name} = "..."' if not isinstance(given, dict) else "write its values as parameters of their own"
            wrong(f"params: {name}: {shown(given)} is not text, a number, true or false, or a list of these", hint)
    return {name: given for name, given in value.items() if _is_plain(given)}


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(each) and not isinstance(each, list | tuple) for each in value)
    if isinstance(value, str):
        return len(value) <= LONGEST and "\0" not in value
    if isinstance(value, int):
        return abs(value) < LARGEST
    return isinstance(value, float) and math.isfinite(value)


def on_critical(value: Any, wrong: Wrong) -> Any:
    if value != ROLLBACK:
        return wrong(f"on_critical: {shown(value)} is not known", f'on_critical = "{ROLLBACK}"')
    return value
