"""The conditions that authors write in `when`: a small part of Python's expressions, read without running anything.

`params.year >= 2024 and result(1)["changed"]`: parameters of the phase, results of what it needs, values, comparisons,
`in`, and, or, not. What cannot be told (a key that is not there, text compared with a number) is a fault, never false.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast  # loaded where a condition is read: most pipelines have none, and a start is to be quick

Results = Callable[[int], Any]

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "Eq": operator.eq, "NotEq": operator.ne, "Lt": operator.lt, "LtE": operator.le, "Gt": operator.gt,
    "GtE": operator.ge, "In": lambda one, many: one in many, "NotIn": lambda one, many: one not in many,
}  # fmt: skip
_WORDS = {"true": True, "false": False, "none": None}
_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
LONGEST = 500  # characters
_KNOWN = "known are params.name, result(N), values, comparisons, in, and, or, not"


class Untellable(Exception):
    """Why a condition is neither true nor false."""


def fault_of(text: str) -> str | None:
    """What is wrong with a condition as it is written; None if nothing is."""
    try:
        for _ in _leaves(_parsed(text)):
            pass
    except Untellable as fault:
        return str(fault)
    return None


def uses(text: str) -> tuple[set[str], set[int]]:
    """The parameters and the phases that it asks for."""
    names, numbers = set[str](), set[int]()
    for leaf in _leaves(_parsed(text)):
        if isinstance(leaf, str):
            names.add(leaf)
        else:
            numbers.add(leaf)
    return names, numbers


def holds(text: str, params: Mapping[str, Any], result: Results) -> bool:
    """Untellable says why nobody knows."""
    return bool(_value(_parsed(text), params, result))


@lru_cache(maxsize=256)
def _parsed(text: str) -> ast.expr:
    import ast

    try:
        if len(text) > LONGEST:
            raise Untellable(f"is longer than {LONGEST} characters")
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise Untellable("is no condition") from None


def _leaves(node: ast.expr) -> Iterator[str | int]:
    """Each parameter and each phase; Untellable at whatever is not part of the language."""
    if (name := _param(node)) is not None:
        yield name
    elif (number := _phase(node)) is not None:
        yield number
    elif not _is_value(node):
        for part in _parts(node):
            yield from _leaves(part)


def _is_value(node: ast.expr) -> bool:
    import ast

    if isinstance(node, ast.Name):
        return node.id in _WORDS
    return isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None)


def _parts(node: ast.expr) -> list[ast.expr]:
    import ast

    if isinstance(node, ast.BoolOp):
        return node.values
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        return [node.operand]
    if isinstance(node, ast.Compare) and all(type(op).__name__ in _COMPARE for op in node.ops):
        return [node.left, *node.comparators]
    if isinstance(node, ast.List | ast.Tuple):
        return node.elts
    if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
        return [node.value, node.slice]
    raise Untellable(f"holds {ast.unparse(node)[:40]!r}: {_KNOWN}")


def _param(node: ast.expr) -> str | None:
    import ast

    is_one = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
    return node.attr if is_one and isinstance(node, ast.Attribute) else None


def _phase(node: ast.expr) -> int | None:
    import ast

    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "result"):
        return None
    try:
        number = ast.literal_eval(node.args[0]) if len(node.args) == 1 and not node.keywords else None
    except ValueError:
        number = None
    if type(number) is not int:
        raise Untellable(f"holds {ast.unparse(node)[:40]!r}: write result(3), with the number of a phase")
    return number


def _value(node: ast.expr, params: Mapping[str, Any], result: Results) -> Any:
    import ast

    if (name := _param(node)) is not None:
        if name not in params:
            raise Untellable(f"asks for params.{name}, which the phase does not have")
        return params[name]
    if (number := _phase(node)) is not None:
        return result(number)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return _WORDS[node.id]
    return _combined(node, params, result)


def _kind(value: Any) -> str:
    """As JSON has them."""
    return "nothing" if value is None else _KINDS.get(type(value), type(value).__name__)


def _combined(node: ast.expr, params: Mapping[str, Any], result: Results) -> Any:
    import ast

    def value(part: ast.expr) -> Any:
        return _value(part, params, result)

    if isinstance(node, ast.BoolOp):
        return (any if isinstance(node.op, ast.Or) else all)(bool(value(part)) for part in node.values)
    try:
        if isinstance(node, ast.UnaryOp):
            return not value(node.operand) if isinstance(node.op, ast.Not) else -value(node.operand)
        if isinstance(node, ast.Compare):
            sides = [value(part) for part in (node.left, *node.comparators)]
            return all(_COMPARE[type(op).__name__](sides[at], sides[at + 1]) for at, op in enumerate(node.ops))
        if isinstance(node, ast.Subscript):
            return value(node.value)[value(node.slice)]
    except (KeyError, IndexError) as error:
        raise Untellable(f"asks for {ast.unparse(node)}, which is not there ({type(error).__name__})") from None
    except TypeError:
        kinds = " and ".join(f"{ast.unparse(part)} is {_kind(value(part))}" for part in _parts(node))
        raise Untellable(f"cannot tell {ast.unparse(node)}: {kinds}") from None
    return [value(part) for part in _parts(node)]
