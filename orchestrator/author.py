"""What an author writes: the `phase` decorator. It only notes; checks are made where all that was written is known."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.core.value import Value

MARK = "__orch_phases__"


class Registered(Value):
    """One use of the decorator: the function, the keys as they were written, and the place that caused it."""

    function: Callable[..., object]
    keys: dict[str, Any]
    file: str  # absolute; of the file whose execution led to it, also when a helper's function called the decorator
    line: int
    extra: tuple[Any, ...] = ()  # positional arguments that mean nothing


Registry = dict[str, list[Registered]]  # by file

_open: list[Registry] = []  # the registry of the import in progress; empty outside one


@contextmanager
def collecting(registry: Registry) -> Iterator[None]:
    """While this is open, phases that are defined land in `registry`; outside, the decorator only marks functions."""
    _open.append(registry)
    try:
        yield
    finally:
        _open.pop()


def phase(*args: Any, **keys: Any) -> Any:
    """Make a phase of a function that takes a Context: `@phase(3, needs=[1, 2], timeout="10m")`."""
    file, line = _caused_by()
    if len(args) == 1 and not keys and callable(args[0]):  # a bare @phase: kept, so that it can be named as a fault
        return _note(args[0], {}, (), file, line)
    if args and "number" not in keys:
        keys, args = {"number": args[0], **keys}, args[1:]
    return lambda function: _note(function, keys, args, file, line)


def _note(function: Any, keys: dict[str, Any], extra: tuple[Any, ...], file: str, line: int) -> Any:
    if _open:
        _open[-1].setdefault(file, []).append(Registered(function, keys, file, line, extra))
    try:
        setattr(function, MARK, (*getattr(function, MARK, ()), keys))
    except AttributeError:  # a built-in cannot be marked, and need not be
        pass
    return function


def _caused_by() -> tuple[str, int]:
    """File and line of the innermost file that is being executed, through any number of calls."""
    frame = sys._getframe(2)
    while frame.f_code.co_name != "<module>" or frame.f_code.co_filename.startswith("<"):
        if frame.f_back is None:
            return "", 0
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
