"""What the readers of all keys have in common: how a wrong value is named, and what counts as a number or a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Wrong = Callable[[str, str], Any]
"""Takes what is wrong with a value and what to write instead; gives None, the value that is left."""

Reader = Callable[[Any, Wrong], Any]

LARGEST = 999_999_999  # of numbers of phases, tries and open files


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def shown(value: object) -> str:
    if isinstance(value, dict) and len(value) == 1 and "" in value:  # what Python wrote and JSON cannot hold
        return str(value[""])
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out a number of more than 4300 digits
        return "a number too long to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


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
