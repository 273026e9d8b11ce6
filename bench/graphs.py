"""The workloads as graphs, alike for every tool: tasks with what they need and the process that each starts."""

from __future__ import annotations

import random
from typing import NamedTuple

NOTHING = ("true",)
A_MOMENT = ("sleep", "0.25")
SEED = 7


class Task(NamedTuple):
    name: str
    needs: tuple[str, ...]
    argv: tuple[str, ...]


def chain(length: int) -> list[Task]:
    return [Task(f"t{at:03d}", (f"t{at - 1:03d}",) if at else (), NOTHING) for at in range(length)]


def layered(layers: int, width: int, argv: tuple[str, ...] = NOTHING) -> list[Task]:
    """Each needs three of the layer before, chosen by a fixed seed."""
    dice, before, tasks = random.Random(SEED), list[str](), list[Task]()
    for layer in range(layers):
        names = [f"t{layer:03d}_{at:03d}" for at in range(width)]
        tasks += [Task(name, tuple(sorted(dice.sample(before, min(3, len(before))))), argv) for name in names]
        before = names
    return tasks


def of_size(phases: int) -> list[Task]:
    """Layers of the same kind for any number of phases; what grows is only how many there are."""
    width = max(1, min(phases, 50))
    return layered(-(-phases // width), width)[:phases]


GRAPHS = {
    "chain24": lambda: chain(24),
    "layered1000": lambda: layered(20, 50),
    "layered10000": lambda: layered(100, 100),
    "sleepy": lambda: layered(8, 5, A_MOMENT),
}
