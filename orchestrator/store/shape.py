"""Whether a document that is whole has the shape it should: a checksum that fits says nothing of what was summed up.

The shapes are those of the values: the annotations of a Value's fields say what may stand there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from orchestrator.core.cachekey import Made
from orchestrator.core.checkpoint import Checkpoint, Entry
from orchestrator.core.events import Event, RolledBack, Scope
from orchestrator.core.gate import Approval, Gate
from orchestrator.core.item import is_number, number_of
from orchestrator.core.names import Identity, epoch, short
from orchestrator.core.outcome import Failure
from orchestrator.core.phase import PhaseState
from orchestrator.core.state import RunState
from orchestrator.core.table import AWAITING, IN_PROGRESS, STATUSES, STEPS
from orchestrator.core.value import Value
from orchestrator.errors import CODES

Fits = Callable[[Any], bool]
Kind = tuple[frozenset[type], Fits]  # types all of whose values may stand there, and of any other value whether it may

_MOST = 2**53  # beyond, a number is no count, no time and no pid
_DIGEST = re.compile("[0-9a-f]{64}")
_SEVERAL = re.compile(r"(tuple|list|dict)\[(?:(?<=dict\[)str, )?(.+?)(?:, \.\.\.)?\]")
_VALUES: dict[str, type[Value]] = {
    "Scope": Scope, "Identity": Identity, "Failure": Failure, "Approval": Approval, "Gate": Gate, "Made": Made,
}  # fmt: skip


def check_fields(cls: type[Value], data: dict[str, Any], *, whole: bool = False) -> None:
    """ValueError names the field that cannot be one of `cls`."""
    kinds = _kinds(cls)
    for name, value in data.items():
        types, fits = kinds[name]
        if type(value) not in types and not fits(value):
            raise ValueError(f"{name} cannot be {short(value)}")
    if whole and (missing := sorted(kinds.keys() - data.keys() - cls._defaults.keys())):
        raise ValueError(f"{missing[0]} is missing")


def check_event(data: dict[str, Any]) -> None:
    cls = Event.kinds[data["event"]]
    check_fields(cls, {name: value for name, value in data.items() if name != "event"})
    if cls is RolledBack:
        check_fields(RunState, data["run"])
        _each(data["phases"], _check_phase)


def check_state(document: dict[str, Any]) -> None:
    """ValueError or KeyError where something in a snapshot is not what this orch could have put there."""
    for name in ("seq", "chain", "segment", "offset"):
        if not (_is_int(document[name]) and document[name] >= 0):
            raise ValueError(f"{name} cannot be {short(document[name])}")
    check_fields(RunState, document["run"])
    _each(document["agents"], lambda who: check_fields(Identity, who, whole=True))
    _each(document["answers"], lambda answer: _like(answer, _ANSWER))
    for run in document.get("runs", ()):
        _like(run, _RUN)
    for records in document.get("schedules", {}).values():
        for record in records:
            _like(record, _INSTANT)
    _each(document["phases"], _check_phase)
    _each(document.get("items", {}), _check_phase)


def _check_phase(data: dict[str, Any]) -> None:
    check_fields(PhaseState, data)
    status, step = data.get("status", "pending"), data.get("step")
    if status not in STATUSES or (status == IN_PROGRESS) != (step in STEPS) or (step is not None and step not in STEPS):
        raise ValueError(f"status and step cannot be {short(status)} and {short(step)}")
    if status == AWAITING and not data.get("gate"):
        raise ValueError("gate is missing")
    for error in data.get("errors", ()):
        _like(error, _ERROR)


def check_checkpoint(found: Checkpoint) -> None:
    """ValueError or KeyError where something in it could not come back."""
    check_fields(RunState, found.state["run"])
    _each(found.phases(), _check_phase)
    if not all(
        isinstance(epoch(found.timestamp), float) and _is_int(int(number_of(number))) for number in found.phases()
    ):
        raise ValueError(f"its phases cannot be {short(sorted(found.phases()))}")
    for entry in found.entries.values():
        for name, value in entry.__dict__.items():
            if type(value) is not type(_ENTRY[name]):
                raise ValueError(f"{name} of a file cannot be {short(value)}")
        if entry.path.startswith(("/", "system/")) or ".." in entry.path.split("/"):
            raise ValueError(f"{entry.path} is no place for an output")
        if entry.is_file and not _DIGEST.fullmatch(entry.digest):
            raise ValueError(f"{entry.path} has no digest")


_ENTRY = Entry("").__dict__


def _each(documents: Any, check: Callable[[dict[str, Any]], None]) -> None:
    for name, document in documents.items():
        try:
            check(document)
        except (KeyError, ValueError) as error:
            what = error.args[0] if error.args else type(error).__name__
            raise ValueError(f"{name}: {what}") from error


def _like(document: dict[str, Any], pattern: dict[str, Fits]) -> None:
    for name, fits in pattern.items():
        if not fits(document[name]):
            raise ValueError(f"{name} cannot be {short(document[name])}")


# ---- what may stand where


def _kinds(cls: type[Value]) -> dict[str, Kind]:
    found = _KNOWN.get(cls.__name__)
    if found is None:
        found = _KNOWN[cls.__name__] = _kinds_of(cls)
    return found


_KNOWN: dict[str, dict[str, Kind]] = {}


def _kinds_of(cls: type[Value]) -> dict[str, Kind]:
    told: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        told |= {name: kind for name, kind in getattr(one, "__annotations__", {}).items() if name in cls._fields}
    return {
        name: (_NOTHING, _is_time_or_none) if name.endswith("_at") else (_whole_types(kind), _fits(kind))
        for name, kind in told.items()
    }


def _whole_types(annotation: str) -> frozenset[type]:
    return frozenset(_WHOLE[word] for word in annotation.split(" | ") if word in _WHOLE)


def _fits(annotation: str) -> Fits:
    several = _SEVERAL.fullmatch(annotation)
    if several is None and " | " in annotation:
        left, _, right = annotation.rpartition(" | ")
        one, other = _fits(left), _fits(right)
        return lambda value: one(value) or other(value)
    if several is not None:
        inner, wanted = _fits(several[2]), dict if several[1] == "dict" else list
        if wanted is dict:
            return lambda value: type(value) is dict and all(map(inner, value.values()))
        return lambda value: type(value) is list and all(map(inner, value))
    if annotation in _VALUES:
        return _fits_value(_VALUES[annotation])
    return _SIMPLE[annotation]


def _fits_value(cls: type[Value]) -> Fits:
    def fits(value: Any) -> bool:
        if type(value) is not dict:
            return False
        kinds = _kinds(cls)
        return value.keys() <= kinds.keys() and all(kinds[name][1](item) for name, item in value.items())

    return fits


def _is_int(value: Any) -> bool:
    return type(value) is int and -_MOST <= value <= _MOST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_MOST <= value <= _MOST


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_time_or_none(value: Any) -> bool:
    if value is None or value == "":
        return True
    try:
        return type(value) is str and epoch(value) >= 0
    except (ValueError, OverflowError):
        return False


def _is_time(value: Any) -> bool:
    return bool(value) and _is_time_or_none(value)


def _is_code(value: Any) -> bool:
    return type(value) is str and value in CODES


_NOTHING = frozenset({type(None)})
_WHOLE: dict[str, type] = {"str": str, "bool": bool, "None": type(None)}
_SIMPLE: dict[str, Fits] = {
    "str": _is_text, "int": _is_int, "float": _is_number, "bool": lambda value: type(value) is bool,
    "Number": is_number, "None": lambda value: value is None, "Any": lambda value: True,
}  # fmt: skip
_ANSWER: dict[str, Fits] = {"verb": _is_text, "accepted": _SIMPLE["bool"], "text": _is_text, "at": _is_time_or_none}
_RUN: dict[str, Fits] = {
    "id": _is_text, "due": _is_text, "verdict": _is_text, "calls": _is_int, "done": _is_int, "total": _is_int,
    "started_at": _is_time_or_none, "finished_at": _is_time_or_none,
}  # fmt: skip
_INSTANT: dict[str, Fits] = {
    "due": _is_time, "how": _is_text, "why": _is_text, "run": _is_text, "missed": _SIMPLE["bool"], "count": _is_int,
    "last": _is_time_or_none, "at": _is_time,
}  # fmt: skip
_ERROR: dict[str, Fits] = {"code": _is_code, "message": _is_text}
