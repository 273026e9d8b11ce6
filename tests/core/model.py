"""The little model: the real loop over a store in memory, on a virtual clock, with agents that outlive it.

Every commit and every action passes `World.point`; a test names the points at which the orchestrator is cut off.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from orchestrator.core import actions as act
from orchestrator.core import observations as obs
from orchestrator.core.decide import is_over
from orchestrator.core.draft import Decision, Mode
from orchestrator.core.events import Event, PhaseEvent, Scope
from orchestrator.core.names import AttemptId, Identity, Moment
from orchestrator.core.outcome import EXITED, STOPPED, TIMED_OUT, Failure, Outcome
from orchestrator.core.plan import Plan, Rules
from orchestrator.core.reconcile import ALIVE, DEAD, Finding, reconcile
from orchestrator.core.spec import Spec
from orchestrator.core.state import State
from orchestrator.engine import Engine

TOO_MANY_ROUNDS = 2000


class Cut(Exception):
    """The orchestrator is killed here."""


class Broken(AssertionError):
    """A rule of the design does not hold."""


class Script:
    """What a phase does: how long each try takes and how it ends."""

    def __init__(self, seconds: float = 10.0, failures: int = 0, never_ends: bool = False) -> None:
        self.seconds, self.failures, self.never_ends = seconds, failures, never_ends


class ModelAgent:
    def __init__(self, name: str, world: World) -> None:
        self.name, self.world = name, world
        self.identity = Identity(100 + len(world.agents), 1, "boot", "host")
        self.alive = True
        self.live: dict[AttemptId, tuple[float, Outcome]] = {}
        self.untaken: dict[AttemptId, Outcome] = {}

    def start(self, attempt: AttemptId, timeout: float) -> None:
        if attempt in self.live or attempt in self.untaken:
            return
        self.world.check_alone(attempt)
        self.world.executions[attempt.phase] += 1
        script = self.world.scripts[attempt.phase]
        fails = self.world.executions[attempt.phase] <= script.failures
        failure = Failure("TRANSIENT", "not yet") if fails else None
        ends = Outcome(
            EXITED, int(fails), failure=failure, duration_seconds=script.seconds, result={"n": attempt.phase}
        )
        if script.never_ends or script.seconds > timeout:
            self.live[attempt] = (self.world.tick + timeout, Outcome(TIMED_OUT, duration_seconds=timeout))
        else:
            self.live[attempt] = (self.world.tick + script.seconds, ends)

    def stop(self, attempt: AttemptId) -> bool:
        if attempt in self.live:
            self.live[attempt] = (self.world.tick + 0.5, Outcome(STOPPED))
            return True
        return attempt in self.untaken

    def advance(self) -> list[tuple[AttemptId, Outcome]]:
        done = [(attempt, outcome) for attempt, (at, outcome) in self.live.items() if at <= self.world.tick]
        for attempt, outcome in done:
            del self.live[attempt]
            self.untaken[attempt] = outcome
        return done


class World:
    def __init__(self, scripts: dict[int, Script], cuts: set[int], *, kills_agents: bool = False) -> None:
        self.scripts, self.cuts, self.kills_agents = scripts, cuts, kills_agents
        self.tick, self.points = 0.0, 0
        self.lines: list[str] = []
        self.agents: dict[str, ModelAgent] = {}
        self.executions: Counter[int] = Counter()
        self.story: list[str] = []

    def point(self, what: str) -> None:
        self.points += 1
        if self.points in self.cuts:
            self.story.append(f"CUT at {what}")
            raise Cut(what)

    def check_alone(self, attempt: AttemptId) -> None:
        for agent in self.agents.values():
            twins = [other for other in agent.live if other.phase == attempt.phase]
            if agent.alive and twins:
                raise Broken(f"{attempt} starts while {twins[0]} is alive")

    def moment(self) -> Moment:
        return Moment(1_000_000 + self.tick, self.tick, 0.5)

    def findings(self) -> list[Finding]:
        return [
            Finding(
                agent.name, ALIVE if agent.alive else DEAD, agent.identity,
                dict.fromkeys(agent.live, (9, 9)) if agent.alive else None, dict(agent.untaken),
            )
            for agent in self.agents.values()
        ]  # fmt: skip


class ModelStore:
    def __init__(self, world: World) -> None:
        self._world = world
        self.state = State()
        for line in world.lines:
            document = json.loads(line)
            for event in document["events"]:
                self.state.apply(Event.from_dict(event), document["at"])

    def commit(self, decision: Decision, now: float) -> list[Any]:
        self._world.point("before a commit")
        events = [event.as_dict() for event in decision.events]
        self._world.lines.append(json.dumps({"at": now, "events": events}))
        self._world.story += [f"{self._world.tick:.1f} {event}" for event in decision.events]
        self._world.point("after a commit")
        moves = []
        for event in decision.events:
            before = self.state.phase(event.number) if isinstance(event, PhaseEvent) else None
            self.state.apply(event, now)
            if isinstance(event, PhaseEvent):
                moves.append((event.number, before, self.state.phase(event.number)))
        return moves

    def settle(self, now: float) -> float:
        return 3600.0


class ModelHands:
    def __init__(self, world: World, inbox: ModelInbox) -> None:
        self._world, self._inbox, self.agent = world, inbox, ""

    def prepare(self) -> None:
        if not self.agent:
            own = ModelAgent(f"agent-{len(self._world.agents)}", self._world)
            self._world.agents[own.name] = own
            self.agent = own.name
            self._inbox.put(obs.AgentJoined(own.name, own.identity))

    def perform(self, actions: Any) -> None:
        for action in actions:
            self._world.point(f"before {type(action).__name__}")
            self._do(action)
        if actions:
            self._world.point("after the actions")

    def _do(self, action: act.Action) -> None:
        if isinstance(action, act.StartAttempt):
            attempt = action.order.attempt
            self._world.agents[self.agent].start(attempt, action.order.timeout)
            self._inbox.put(obs.Started(attempt, 9, 9))
        elif isinstance(action, act.StopAttempt):
            known = [agent for agent in self._world.agents.values() if agent.alive and agent.stop(action.attempt)]
            if not known:
                self._inbox.put(obs.Ended(action.attempt, Outcome("never_started")))
        elif isinstance(action, act.TakeOutcome):
            for agent in self._world.agents.values():
                agent.untaken.pop(action.attempt, None)


class ModelInbox:
    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: list[obs.Observation] = []
        self.rounds = 0

    @property
    def is_empty(self) -> bool:
        return not self._waiting

    def put(self, observation: obs.Observation) -> None:
        self._waiting.append(observation)

    def get(self, wait_seconds: float) -> list[obs.Observation]:
        self.rounds += 1
        if self.rounds > TOO_MANY_ROUNDS:
            raise Broken("the loop spins")
        if not self._waiting:
            self._sleep(wait_seconds)
        batch, self._waiting = self._waiting, []
        return batch

    def _sleep(self, wait_seconds: float) -> None:
        agents = [agent for agent in self._world.agents.values() if agent.alive]
        ends = [at for agent in agents for at, _ in agent.live.values()]
        self._world.tick = max(self._world.tick, min([self._world.tick + wait_seconds, *ends]))
        for agent in agents:
            self._waiting += [obs.Ended(attempt, outcome) for attempt, outcome in agent.advance()]


class NoHeart:
    def beat(self, state: State, moment: Moment) -> float:
        return 3600.0


def plan_of(needs: dict[int, tuple[int, ...]], **keys: Any) -> Plan:
    specs = [Spec(number, f"p{number}", "phases/model.toml", 1, run="true", needs=of) for number, of in needs.items()]
    return Plan(specs, Rules(jobs=2, timeout=60.0, **keys), "digest")


def live_once(world: World, plan: Plan, mode: Mode) -> State | None:
    """One orchestrator's life: None if it was cut off."""
    world.cuts = set(world.cuts)
    inbox = ModelInbox(world)
    store = ModelStore(world)
    hands = ModelHands(world, inbox)
    engine = Engine(plan, store, inbox, hands, NoHeart(), [], world, Mode(starts=False))  # type: ignore[arg-type]
    try:
        found = reconcile(store.state, world.findings(), world.moment().now)
        if found:
            engine.step(found)
        engine.mode = mode
        me = Identity(1, len(world.lines), "boot", "host")
        engine.step([obs.RunAsked(f"run-{len(world.lines)}", Scope(), me, "orch run")])
        engine.run()
        assert is_over(store.state, mode)
        return store.state
    except Cut:
        for agent in world.agents.values():
            if world.kills_agents:
                agent.alive = False
                agent.live.clear()
        return None


def live_on(world: World, plan: Plan, calls: int = 12) -> State:
    """Started again after each cut, and until nothing is left to do."""
    mode = Mode(starts=True, jobs=2)
    for _ in range(calls):
        state = live_once(world, plan, mode)
        if state is not None and all(state.phase(number).is_done for number in plan.specs):
            return state
    raise Broken("still not done after " + str(calls) + " calls")
