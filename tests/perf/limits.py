"""How much a phase may ask of the kernel: the one place where it is said, a little above what it does ask today.

Whoever makes a phase cheaper lowers them; whoever has to raise one says in the commit what it buys.
"""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """For each phase of the run, between the end of the first attempt and that of the last."""

    orchestrator: float  # system calls
    hands: float  # of the agent and of what it keeps ready
    attempts: float
    syncs: float  # of all
    written: float  # bytes into files, by all
    processes: float


CHAIN = Limits(orchestrator=50, hands=125, attempts=90, syncs=3.0, written=40_000, processes=1.1)
LAYERS = Limits(orchestrator=32, hands=100, attempts=90, syncs=2.5, written=12_000, processes=1.1)
