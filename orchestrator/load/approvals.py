"""The key `approval`: apart from the other keys, because it is a table of its own with rules between its fields."""

from __future__ import annotations

from typing import Any

from orchestrator.core.gate import AFTER, APPROVE, BEFORE, DENY, Approval
from orchestrator.core.names import nearest, seconds
from orchestrator.load.definitions import Reader, Wrong, shown

LONGEST = 200  # characters of `show`
_KEYS = ("when", "deadline", "default", "who", "show")
_EXAMPLE = 'approval = { when = "after", deadline = "2h", who = ["ann"] }'


def approval(value: Any, wrong: Wrong) -> Any:
    """true, "before", "after", or a table; None where nobody is asked, or something is wrong."""
    if isinstance(value, bool):
        return Approval() if value else None
    if isinstance(value, str):
        return Approval(value) if _is_when(value, wrong) else None
    if not isinstance(value, dict) or "" in value:
        return wrong(f"approval: {shown(value)} is neither true, before, after nor a table", _EXAMPLE)
    return _table(value, wrong)


def _table(value: dict[str, Any], wrong: Wrong) -> Any:
    fields: dict[str, Any] = {}
    faults = 0

    def told(message: str, hint: str) -> None:
        nonlocal faults
        faults += 1
        wrong(message, hint)

    for key, given in value.items():
        if key not in _READ:
            near = nearest(key, list(_KEYS))
            told(f"approval: unknown key {key}", f"did you mean {near}?" if near else f"known are {', '.join(_KEYS)}")
        elif given is not None:
            fields[key] = _READ[key](given, told)
    if "default" in fields and "deadline" not in value:
        told("approval: default: without a deadline nothing is decided by default", 'deadline = "2h"')
    return None if faults else Approval(**fields)


def _when(value: Any, wrong: Wrong) -> Any:
    return value if _is_when(value, wrong) else None


def _is_when(value: object, wrong: Wrong) -> bool:
    if value not in (BEFORE, AFTER):
        wrong(f"approval: {shown(value)} is neither before nor after", 'approval = "before", or "after"')
        return False
    return True


def _deadline(value: Any, wrong: Wrong) -> Any:
    try:
        found = seconds(value)
    except (ValueError, OverflowError):
        return wrong(f"approval: deadline: {shown(value)} is not a duration", 'write seconds, or "10m", "2h", "1d"')
    return found if found > 0 else wrong("approval: deadline: must be more than 0", 'deadline = "2h"')


def _default(value: Any, wrong: Wrong) -> Any:
    if value not in (APPROVE, DENY):
        return wrong(f"approval: default: {shown(value)} is neither deny nor approve", 'default = "deny"')
    return value


def _who(value: Any, wrong: Wrong) -> Any:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names:
        return wrong(f"approval: who: {shown(value)} is not a list of accounts", 'who = ["ann", "bob"]')
    for name in names:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            return wrong(f"approval: who: {shown(name)} is not the name of an account", 'who = ["ann", "bob"]')
    return tuple(dict.fromkeys(names))


def _show(value: Any, wrong: Wrong) -> Any:
    if not isinstance(value, str) or not value.isprintable() or len(value) > LONGEST:
        return wrong(f"approval: show: {shown(value)} is not one line of at most {LONGEST} characters", 'show = "..."')
    return value


_READ: dict[str, Reader] = {
    "when": _when, "deadline": _deadline, "default": _default, "who": _who, "show": _show,
}  # fmt: skip
