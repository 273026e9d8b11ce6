"""Plan: the phases, their graph, the rules they run under, and what each of them is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any

from orchestrator.core import condition, graph, retry
from orchestrator.core.actions import Measure
from orchestrator.core.cachekey import (
    FAMILIES,
    Difference,
    Made,
    Material,
    compared,
    difference,
    digest,
    ingredients,
    item_keys,
    needed,
)
from orchestrator.core.events import Scope
from orchestrator.core.fanout import items_in, pool_of, spread, without_list
from orchestrator.core.gate import AFTER, BEFORE, REJECTED, Approval
from orchestrator.core.item import Item
from orchestrator.core.names import AttemptId
from orchestrator.core.phase import PhaseState, anew
from orchestrator.core.pools import Wants, wants_of
from orchestrator.core.spec import RetryRule, Spec
from orchestrator.core.state import State
from orchestrator.core.table import APPROVED, COMPLETED, FAILED, PENDING, SKIPPED
from orchestrator.core.value import Value
from orchestrator.core.wire import Order

RUN, KEEP, BLOCKED, WAIT, GOES_ON = "run", "keep", "blocked", "wait", "goes on"
DEPENDS, SKIP = "depends", "skip"  # kept if what it needs comes out as before; its condition does not hold
BY_RULE = "its `when` does not hold: "
LookAt = Callable[[int], PhaseState]
NET_MARGIN = 30.0  # how much later than the agent the loop's own net strikes
CHECKPOINT_SECONDS = 3600.0  # what a checkpoint before it may take
READING = 900.0  # and for how long the agent may read what the attempt has made


class Rules(Value):
    """The settings that decisions depend on."""

    jobs: int = 4
    timeout: float = 3600.0
    kill_grace: float = 5.0
    heartbeat_timeout: float = 120.0
    stale_after: float = 7200.0
    log_bytes: int = 10_000_000
    retry: dict[str, RetryRule] = {}  # noqa: RUF012  a frozen value
    pools: dict[str, int] = {}  # noqa: RUF012  how many tokens there are of each
    params: dict[str, Any] = {}  # noqa: RUF012  the parameters that a run may be given, with their defaults


class Weighed(Value):
    """What becomes of a phase whose needs are done: it is kept, skipped or run, and why."""

    what: str
    why: str = ""
    changed: Difference | None = None


class Plan:
    """Built once from the definitions; everything that many phases would make slow is worked out here."""

    def __init__(
        self, specs: Iterable[Spec], rules: Rules, digest: str, items: Mapping[Item, Spec] | None = None
    ) -> None:
        self.specs = {spec.number: spec for spec in specs}
        self.items = items or {}  # of what has fanned out
        self.rules = rules.replace(retry={**retry.default_rules(), **rules.retry})
        self.digest = digest
        everything = dict[int, Spec]([*self.specs.items(), *self.items.items()])
        self.needs = {number: spec.needs for number, spec in everything.items()}
        for number, own in self.items_of.items():
            self.needs[number] = (*self.needs[number], *own)
        self.dependents = graph.dependents(self.needs)
        self.wants = {number: wants for number, spec in everything.items() if (wants := wants_of(spec))}

    def spread(self, state: State) -> Plan:
        """With the items of what has fanned out by now."""
        items = spread(self.specs.values(), state)
        most = {pool_of(spec.number): spec.max_parallel for spec in self.specs.values() if spec.max_parallel}
        rules = self.rules.replace(pools={**self.rules.pools, **most})
        return Plan(self.specs.values(), rules, self.digest, items) if items or self.items else self

    @cached_property
    def items_of(self) -> dict[int, list[Item]]:
        found: dict[int, list[Item]] = {}
        for number in self.items:
            found.setdefault(number.phase, []).append(number)
        return found

    def spec(self, number: int) -> Spec | None:
        """Of a phase or an item."""
        return self.items.get(number) if isinstance(number, Item) else self.specs.get(number)

    def fans_out(self, number: int) -> bool:
        spec = self.specs.get(number)
        return spec is not None and spec.foreach is not None

    def wants_of(self, number: int) -> Wants:
        return self.wants.get(number, ())

    def asks_first(self, number: int, phase: PhaseState) -> bool:
        """Whether a person has to say yes before it may run, and has not, for this plan."""
        spec = self.specs.get(number)
        if spec is None or spec.approval is None or spec.approval.when != BEFORE:
            return False
        return phase.gate is None or not phase.gate.lets_pass(self.digest)

    def asks_afterwards(self, number: int) -> Approval | None:
        spec = self.specs.get(number)
        return spec.approval if spec and spec.approval and spec.approval.when == AFTER else None

    def timeout(self, number: int) -> float:
        spec = self.spec(number)
        return spec.timeout if spec and spec.timeout is not None else self.rules.timeout

    def net_seconds(self, number: int) -> float:
        """When the loop itself looks after an attempt that its agent should have ended long ago."""
        spec = self.specs.get(number)
        first = CHECKPOINT_SECONDS if spec is not None and spec.checkpoint else 0.0
        reading = READING if spec is not None and spec.outputs else 0.0
        return first + self.timeout(number) + self.rules.kill_grace + NET_MARGIN + reading

    def titles(self) -> dict[str, list[str]]:
        return {str(number): [spec.name, spec.title] for number, spec in sorted(self.specs.items())}

    def _known(self, number: int) -> Spec:
        return self.items[number] if isinstance(number, Item) else self.specs[number]

    @cached_property
    def rank(self) -> dict[int, int]:
        """Of each phase: all that it needs come before it."""
        return {number: place for place, number in enumerate(graph.order(self.needs))}

    def params(self, number: int, of_run: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the phase, with the values that they have in this run."""
        own = self._known(number).params
        known = {**self.rules.params, **of_run} if own else {}
        return {name: _resolved(value, known) for name, value in own.items()}

    def ingredients(self, number: int, of_run: Mapping[str, Any], material: Material, look: LookAt) -> dict[str, str]:
        spec = self._known(number)
        return ingredients(spec, self.params(number, of_run), material, lambda need: _yields(look(need)))

    def _needed(self, number: int, of_run: Mapping[str, Any], material: Material, look: LookAt) -> dict[str, str]:
        return needed(self._known(number), lambda need: _yields(look(need)))

    def is_comparable(self, number: int, made: Made | None) -> bool:
        """Can its last success stand, if nothing has changed? Where files are not declared, only within its run."""
        spec = self.specs.get(number)
        if spec is None or spec.broken or made is None or not made.yields or made.recipe not in FAMILIES:
            return False
        if spec.approval is not None and made.run:
            return False  # a person said yes to that run, and to what it was made from
        if spec.foreach is not None and (not made.key.partition(":")[2] or (made.failed and made.run)):
            return False  # an older orch did not say what it was made of; what failed is tried again by a new run
        return spec.cache is True or (spec.cache is None and not made.run)

    def is_judged(self, number: int, phase: PhaseState) -> bool:
        """Is it compared before it may stay done, or be run?"""
        if phase.status == SKIPPED:
            return (number in self.specs and bool(self.specs[number].when)) and (phase.why or "").startswith(BY_RULE)
        return phase.status in (PENDING, COMPLETED, APPROVED) and self.is_comparable(number, phase.made)

    def weigh(
        self, number: int, phase: PhaseState, of_run: Mapping[str, Any], material: Material, look: LookAt
    ) -> Weighed:
        spec = self.specs[number]
        if (ruled_out := self.ruled_out(number, of_run, look)) is not None:
            return Weighed(SKIP, ruled_out)
        if phase.status == SKIPPED or phase.made is None or not self.is_comparable(number, phase.made):
            return Weighed(RUN, f"its `when` holds: {spec.when}")
        # of a phase that declares nothing only what it needs is compared: the rest need not be worked out
        all_of_it = self.ingredients if spec.cache else self._needed
        now = compared(spec, all_of_it(number, of_run, material, look))
        changed = difference(spec, phase.made, now, material)
        return Weighed(RUN, str(changed), changed) if changed else Weighed(KEEP, phase.made.run)

    def keeps_items(self, number: int) -> bool:
        """Where it fans out again, is each item judged by itself?"""
        spec = self.specs.get(number)
        return spec is not None and spec.foreach is not None and spec.cache is True

    def fan(
        self, number: int, of_run: Mapping[str, Any], material: Material, look: LookAt
    ) -> tuple[tuple[Any, ...], tuple[str, ...]]:
        """What it fans out to, and a key for each where that may be kept by itself; NotAList says why nobody knows."""
        spec, params = self.specs[number], self.params(number, of_run)
        assert spec.foreach is not None
        found = items_in(spec.foreach, look, params, material)
        if not self.keeps_items(number):
            return found, ()
        source, keys = spec.foreach.result, spec.foreach

        def yields(need: int) -> str:
            phase = look(need)
            if need != source or not phase.made:
                return _yields(phase)
            return digest([without_list(keys, result_of(phase)), phase.made.files])

        return found, item_keys(spec, params, material, yields, found)

    def outputs_stand(self, number: int, made: Made | None, material: Material) -> bool:
        """Are its outputs known to be what all of its items left?"""
        return not self.specs[number].outputs or (
            made is not None and made.files != "" and made.files == material.outputs
        )

    def compared(self, number: int, made_of: Mapping[str, str]) -> dict[str, str]:
        return compared(self._known(number), made_of)

    def ruled_out(self, number: int, of_run: Mapping[str, Any], look: LookAt) -> str | None:
        """Why it is skipped; None if it is not. Of what cannot be told its attempt will say so."""
        when = self._known(number).when
        try:
            holds = not when or condition.holds(when, self.params(number, of_run), lambda need: result_of(look(need)))
        except condition.Untellable:
            return None
        return None if holds else BY_RULE + when

    def question(self, number: int, made: Made | None) -> Measure:
        """What is to be found out on the disk before a phase can be judged, or begun."""
        spec, of = self.specs[number], made.of if made else {}
        over = spec.foreach.files if spec.foreach and spec.cache else ""
        if made is None or not self.is_comparable(number, made):
            outputs = spec.outputs if self.keeps_items(number) else ()
            return Measure(number, spec.inputs, outputs, over=over)
        was = of.get("inputs", ""), made.files
        return Measure(number, spec.inputs, spec.outputs, *was, over=over, was_over=of.get("over", ""))

    def has_files(self, number: int, made: Made | None) -> bool:
        spec = self._known(number)
        if spec.foreach is not None and spec.cache and (spec.foreach.files or spec.outputs):
            return True
        return spec.cache is True and bool(spec.inputs or (made is not None and spec.outputs))

    def questions(self, state: State, scope: Scope, *, new: bool = False) -> list[Measure]:
        """For all that is to be judged at the beginning of a call."""
        found = []
        for number in self.specs:
            phase = at_the_start(state, number, new)
            fans_out_again = self.keeps_items(number) and not phase.is_done and self.has_files(number, phase.made)
            if number in scope and (fans_out_again or self.is_judged(number, phase)):
                found.append(self.question(number, phase.made))
        return found

    def order(
        self, attempt: AttemptId, due: str, look: LookAt, of_run: Mapping[str, Any] = {}
    ) -> Order:  # fmt: skip
        """All that an agent needs for this attempt; `look` gives the phases as they are by now."""
        spec = self._known(attempt.phase)
        results = {str(need): result_of(look(need)) for need in spec.needs}
        return Order(
            attempt=attempt, name=spec.name, file=spec.file, digest=spec.digest, run=spec.run, isolation=spec.isolation,
            timeout=self.timeout(attempt.phase), heartbeat_timeout=spec.heartbeat_timeout,
            kill_grace=self.rules.kill_grace, cwd=spec.cwd, env=spec.env, limits=spec.limits, due=due,
            trace=_trace(attempt), results=results, log=f"system/logs/phases/{attempt.phase}/{attempt.number}.log",
            log_bytes=self.rules.log_bytes, broken=spec.broken or self._untellable(attempt.phase, of_run, look),
            outputs=spec.outputs, params=self.params(attempt.phase, of_run), item=spec.item,
            secrets=spec.secrets,
        )  # fmt: skip

    def _untellable(self, number: int, of_run: Mapping[str, Any], look: LookAt) -> str:
        when = self._known(number).when
        try:
            if when:
                condition.holds(when, self.params(number, of_run), lambda need: result_of(look(need)))
        except condition.Untellable as fault:
            return f"its `when` {fault}"
        return ""

    def unmet_outside(self, scope: Scope, state: State) -> dict[int, list[int]]:
        """Needs of phases in the range that lie outside of it and are not done: need -> who needs it."""
        missing: dict[int, list[int]] = {}
        for number in self.specs:
            if number in scope and not state.phase(number).is_done:
                for need in self.needs[number]:
                    if need not in scope and not state.phase(need).is_done:
                        missing.setdefault(need, []).append(number)
        return missing


def unchanged_since(run: str) -> str:
    return f"unchanged since run {run}"


def at_the_start(state: State, number: int, new: bool) -> PhaseState:
    """The phase as this call, or a new run, begins with it."""
    phase = state.phase(number)
    return anew(phase, state.run.id) if new and not phase.is_live else phase


def _yields(phase: PhaseState) -> str:
    if phase.status == SKIPPED:
        return SKIPPED
    return phase.made.yields if phase.is_done and phase.made else ""


def result_of(phase: PhaseState) -> Any:
    return (phase.outputs or {}).get("result")


def taken_from_run(params: Mapping[str, Any]) -> set[str]:
    """The names of the run's parameters that a phase's parameters stand for."""
    texts = [text for value in params.values() for text in (value if isinstance(value, list | tuple) else [value])]
    return {text[1:] for text in texts if isinstance(text, str) and is_of_run(text)}


def is_of_run(text: str) -> bool:
    """Whether this value of a phase's parameter stands for one of the run."""
    return text[:1] == "$" and text[:2] != "$$"


def _resolved(value: Any, known: Mapping[str, Any]) -> Any:
    """`$year` is the run's parameter of that name; `$$` at the beginning is one $."""
    if isinstance(value, list | tuple):
        return [_resolved(each, known) for each in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    return value[1:] if value.startswith("$$") else known[value[1:]]


def stays_failed(plan: Plan, number: int, phase: PhaseState) -> str:
    """Why not even the next run tries this phase again by itself; empty if it does."""
    if phase.status == FAILED and phase.interruptions > plan.rules.retry[retry.INTERRUPTED].tries:
        return f"interrupted {phase.interruptions} times in a row; `orch retry {number}` runs it again"
    if phase.status == FAILED and phase.gate is not None and phase.gate.verdict == REJECTED:
        return f"{phase.gate.decided()}; `orch retry {number}` asks again"
    return ""


def _trace(attempt: AttemptId) -> str:
    """W3C trace context, the same whoever computes it: the run is the trace, the attempt the span."""
    span = hashlib.sha256(attempt.key.encode()).hexdigest()[:16]
    return f"00-{_trace_of(attempt.run)}-{span}-01"


@lru_cache(maxsize=1)
def _trace_of(run: str) -> str:
    return hashlib.sha256(run.encode()).hexdigest()[:32]
