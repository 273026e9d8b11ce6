"""Plan: the phases, their graph and the rules they run under; and what a run of it would do now, and why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from orchestrator.core import graph, retry
from orchestrator.core.cachekey import attempt_key
from orchestrator.core.events import Scope
from orchestrator.core.gate import AFTER, BEFORE, REJECTED, Approval, ways
from orchestrator.core.names import AttemptId
from orchestrator.core.pools import Wants, wants_of
from orchestrator.core.spec import RetryRule, Spec
from orchestrator.core.state import PhaseState, State
from orchestrator.core.table import AWAITING, CANCELLED, FAILED, IN_PROGRESS, RETRY_WAIT
from orchestrator.core.value import Value
from orchestrator.core.wire import Order

RUN, KEEP, BLOCKED, WAIT, GOES_ON = "run", "keep", "blocked", "wait", "goes on"
NET_MARGIN = 30.0  # how much later than the agent the loop's own net strikes


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


class Step(Value):
    """What a run would do with one phase."""

    number: int
    name: str
    what: str
    why: str
    gates: tuple[int, ...] = ()  # whose approval has to come before it is done


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
        spec = self.specs.get(number)
        return spec.timeout if spec and spec.timeout is not None else self.rules.timeout

    def net_seconds(self, number: int) -> float:
        """When the loop itself looks after an attempt that its agent should have ended long ago."""
        return self.timeout(number) + self.rules.kill_grace + NET_MARGIN

    def titles(self) -> dict[str, list[str]]:
        return {str(number): [spec.name, spec.title] for number, spec in sorted(self.specs.items())}

    def key(self, number: int) -> str:
        return attempt_key(self.specs[number])

    def order(self, attempt: AttemptId, due: str, look: Callable[[int], PhaseState]) -> Order:
        """All that an agent needs for this attempt; `look` gives the phases as they are by now."""
        spec = self.specs[attempt.phase]
        results = {str(need): (look(need).outputs or {}).get("result") for need in spec.needs}
        return Order(
            attempt=attempt, name=spec.name, file=spec.file, digest=spec.digest, run=spec.run, isolation=spec.isolation,
            timeout=self.timeout(attempt.phase), heartbeat_timeout=spec.heartbeat_timeout,
            kill_grace=self.rules.kill_grace, cwd=spec.cwd, env=spec.env, limits=spec.limits, due=due,
            trace=_trace(attempt), results=results, log=f"system/logs/phases/{attempt.phase}/{attempt.number}.log",
            log_bytes=self.rules.log_bytes, broken=spec.broken,
        )  # fmt: skip

    def unmet_outside(self, scope: Scope, state: State) -> dict[int, list[int]]:
        """Needs of phases in the range that lie outside of it and are not done: need -> who needs it."""
        missing: dict[int, list[int]] = {}
        for number in self.specs:
            if number in scope and not state.phase(number).is_done:
                for need in self.needs[number]:
                    if need not in scope and not state.phase(need).is_done:
                        missing.setdefault(need, []).append(number)
        return missing


def preview(plan: Plan, state: State, scope: Scope, *, new: bool = False, force: bool = False) -> list[Step]:
    """For every phase: run, keep, wait or blocked, and why. The run that follows does exactly this."""
    steps: dict[int, Step] = {}
    for number in graph.order(plan.needs):
        spec = plan.specs[number]
        what, why = _preview_one(plan, state.phase(number), number, scope, steps, new=new, force=force)
        gates = _gates(plan, state.phase(number), number, what, steps, new=new)
        steps[number] = Step(number, spec.name, what, why, gates)
    return [steps[number] for number in sorted(steps)]


def _preview_one(
    plan: Plan, phase: PhaseState, number: int, scope: Scope, steps: dict[int, Step], *, new: bool, force: bool
) -> tuple[str, str]:
    if phase.status == IN_PROGRESS:
        return GOES_ON, f"attempt {phase.attempt} is in progress"
    done = phase.is_done and not new
    if number not in scope:
        return KEEP, "outside the range, " + ("done" if done else phase.status)
    if done and not force:
        return KEEP, f"{phase.status} in this run"
    if phase.status == AWAITING and not new and not force:
        return WAIT, f"waits for {phase.gate.told() if phase.gate else 'approval'}: {ways(number)}"
    held = [need for need in plan.needs[number] if not _will_be_done(steps[need], plan, need)]
    if held:
        return BLOCKED, "needs " + ", ".join(f"{need} ({steps[need].why})" for need in held[:3])
    if above := _gates_above(plan, number, steps):
        return WAIT, f"until {' and '.join(map(str, above[:3]))} {'is' if len(above) == 1 else 'are'} approved"
    if plan.specs[number].broken:
        return RUN, plan.specs[number].broken
    what, why = _preview_run(plan, number, phase, done=done, new=new)
    if what != BLOCKED and plan.asks_first(number, _BLANK if new else phase):
        return WAIT, "asks for approval before it runs"
    return what, why


def _preview_run(plan: Plan, number: int, phase: PhaseState, *, done: bool, new: bool) -> tuple[str, str]:
    if done:
        return RUN, "--force"
    if not new and (final := stays_failed(plan, number, phase)):
        return BLOCKED, final
    if new or not phase.attempts:
        return RUN, "not run yet" if not new else "a new run"
    if phase.status == RETRY_WAIT:
        return WAIT, f"retry due {phase.retry_at}"
    return RUN, {FAILED: "it failed", CANCELLED: "it was cancelled"}.get(phase.status, phase.why or phase.status)


def _will_be_done(step: Step, plan: Plan, number: int) -> bool:
    if step.what == KEEP:
        return not step.why.startswith("outside the range") or step.why.endswith("done")
    return step.what != BLOCKED and not plan.specs[number].broken


def _gates(
    plan: Plan, phase: PhaseState, number: int, what: str, steps: dict[int, Step], *, new: bool
) -> tuple[int, ...]:
    if what in (KEEP, BLOCKED):
        return ()
    asks = plan.asks_first(number, _BLANK if new else phase) or plan.asks_afterwards(number) is not None
    return (number,) if asks or phase.status == AWAITING else _gates_above(plan, number, steps)


def _gates_above(plan: Plan, number: int, steps: dict[int, Step]) -> tuple[int, ...]:
    return tuple(sorted({gate for need in plan.needs[number] for gate in steps[need].gates}))


_BLANK = PhaseState()


def stays_failed(plan: Plan, number: int, phase: PhaseState) -> str:
    """Why not even the next run tries this phase again by itself; empty if it does."""
    if phase.status == FAILED and phase.interruptions > plan.rules.retry[retry.INTERRUPTED].tries:
        return f"interrupted {phase.interruptions} times in a row; `orch retry {number}` runs it again"
    if phase.status == FAILED and phase.gate is not None and phase.gate.verdict == REJECTED:
        return f"{phase.gate.decided()}; `orch retry {number}` asks again"
    return ""


def _trace(attempt: AttemptId) -> str:
    """W3C trace context, the same whoever computes it: the run is the trace, the attempt the span."""
    trace = hashlib.sha256(attempt.run.encode()).hexdigest()[:32]
    span = hashlib.sha256(attempt.key.encode()).hexdigest()[:16]
    return f"00-{trace}-{span}-01"
