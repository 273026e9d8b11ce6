"""Item: the number of one of the many that a phase fans out to. A number like any other, which knows whose it is.

So whatever runs, retries, recovers or counts phases does the same with items, and none of it has to know.
"""

from __future__ import annotations

import re

MOST_ITEMS = 1_000_000
_BASE = 10**12  # far beyond all phases
_SHIFT = 10**9  # phases lie on both sides of 0
_WRITTEN = re.compile(r"(-?\d{1,9})\[(\d{1,6})\]")


class Item(int):
    """Sorted behind all phases: by phase, then by place in the list. Written 4[17], as people ask for it."""

    __slots__ = ()

    @property
    def phase(self) -> int:
        return (int(self) - _BASE) // MOST_ITEMS - _SHIFT

    @property
    def index(self) -> int:
        return int(self) % MOST_ITEMS

    def __str__(self) -> str:
        return f"{self.phase}[{self.index}]"


def item(phase: int, index: int) -> Item:
    return Item(_BASE + (phase + _SHIFT) * MOST_ITEMS + index)


def phase_of(number: int) -> int:
    return number.phase if isinstance(number, Item) else number


def number_of(written: object) -> int:
    """4, "4", "-8", "4[17]"; ValueError for anything else."""
    if type(written) is int:
        return written
    if match := _WRITTEN.fullmatch(str(written)):
        return item(int(match[1]), int(match[2]))
    return int(str(written))


def is_number(written: object) -> bool:
    """Whether a document may say so: phases as numbers, items as text."""
    return type(written) is int or (type(written) is str and _WRITTEN.fullmatch(written) is not None)
