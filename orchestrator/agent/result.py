"""What a command left in $ORCH_RESULT: nothing, JSON, or a mistake, which must neither block nor flood the agent."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from orchestrator.agent.channel import LARGEST_RESULT
from orchestrator.core.outcome import Failure


def read_result(path: str) -> tuple[Failure | None, Any]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, None
    except OSError as fault:
        return _not_valid(f"cannot be read: {fault.strerror}")
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return _not_valid("is no regular file any more")
        data = file.read(LARGEST_RESULT + 1)
    if len(data) > LARGEST_RESULT:
        return _not_valid(f"holds more than {LARGEST_RESULT} bytes: write a file, and its path in here")
    return parse(data)


def parse(data: bytes) -> tuple[Failure | None, Any]:
    if not data.strip():
        return None, None
    try:
        return None, json.loads(data, parse_constant=_refuse)
    except json.JSONDecodeError as fault:
        return _not_valid(f"is not JSON: {fault.msg} at line {fault.lineno}, column {fault.colno}")
    except (ValueError, RecursionError) as fault:
        return _not_valid(f"is not JSON: {fault}")


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _not_valid(what: str) -> tuple[Failure, None]:
    return Failure("VALIDATION", f"$ORCH_RESULT {what}"), None
