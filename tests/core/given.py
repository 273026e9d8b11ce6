"""What the tests of the core begin from: a plan, a state made of events, an agenda that follows, and news to decide on."""

from __future__ import annotations

from typing import Any

from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.actions import StartAttempt
from orchestrator.core.agenda import Agenda, begins_anew, renewed
from orchestrator.core.cachekey import NO_FILES, compared, digest, key_of
from orchestrator.core.decide import decide, next_wake
from orchestrator.core.draft import Decision, Mode
from orchestrator.core.events import Event, PhaseEvent, Scope
from orchestrator.core.names import AttemptId, Identity, Moment, iso
from orchestrator.core.outcome import EXITED, Failure, Outcome
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import Plan, Rules
from orchestrator.core.spec import Spec
from orchestrator.core.state import State

NOW = 1_800_000_000.0
ME = Identity(10, 1, "boot", "host/1")
AGENT = Identity(20, 2, "boot", "host/1")
FINE = Outcome(EXITED, 0, result={"n": 1}, duration_seconds=2.0, log="its.log")


def failing(code: str = "TRANSIENT") -> Outcome:
    return Outcome(EXITED, 1, failure=Failure(code, "no"), duration_seconds=2.0)


def spec_of(number: int, needs: tuple[int, ...] = (), **keys: Any) -> Spec:
    return Spec(number, f"p{number}", "phases/all.toml", 1, run="true", needs=needs, **keys)


def run_started(**changes: Any) -> ev.RunStarted:
    fields = {
        "run": "r1", "scope": Scope(), "owner": ME, "command": "orch run", "jobs": 2, "heartbeat_timeout": 120.0,
        "stale_after": 7200.0, "due": "now", **changes,
    }  # fmt: skip
    return ev.RunStarted(**fields)


class Case:
    """`step` decides, commits and lets the agenda follow, as the loop does."""

    def __init__(
        self, needs: dict[int, tuple[int, ...]], *, jobs: int = 2, agent: str = "a1", starts: bool = True,
        no_wait: bool = False, scope: Scope | None = None, keys: dict[int, dict[str, Any]] | None = None, **rules: Any,
    ) -> None:  # fmt: skip
        specs = [spec_of(number, of, **(keys or {}).get(number, {})) for number, of in needs.items()]
        self.plan = Plan(specs, Rules(jobs=jobs, **rules), "digest")
        self.mode = Mode(starts, jobs, agent, no_wait)
        self.state, self.tick, self.draw, self.clock = State(), 0.0, 0.5, NOW
        self.given(
            run_started(scope=scope or Scope()),
            ev.PlanAdopted("digest", self.plan.titles()),
            ev.AgentEngaged("a1", AGENT),
        )

    @property
    def moment(self) -> Moment:
        return Moment(self.clock + self.tick, self.tick, self.draw)

    def given(self, *events: Event) -> Case:
        for event in events:
            self.state.apply(event, self.moment.now)
        self.plan = self.plan.spread(self.state)
        self.agenda = Agenda(self.plan, self.state, self.moment)
        return self

    def live(self, *numbers: int, attempt: int = 1) -> Case:
        for number in numbers:
            self.given(intended(number, attempt), ev.AttemptStarted(number, attempt, 30 + number, 3))
        return self

    def decide(self, *batch: obs.Observation) -> Decision:
        return decide(self.plan, self.state, self.agenda, batch or [obs.Tick()], self.moment, self.mode)

    def step(self, *batch: obs.Observation, after: float = 0.0) -> Decision:
        self.tick += after
        self.agenda.hear(batch)
        decision = self.decide(*batch)
        self.commit(decision)
        return decision

    def commit(self, decision: Decision) -> None:
        moves: list[tuple[int, PhaseState, PhaseState]] = []
        for event in decision.events:
            before = self.state.phase(event.number) if isinstance(event, PhaseEvent) else None
            self.state.apply(event, self.moment.now)
            if isinstance(event, PhaseEvent) and before is not None:
                moves.append((event.number, before, self.state.phase(event.number)))
        if begins_anew(self.plan, decision.events):
            self.plan = self.plan.spread(self.state)
            self.agenda = renewed(self.agenda, self.plan, self.state, decision.events, self.moment)
            return
        for number, before, after in moves:
            self.agenda.follow(number, before, after, self.state, self.moment)
        self.agenda.ask(decision.actions)
        for number in decision.pressed:
            if number in self.agenda.watches:
                self.agenda.press(number, self.moment.tick)

    def wake(self) -> float:
        return next_wake(self.state, self.agenda, self.mode, self.moment)

    def status(self, number: int) -> str:
        return self.state.phase(number).place

    def start(self, number: int, attempt: int = 1) -> StartAttempt:
        return StartAttempt(self.plan.order(an(number, attempt), "now", self.state.phase))

    def intends(self, number: int, attempt: int = 1) -> ev.AttemptIntended:
        found = self.plan.ingredients(number, {}, NO_FILES, self.state.phase)
        return ev.AttemptIntended(
            number, attempt, "a1", key_of(number, found), compared(self.plan.specs[number], found)
        )

    def after(self, seconds: float) -> str:
        return iso(self.moment.now + seconds)


def an(number: int, attempt: int = 1, run: str = "r1") -> AttemptId:
    return AttemptId(run, number, attempt)


def intended(number: int, attempt: int = 1) -> ev.AttemptIntended:
    return ev.AttemptIntended(number, attempt, "a1", "key")


COMES = digest([{"n": 1}, ""])


def completed(number: int, attempt: int = 1) -> ev.PhaseCompleted:
    return ev.PhaseCompleted(number, attempt, 2.0, {"n": 1}, "its.log", yields=COMES)


def failed(number: int, attempt: int = 1, code: str = "FAILED") -> ev.PhaseFailed:
    return ev.PhaseFailed(number, attempt, Failure(code, "no"), 2.0)


def retrying(number: int, due_in: float = 60.0, attempt: int = 1) -> ev.RetryScheduled:
    return ev.RetryScheduled(number, attempt, Failure("TRANSIENT", "no"), 2.0, iso(NOW + due_in), due_in)


def asked(verb: str, number: int | None = None, ask: str = "k1") -> obs.Asked:
    return obs.Asked(ask, verb, "ann", number)


def run_asked(**changes: Any) -> obs.RunAsked:
    fields = {"run": "r2", "scope": Scope(), "owner": ME, "command": "orch run", "due": "later", **changes}
    return obs.RunAsked(**fields)
