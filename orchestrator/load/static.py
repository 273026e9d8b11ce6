"""Looks at a phase file without running it: for one whose import fails, and for the line of a key in a decorator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from orchestrator.load.definitions import Fault, Written

if TYPE_CHECKING:
    import ast

_NUMBER = re.compile(r"@\s*(?:\w+\.)*phase\(\s*(?:number\s*=\s*)?(-?\d{1,18})\b|^\s*number\s*=\s*(-?\d{1,18})\b", re.M)


def literal_phases(file: str, data: bytes, broken: str) -> list[Written]:
    """The phases whose number is written out, with those of their keys that are written out too."""
    found = []
    for function, call in _decorators(data):
        keys = {key: value for key, node in _arguments(call) if (value := _literal(node)) is not None}
        if isinstance(keys.get("number"), int):
            title = _docstring(function).strip().partition("\n")[0].strip()
            found.append(Written(file, call.lineno, keys, function.name, title, broken=broken))
    return found


def key_line(data: bytes, line: int, key: str) -> int:
    """The line of `key` in the decorator that begins at `line`, or that line."""
    return _key_lines(data).get((line, key), line)


@lru_cache(maxsize=2)
def _key_lines(data: bytes) -> dict[tuple[int, str], int]:
    return {(call.lineno, key): node.lineno for _, call in _decorators(data) for key, node in _arguments(call)}


def numbers_in(data: bytes) -> set[int]:
    """Numbers that a file seems to define which cannot be read otherwise."""
    return {int(first or second) for first, second in _NUMBER.findall(data.decode(errors="replace"))}


def syntax_fault(file: str, data: bytes) -> Fault | None:
    import ast

    try:
        ast.parse(data)
    except SyntaxError as error:
        return not_python(file, error.lineno, error.msg)
    except (ValueError, RecursionError, MemoryError) as error:
        return not_python(file, None, str(error))
    return None


def not_python(file: str, line: int | None, why: str) -> Fault:
    return Fault(file, line or None, f"is not Python: {why}", "correct this line")


def _decorators(data: bytes) -> Iterator[tuple[ast.FunctionDef, ast.Call]]:
    import ast  # only a mistake pays for it

    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        for each in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
            if isinstance(each, ast.Call) and isinstance(node, ast.FunctionDef) and _is_phase(each.func):
                yield node, each


def _is_phase(node: Any) -> bool:
    return getattr(node, "id", None) == "phase" or getattr(node, "attr", None) == "phase"


def _arguments(call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    if call.args:
        yield "number", call.args[0]
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield keyword.arg, keyword.value


def _literal(node: ast.expr) -> Any:
    import ast

    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return sorted(value) if isinstance(value, set) else value


def _docstring(function: ast.FunctionDef) -> str:
    import ast

    return ast.get_docstring(function) or ""
