"""Preview: what a run would do with each phase now, and why; the run that follows does exactly this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.core import graph
from orchestrator.core.cachekey import NO_FILES, Difference, Made, Material
from orchestrator.core.carrying import carried, spared, standing, told
from orchestrator.core.events import Scope
from orchestrator.core.fanout import NotAList
from orchestrator.core.gate import ways
from orchestrator.core.names import short
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import (
    BLOCKED,
    DEPENDS,
    GOES_ON,
    KEEP,
    RUN,
    SKIP,
    WAIT,
    Plan,
    at_the_start,
    stays_failed,
    unchanged_since,
)
from orchestrator.core.state import State
from orchestrator.core.table import AWAITING, CANCELLED, COMPLETED, FAILED, IN_PROGRESS, PENDING, RETRY_WAIT, SKIPPED
from orchestrator.core.value import Value


class Step(Value):
    """What a run would do with one phase."""

    number: int
    name: str
    what: str
    why: str
    changed: Difference | None = None  # the first
    gates: tuple[int, ...] = ()  # whose approval has to come before it is done


_UNTOLD = (RUN, WAIT, DEPENDS, GOES_ON)  # of these nobody knows yet what will come out


def preview(
    plan: Plan, state: State, scope: Scope, materials: Mapping[int, Material] | None = None, *, new: bool = False,
    force: bool = False, params: Mapping[str, Any] | None = None,
) -> list[Step]:  # fmt: skip
    """For every phase: run, keep, wait or blocked, and why. The run that follows does exactly this."""
    looking = _Preview(plan, state, scope, materials or {}, new, force, state.run.params if params is None else params)
    for number in graph.order(plan.needs):
        looking.see(number)
    return [looking.steps[number] for number in sorted(looking.steps)]


class _Preview:
    """What a run would make of each phase, one after the other, each after those that it needs."""

    def __init__(
        self, plan: Plan, state: State, scope: Scope, materials: Mapping[int, Material], new: bool, force: bool,
        params: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.plan, self.state, self.scope, self.materials = plan, state, scope, materials
        self.new, self.force, self.params = new, force, params
        self.steps: dict[int, Step] = {}
        self._after: dict[int, PhaseState] = {}  # as they will be, where nothing runs
        self._above: dict[int, int] = {}  # of what is kept: the first that is done again before it is settled
        self._behind: dict[int, int] = {}  # of what is blocked by its needs: which phase it is all about

    def see(self, number: int) -> None:
        phase = at_the_start(self.state, number, self.new)
        what, why, changed = self._seen(number, phase)
        gates = self._gates(self._after[number], number, what)
        self.steps[number] = Step(number, self.plan.specs[number].name, what, why, changed, gates)
        if what == KEEP and phase.status != SKIPPED:
            for need in self._needs(number):
                if need in self.scope and self.steps[need].what not in (KEEP, SKIP, BLOCKED):
                    self._above.setdefault(number, need)

    def _needs(self, number: int) -> list[int]:
        """What it waits for: of a need that is kept, what that was made from, if it is done again."""
        return list(dict.fromkeys(self._above.get(need, need) for need in self.plan.specs[number].needs))

    def _gates(self, phase: PhaseState, number: int, what: str) -> tuple[int, ...]:
        if what in (KEEP, BLOCKED, SKIP):
            return ()
        asks = self.plan.asks_first(number, phase) or self.plan.asks_afterwards(number) is not None
        return (number,) if asks or phase.status == AWAITING else self._gates_above(number)

    def _gates_above(self, number: int) -> tuple[int, ...]:
        return tuple(sorted({gate for need in self._needs(number) for gate in self.steps[need].gates}))

    def _seen(self, number: int, phase: PhaseState) -> tuple[str, str, Difference | None]:
        self._after[number] = phase
        if phase.status == IN_PROGRESS:
            return GOES_ON, f"attempt {phase.attempt} is in progress", None
        if number not in self.scope:
            return KEEP, "outside the range, " + ("done" if phase.is_done else phase.status), None
        judged = not self.force and self.plan.is_judged(number, phase)
        if phase.is_done and not self.force and not judged:
            return KEEP, f"{phase.status} in this run", None
        if phase.status == AWAITING and not self.force:
            return WAIT, f"waits for {phase.gate.told() if phase.gate else 'approval'}: {ways(number)}", None
        held = [need for need in self._needs(number) if not _will_be_done(self.steps[need], self.plan, need)]
        if held:
            self._behind[number] = self._behind.get(held[0], held[0])
            return BLOCKED, "needs " + ", ".join(map(self._held, held[:3])), None
        if above := self._gates_above(number):
            are = "is" if len(above) == 1 else "are"
            return WAIT, f"until {' and '.join(map(str, above[:3]))} {are} approved", None
        if self.plan.specs[number].broken and not phase.is_done:
            return RUN, self.plan.specs[number].broken, None
        if judged or self.plan.specs[number].when:
            untold = [need for need in self._needs(number) if self.steps[need].what in _UNTOLD]
            found = self._open(number, untold[0], judged) if untold else self._weighed(number, phase, judged)
            if found is not None:
                return found
        what, why = self._to_run(number, phase)
        if what != BLOCKED and self.plan.asks_first(number, phase):
            return WAIT, "asks for approval before it runs", None
        return what, why, None

    def _held(self, need: int) -> str:
        """However long the chain, it is told what stands at its beginning."""
        root = self._behind.get(need, need)
        return (f"{need} " if root == need else f"{need}, behind {root} ") + f"({self.steps[root].why})"

    def _open(self, number: int, need: int, judged: bool) -> tuple[str, str, None]:
        if not judged:
            return DEPENDS, f"run if {self.plan.specs[number].when}", None
        return DEPENDS, f"kept if phase {need} comes out as before", None

    def _weighed(self, number: int, phase: PhaseState, judged: bool) -> tuple[str, str, Difference | None] | None:
        material = self.materials.get(number, NO_FILES)
        look = self._after.__getitem__
        if not judged:
            ruled_out = self.plan.ruled_out(number, self.params, look)
            return None if ruled_out is None else self._skipped(number, phase, ruled_out)
        weighed = self.plan.weigh(number, phase, self.params, material, look)
        if weighed.what == SKIP:
            return self._skipped(number, phase, weighed.why)
        if weighed.what == RUN and self.plan.asks_first(number, phase.replace(gate=None)):
            self._after[number] = phase.replace(gate=None)
            return WAIT, f"asks for approval before it runs: {weighed.why}", weighed.changed
        if weighed.what == RUN:
            return RUN, weighed.why + self._of_items(number, phase, weighed.changed is not None), weighed.changed
        if phase.is_done:
            return KEEP, f"{phase.status} in this run", None
        made = phase.made or Made("", {})
        self._after[number] = phase.replace(status=COMPLETED, outputs={"result": made.result})
        return KEEP, unchanged_since(made.run or self.state.run.id), None

    def _of_items(self, number: int, phase: PhaseState, was_whole: bool) -> str:
        """How many items would run, and the first of them, where some are kept and the list is known by now."""
        settled = all(self.steps[need].what not in _UNTOLD for need in self._needs(number))
        material = self.materials.get(number, NO_FILES)
        unseen = number not in self.materials and self.plan.has_files(number, phase.made)
        if self.force or unseen or not settled or not self.plan.keeps_items(number):
            return ""
        before = self.state.items_of(number)
        if self.new:
            before = {place: spared(one, self.state.run.id) for place, one in before.items()}
        has_more = was_whole or any(one.status == PENDING and standing(one) for one in before.values())
        if has_more and not self.plan.outputs_stand(number, phase.made, material):
            return ""
        try:
            items, keys = self.plan.fan(number, self.params, material, self._after.__getitem__)
        except NotAList:
            return ""
        found = carried(before, phase.keys, keys)
        place = found.first
        first = "" if place is None else f" (the first is {number}[{place}]: {short(items[place])})"
        return f"; {told(found, first)}" if found.kept else ""

    def _skipped(self, number: int, phase: PhaseState, why: str) -> tuple[str, str, None]:
        self._after[number] = phase.replace(status=SKIPPED, outputs=None)
        return (KEEP, f"{phase.status} in this run", None) if phase.status == SKIPPED else (SKIP, why, None)

    def _to_run(self, number: int, phase: PhaseState) -> tuple[str, str]:
        if phase.is_done:
            return RUN, "--force"
        if not self.new and (final := stays_failed(self.plan, number, phase)):
            return BLOCKED, final
        if self.new or (not phase.attempts and phase.items is None and phase.status != FAILED):
            fans = f"; for each of {self.plan.specs[number].foreach}" if self.plan.fans_out(number) else ""
            kept = self._of_items(number, phase, False)
            return RUN, ("a new run" if self.new else "not run yet") + (kept or fans)
        if phase.items is not None and phase.status == PENDING:
            return RUN, f"of its {len(phase.items)} items not all are done"
        if phase.status == RETRY_WAIT:
            return WAIT, f"retry due {phase.retry_at}"
        return RUN, {FAILED: "it failed", CANCELLED: "it was cancelled"}.get(phase.status, phase.why or phase.status)


def _will_be_done(step: Step, plan: Plan, number: int) -> bool:
    if step.what == KEEP:
        return not step.why.startswith("outside the range") or step.why.endswith("done")
    return step.what != BLOCKED and not plan.specs[number].broken
