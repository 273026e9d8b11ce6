"""Plan: the phases, their graph and the rules they run under; and what a run of it would do now, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from orchestrator.core import condition, graph, retry
from orchestrator.core.actions import Measure
from orchestrator.core.cachekey import FAMILIES, NO_FILES, Difference, Made, Material, compared, difference, ingredients
from orchestrator.core.events import Scope
from orchestrator.core.names import AttemptId
from orchestrator.core.pools import Wants, wants_of
from orchestrator.core.spec import RetryRule, Spec
from orchestrator.core.state import PhaseState, State, anew
from orchestrator.core.table import CANCELLED, COMPLETED, FAILED, IN_PROGRESS, PENDING, RETRY_WAIT, SKIPPED
from orchestrator.core.value import Value
from orchestrator.core.wire import Order

RUN, KEEP, BLOCKED, WAIT, GOES_ON = "run", "keep", "blocked", "wait", "goes on"
DEPENDS, SKIP = "depends", "skip"  # kept if what it needs comes out as before; its condition does not hold
BY_RULE = "its `when` does not hold: "
LookAt = Callable[[int], PhaseState]
NET_MARGIN = 30.0  # how much later than the agent the loop's own net strikes
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


class Step(Value):
    """What a run would do with one phase."""

    number: int
    name: str
    what: str
    why: str
    changed: Difference | None = None  # the first


class Weighed(Value):
    """What becomes of a phase whose needs are done: it is kept, skipped or run, and why."""

    what: str
    why: str = ""
    changed: Difference | None = None


class Plan:
    """Built once from the definitions; everything that many phases would make slow is worked out here."""

    def __init__(self, specs: Iterable[Spec], rules: Rules, digest: str) -> None:
        self.specs = {spec.number: spec for spec in specs}
        self.rules = rules.replace(retry={**retry.default_rules(), **rules.retry})
        self.digest = digest
        self.needs = {number: spec.needs for number, spec in self.specs.items()}
        self.dependents = graph.dependents(self.needs)
        self.wants = {number: wants for number, spec in self.specs.items() if (wants := wants_of(spec))}

    def wants_of(self, number: int) -> Wants:
        return self.wants.get(number, ())

    def timeout(self, number: int) -> float:
        spec = self.specs.get(number)
        return spec.timeout if spec and spec.timeout is not None else self.rules.timeout

    def net_seconds(self, number: int) -> float:
        """When the loop itself looks after an attempt that its agent should have ended long ago."""
        reading = READING if number in self.specs and self.specs[number].outputs else 0.0
        return self.timeout(number) + self.rules.kill_grace + NET_MARGIN + reading

    def titles(self) -> dict[str, list[str]]:
        return {str(number): [spec.name, spec.title] for number, spec in sorted(self.specs.items())}

    @cached_property
    def rank(self) -> dict[int, int]:
        """Of each phase: all that it needs come before it."""
        return {number: place for place, number in enumerate(graph.order(self.needs))}

    def params(self, number: int, of_run: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the phase, with the values that they have in this run."""
        known = {**self.rules.params, **of_run}
        return {name: _resolved(value, known) for name, value in self.specs[number].params.items()}

    def ingredients(self, number: int, of_run: Mapping[str, Any], material: Material, look: LookAt) -> dict[str, str]:
        spec = self.specs[number]
        return ingredients(spec, self.params(number, of_run), material, lambda need: _yields(look(need)))

    def is_comparable(self, number: int, made: Made | None) -> bool:
        """Can its last success stand, if nothing has changed? Where files are not declared, only within its run."""
        spec = self.specs.get(number)
        if spec is None or spec.broken or made is None or not made.yields or made.recipe not in FAMILIES:
            return False
        return spec.cache is True or (spec.cache is None and not made.run)

    def is_judged(self, number: int, phase: PhaseState) -> bool:
        """Is it compared before it may stay done, or be run?"""
        if phase.status == SKIPPED:
            return (number in self.specs and bool(self.specs[number].when)) and (phase.why or "").startswith(BY_RULE)
        return phase.status in (PENDING, COMPLETED) and self.is_comparable(number, phase.made)

    def weigh(
        self, number: int, phase: PhaseState, of_run: Mapping[str, Any], material: Material, look: LookAt
    ) -> Weighed:
        spec = self.specs[number]
        if (ruled_out := self.ruled_out(number, of_run, look)) is not None:
            return Weighed(SKIP, ruled_out)
        if phase.status == SKIPPED or phase.made is None or not self.is_comparable(number, phase.made):
            return Weighed(RUN, f"its `when` holds: {spec.when}")
        now = compared(spec, self.ingredients(number, of_run, material, look))
        changed = difference(spec, phase.made, now, material)
        return Weighed(RUN, str(changed), changed) if changed else Weighed(KEEP, phase.made.run)

    def ruled_out(self, number: int, of_run: Mapping[str, Any], look: LookAt) -> str | None:
        """Why it is skipped; None if it is not. Of what cannot be told its attempt will say so."""
        when = self.specs[number].when
        try:
            holds = not when or condition.holds(when, self.params(number, of_run), lambda need: _result(look(need)))
        except condition.Untellable:
            return None
        return None if holds else BY_RULE + when

    def question(self, number: int, made: Made | None) -> Measure:
        """What is to be found out on the disk before a phase can be judged, or begun."""
        spec = self.specs[number]
        if made is None or not self.is_comparable(number, made):
            return Measure(number, spec.inputs, ())
        return Measure(number, spec.inputs, spec.outputs, made.of.get("inputs", ""), made.files)

    def has_files(self, number: int, made: Made | None) -> bool:
        spec = self.specs[number]
        return spec.cache is True and bool(spec.inputs or (made is not None and spec.outputs))

    def questions(self, state: State, scope: Scope, *, new: bool = False) -> list[Measure]:
        """For all that is to be judged at the beginning of a call."""
        found = []
        for number in self.specs:
            phase = _at_the_start(state, number, new)
            if number in scope and self.is_judged(number, phase):
                found.append(self.question(number, phase.made))
        return found

    def order(
        self, attempt: AttemptId, due: str, look: LookAt, of_run: Mapping[str, Any] = {}
    ) -> Order:  # fmt: skip
        """All that an agent needs for this attempt; `look` gives the phases as they are by now."""
        spec = self.specs[attempt.phase]
        results = {str(need): _result(look(need)) for need in spec.needs}
        return Order(
            attempt=attempt, name=spec.name, file=spec.file, digest=spec.digest, run=spec.run, isolation=spec.isolation,
            timeout=self.timeout(attempt.phase), heartbeat_timeout=spec.heartbeat_timeout,
            kill_grace=self.rules.kill_grace, cwd=spec.cwd, env=spec.env, limits=spec.limits, due=due,
            trace=_trace(attempt), results=results, log=f"system/logs/phases/{attempt.phase}/{attempt.number}.log",
            log_bytes=self.rules.log_bytes, broken=spec.broken or self._untellable(attempt.phase, of_run, look),
            outputs=spec.outputs, params=self.params(attempt.phase, of_run),
        )  # fmt: skip

    def _untellable(self, number: int, of_run: Mapping[str, Any], look: LookAt) -> str:
        when = self.specs[number].when
        try:
            if when:
                condition.holds(when, self.params(number, of_run), lambda need: _result(look(need)))
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

    def see(self, number: int) -> None:
        what, why, changed = self._seen(number, _at_the_start(self.state, number, self.new))
        self.steps[number] = Step(number, self.plan.specs[number].name, what, why, changed)

    def _seen(self, number: int, phase: PhaseState) -> tuple[str, str, Difference | None]:
        self._after[number] = phase
        if phase.status == IN_PROGRESS:
            return GOES_ON, f"attempt {phase.attempt} is in progress", None
        if number not in self.scope:
            return KEEP, "outside the range, " + ("done" if phase.is_done else phase.status), None
        judged = not self.force and self.plan.is_judged(number, phase)
        if phase.is_done and not self.force and not judged:
            return KEEP, f"{phase.status} in this run", None
        held = [need for need in self.plan.needs[number] if not _will_be_done(self.steps[need], self.plan, need)]
        if held:
            return BLOCKED, "needs " + ", ".join(f"{need} ({self.steps[need].why})" for need in held[:3]), None
        if self.plan.specs[number].broken and not phase.is_done:
            return RUN, self.plan.specs[number].broken, None
        if judged or self.plan.specs[number].when:
            untold = [need for need in self.plan.needs[number] if self.steps[need].what in _UNTOLD]
            found = self._open(number, untold[0], judged) if untold else self._weighed(number, phase, judged)
            if found is not None:
                return found
        return (*self._to_run(number, phase), None)

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
        if weighed.what == RUN:
            return RUN, weighed.why, weighed.changed
        if phase.is_done:
            return KEEP, f"{phase.status} in this run", None
        made = phase.made or Made("", {})
        self._after[number] = phase.replace(status=COMPLETED, outputs={"result": made.result})
        return KEEP, unchanged_since(made.run or self.state.run.id), None

    def _skipped(self, number: int, phase: PhaseState, why: str) -> tuple[str, str, None]:
        self._after[number] = phase.replace(status=SKIPPED, outputs=None)
        return (KEEP, f"{phase.status} in this run", None) if phase.status == SKIPPED else (SKIP, why, None)

    def _to_run(self, number: int, phase: PhaseState) -> tuple[str, str]:
        if phase.is_done:
            return RUN, "--force"
        if self.new or not phase.attempts:
            return RUN, "a new run" if self.new else "not run yet"
        if phase.status == RETRY_WAIT:
            return WAIT, f"retry due {phase.retry_at}"
        if final := stays_failed(self.plan, number, phase):
            return BLOCKED, final
        return RUN, {FAILED: "it failed", CANCELLED: "it was cancelled"}.get(phase.status, phase.why or phase.status)


def unchanged_since(run: str) -> str:
    return f"unchanged since run {run}"


def _at_the_start(state: State, number: int, new: bool) -> PhaseState:
    """The phase as this call, or a new run, begins with it."""
    phase = state.phase(number)
    return anew(phase, state.run.id) if new and not phase.is_live else phase


def _yields(phase: PhaseState) -> str:
    if phase.status == SKIPPED:
        return SKIPPED
    return phase.made.yields if phase.is_done and phase.made else ""


def _result(phase: PhaseState) -> Any:
    return (phase.outputs or {}).get("result")


def taken_from_run(params: Mapping[str, Any]) -> set[str]:
    """The names of the run's parameters that a phase's parameters stand for."""
    texts = [text for value in params.values() for text in (value if isinstance(value, list | tuple) else [value])]
    return {text[1:] for text in texts if isinstance(text, str) and text[:1] == "$" and text[:2] != "$$"}


def _resolved(value: Any, known: Mapping[str, Any]) -> Any:
    """`$year` is the run's parameter of that name; `$$` at the beginning is one $."""
    if isinstance(value, list | tuple):
        return [_resolved(each, known) for each in value]
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    return value[1:] if value.startswith("$$") else known[value[1:]]


def _will_be_done(step: Step, plan: Plan, number: int) -> bool:
    if step.what == KEEP:
        return not step.why.startswith("outside the range") or step.why.endswith("done")
    return step.what != BLOCKED and not plan.specs[number].broken


def stays_failed(plan: Plan, number: int, phase: PhaseState) -> str:
    """Why not even the next run tries this phase again by itself; empty if it does."""
    if phase.status == FAILED and phase.interruptions > plan.rules.retry[retry.INTERRUPTED].tries:
        return f"interrupted {phase.interruptions} times in a row; `orch retry {number}` runs it again"
    return ""


def _trace(attempt: AttemptId) -> str:
    """W3C trace context, the same whoever computes it: the run is the trace, the attempt the span."""
    trace = hashlib.sha256(attempt.run.encode()).hexdigest()[:32]
    span = hashlib.sha256(attempt.key.encode()).hexdigest()[:16]
    return f"00-{trace}-{span}-01"
