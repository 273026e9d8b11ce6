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


# On a busy machine a phase takes long enough for its beginning to be a line, and a wake-up, of its own: there is room for that.
CHAIN = Limits(orchestrator=36, hands=95, attempts=46, syncs=2.2, written=30_000, processes=1.1)
LAYERS = Limits(orchestrator=24, hands=90, attempts=46, syncs=2.2, written=12_000, processes=1.1)
