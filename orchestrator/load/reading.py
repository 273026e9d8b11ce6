"""What the readers of all keys have in common: what counts as a number, as a table, as JSON; and two plain readers."""

from __future__ import annotations

import math
from typing import Any

from orchestrator.load.definitions import Reader, Wrong, shown

LARGEST = 999_999_999  # of numbers of phases, tries and open files


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def is_table(value: object) -> bool:
    return isinstance(value, dict) and "" not in value


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def unfit(value: object) -> bool:
    """Whether it cannot be written as JSON: dates of TOML, what Python wrote and `{"": text}` stands for, infinity."""
    if isinstance(value, dict):
        return "" in value or any(map(unfit, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(unfit, value))
    return not (value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value)))


def at_least_one(key: str, example: int = 4) -> Reader:
    def read(value: Any, wrong: Wrong) -> Any:
        if not is_whole(value) or value < 1:
            return wrong(f"{key}: {shown(value)} is not a whole number above 0", f"{key} = {example}")
        return value

    return read


def switch(key: str, example: str = "true") -> Reader:
    def read(value: Any, wrong: Wrong) -> Any:
        if not isinstance(value, bool):
            return wrong(f"{key}: {shown(value)} is neither true nor false", f"{key} = {example}")
        return value

    return read
