"""What the readers of all keys have in common: what counts as a number, as a table, as JSON."""

from __future__ import annotations

import math

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
