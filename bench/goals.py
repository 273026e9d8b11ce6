"""How far orch may lag: each workload beside whoever is best at it, and whether the figures say that it is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
OWN = "orch's own"


class Bound(NamedTuple):
    """At most `times` what another takes in the same workload, or `row` names one; without `of` so many seconds."""

    times: float
    of: str = ""
    row: str = ""
    said: str = ""

    def limit(self, rows: Rows, row: str, measure: str) -> float | None:
        if not self.of:
            return self.times
        tool = "orch" if self.of == OWN else self.of
        found = rows.get(self.row or row, {}).get(tool, {}).get(measure)
        return None if found is None else self.times * float(found)

    @property
    def words(self) -> str:
        return f"{self.times:g} s" if not self.of else f"{self.times:g} x {self.of}{self.said}"


class Goal(NamedTuple):
    title: str
    row: str
    bounds: Sequence[Bound]
    measure: str = "wall"

    def limit(self, rows: Rows) -> float | None:
        """The tightest of those whose tool was measured."""
        known = [limit for bound in self.bounds if (limit := bound.limit(rows, self.row, self.measure)) is not None]
        return min(known, default=None)

    def ours(self, rows: Rows) -> float | None:
        found = rows.get(self.row, {}).get("orch", {}).get(self.measure)
        return None if found is None else float(found)


GOALS = (
    Goal("24 in a chain", "chain24 cold", [Bound(1.5, "Luigi")]),
    Goal("1,000 in 20 layers, 2 slots", "layered1000 cold", [Bound(1.7, "ninja"), Bound(3, "floor")]),
    Goal("The same 1,000 again: nothing to do", "layered1000 again", [Bound(1.5, "doit")]),
    Goal("Show the state of 24", "chain24 state", [Bound(1.5, "doit")]),
    Goal("10,000 in 100 layers, 2 slots", "layered10000 cold", [Bound(11, OWN, "layered1000 cold", " 1,000")]),
    Goal("The same 10,000 again: nothing to do", "layered10000 again", [Bound(1, "doit")]),
    Goal("40 sleeps of 0.25 s, 8 layers of 5, 2 slots", "sleepy cold", [Bound(5.25)]),
    Goal(
        "`orch cron fire`, nothing due: processor time", "chain24 fire",
        [Bound(2, "doit", "chain24 again", " with nothing to do")], "processor",
    ),
)  # fmt: skip

MEMORY = {1_000: 100.0, 10_000: 300.0}  # phases: MiB of all processes of orch together
