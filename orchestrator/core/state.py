"""State: the fold of all events (of those about one phase in phase.py), and how it looks in state.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.core import events as ev
from orchestrator.core import table
from orchestrator.core.carrying import carried, spared
from orchestrator.core.events import Event, PhaseEvent, Scope
from orchestrator.core.item import Item, item, number_of, phase_of
from orchestrator.core.names import AttemptId, Identity, iso
from orchestrator.core.phase import PhaseState, anew, bare, fold_phase
from orchestrator.core.value import Value

VERSION = 1
ANSWERS_KEPT = 1000
INSTANTS_KEPT = 100  # of each schedule
SCHEDULES_KEPT = 50
INTERRUPTED = "interrupted"  # the verdict on a run that never came to an end, and that another one follows
RUNS_KEPT = 100


class RunState(Value):
    id: str = ""
    started_at: str | None = None
    continued_at: str | None = None
    finished_at: str | None = None
    verdict: str | None = None  # None: not at its end
    exit_code: int | None = None
    stopping: str | None = None
    stopping_code: int | None = None
    paused: str | None = None  # by whom, and why; None: it is not
    paused_at: str | None = None
    scope: Scope = Scope()
    owner: Identity | None = None
    command: str = ""
    jobs: int = 0
    due: str = ""
    plan: str = ""  # the digest of the definitions
    calls: int = 0
    heartbeat_timeout: float = 120.0
    stale_after: float = 7200.0
    rollback: str = ""  # the last that was written down: its files are where they belong
    params: dict[str, Any] = {}  # noqa: RUF012  a frozen value

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RunState:
        fields = dict(data)
        fields["scope"] = Scope.from_dict(fields.get("scope") or {})
        fields["owner"] = Identity.from_dict(fields["owner"]) if fields.get("owner") else None
        return cls(**fields)


class State:
    """What is true now. Only `apply` changes it, and only the store calls that, after the line is on the disk."""

    def __init__(self) -> None:
        self.run = RunState()
        self.phases: dict[int, PhaseState] = {}
        self.items: dict[Item, PhaseState] = {}  # of those that were ever started; each like a phase
        self.agents: dict[str, Identity] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.runs: list[dict[str, Any]] = []  # how the last runs ended, the newest last
        self.schedules: dict[str, list[dict[str, Any]]] = {}  # what became of their instants, the newest last
        self.live: set[int] = set()  # derived: which phases have an attempt
        self.restoring: set[int] = set()  # derived: whose outputs are to go back to their checkpoint
        self.awaiting: set[int] = set()  # derived: which phases wait for a person
        self.fans: dict[int, int] = {}  # derived: phase -> how many items it has had at most

    def phase(self, number: int) -> PhaseState:
        return self.phases.get(number) or (self.items.get(number, _BLANK) if isinstance(number, Item) else _BLANK)

    def name_of(self, number: int) -> str:
        """An item is called as its phase is."""
        return self.phase(phase_of(number)).name

    def retrying(self) -> list[PhaseState]:
        """Whatever waits for its retry, phases and items."""
        everything = (*self.phases.items(), *self.items.items())
        return [phase for number, phase in everything if phase.status == table.RETRY_WAIT and self.is_wanted(number)]

    def is_wanted(self, number: int) -> bool:
        """Still planned; an item while its phase waits for it."""
        owner = self.phase(phase_of(number))
        return owner.planned and (not isinstance(number, Item) or owner.status == table.PENDING)

    def items_of(self, number: int) -> dict[int, PhaseState]:
        """Those that were ever started, or kept, by their place; also those of the list of before."""
        places = ((place, item(number, place)) for place in range(self.fans.get(number, 0)))
        return {place: self.items[one] for place, one in places if one in self.items}

    def attempt_id(self, number: int) -> AttemptId:
        return AttemptId(self.run.id, number, self.phase(number).attempt)

    def apply(self, event: Event, at: float) -> None:
        if isinstance(event, PhaseEvent):
            before = self.phase(event.number)
            self._put(event.number, fold_phase(before, event, iso(at)))
            if isinstance(event, ev.PhaseReset):
                self._reset_items(event, iso(at))
            elif isinstance(event, ev.FannedOut) and event.keys:
                self._carry_items(event, before.keys)
        else:
            _RUN_FOLD[type(event)](self, event, iso(at))

    def _put(self, number: int, phase: PhaseState) -> None:
        if isinstance(number, Item):
            self.items[number] = phase
            self.fans[number.phase] = max(self.fans.get(number.phase, 0), number.index + 1)
        else:
            self.phases[number] = phase
        (self.live.add if phase.is_live else self.live.discard)(number)
        (self.restoring.add if phase.restore else self.restoring.discard)(number)
        (self.awaiting.add if phase.status == table.AWAITING else self.awaiting.discard)(number)

    def _reset_items(self, event: ev.PhaseReset, at: str) -> None:
        if event.items is None:
            self._forget_items(item(event.number, index) for index in range(self.fans.get(event.number, 0)))
            return
        for number in (item(event.number, index) for index in event.items):
            self._put(number, fold_phase(self.phase(number), ev.PhaseReset(number, event.why), at))

    def _carry_items(self, event: ev.FannedOut, old: tuple[str, ...]) -> None:
        """Who was done before, under the same key, is done; what was begun in the same place goes on."""
        before = self.items_of(event.number)
        for place, phase in enumerate(carried(before, old, event.keys).states):
            if place in before or phase != _BLANK:
                self._put(item(event.number, place), phase)
        for place in before.keys() - range(len(event.keys)):
            self._put(item(event.number, place), bare(before[place]))

    def _forget_items(self, items: Iterable[Item]) -> None:
        """What is left is where their attempts are counted."""
        for one in items:
            if one in self.items:
                self.items[one] = bare(self.items[one])


_BLANK = PhaseState()


# ---- the branches about the run


def _opened(state: State, event: Any, at: str) -> None:
    state.run = state.run.replace(
        id=event.run, continued_at=at, finished_at=None, verdict=None, exit_code=None,
        stopping=None, stopping_code=None,
        scope=event.scope, owner=event.owner, command=event.command, jobs=event.jobs, calls=state.run.calls + 1,
        heartbeat_timeout=event.heartbeat_timeout, stale_after=event.stale_after,
    )  # fmt: skip


def _run_started(state: State, event: ev.RunStarted, at: str) -> None:
    before = state.run.id
    if event.cut_off and event.cut_off == before:
        _keep_record(state, _run_record(state, INTERRUPTED))
    _opened(state, event, at)
    kept = {"paused": None, "paused_at": None, "params": event.params}
    state.run = state.run.replace(started_at=at, calls=1, due=event.due, **kept)
    for number, phase in state.phases.items():
        after = anew(phase, before)
        state._put(number, after.replace(made=None) if event.force and number in event.scope else after)
    for one, phase in state.items.items():
        state.items[one] = bare(phase) if event.force and one in event.scope else spared(phase, before)


def _plan_adopted(state: State, event: ev.PlanAdopted, at: str) -> None:
    state.run = state.run.replace(plan=event.digest)
    for number, phase in state.phases.items():
        if phase.planned and str(number) not in event.phases:
            state.phases[number] = phase.replace(planned=False)
    for text, (name, title) in event.phases.items():
        state.phases[int(text)] = state.phase(int(text)).replace(name=name, title=title, planned=True)


def _run_stopping(state: State, event: ev.RunStopping, at: str) -> None:
    state.run = state.run.replace(stopping=event.why, stopping_code=event.exit_code)


def _run_paused(state: State, event: ev.RunPaused, at: str) -> None:
    told = f"by {event.by}" + (f": {event.why}" if event.why else "")
    state.run = state.run.replace(paused=told, paused_at=at)


def _run_resumed(state: State, event: ev.RunResumed, at: str) -> None:
    state.run = state.run.replace(paused=None, paused_at=None)


def _run_ended(state: State, event: ev.RunEnded, at: str) -> None:
    state.run = state.run.replace(finished_at=at, verdict=event.verdict, exit_code=event.exit_code)
    if event.verdict == "completed":  # nothing is left that it could hold back
        state.run = state.run.replace(paused=None, paused_at=None)
    _keep_record(state, _run_record(state, event.verdict))
    state.agents.clear()  # nothing is in their hands any more: they leave


def _keep_record(state: State, record: dict[str, Any]) -> None:
    state.runs = [*(one for one in state.runs if one["id"] != record["id"]), record][-RUNS_KEPT:]


def _run_record(state: State, verdict: str) -> dict[str, Any]:
    run = state.run
    planned = [phase for number, phase in state.phases.items() if phase.planned and number in run.scope]
    return {
        "id": run.id, "due": run.due, "started_at": run.started_at, "finished_at": run.finished_at, "calls": run.calls,
        "verdict": verdict, "done": sum(phase.is_done for phase in planned), "total": len(planned),
    }  # fmt: skip


def _rolled_back(state: State, event: ev.RolledBack, at: str) -> None:
    for text, document in event.phases.items():
        number = number_of(text)
        now, then = state.phase(number), PhaseState.from_dict(document)
        state._put(number, then.replace(
            name=now.name, title=now.title, planned=now.planned, durations=now.durations,
            attempt=max(now.attempt, then.attempt),
        ))  # fmt: skip
    then_run = RunState.from_dict(event.run)
    kept = {name: getattr(state.run, name) for name in _OF_ITS_OWNER}
    state.run = then_run.replace(rollback=event.token, **kept)


_OF_ITS_OWNER = ("owner", "command", "jobs", "plan", "heartbeat_timeout", "stale_after", "paused")


def _agent_engaged(state: State, event: ev.AgentEngaged, at: str) -> None:
    state.agents[event.agent] = event.identity


def _agent_left(state: State, event: ev.AgentLeft, at: str) -> None:
    state.agents.pop(event.agent, None)


def _ask_answered(state: State, event: ev.AskAnswered, at: str) -> None:
    state.answers[event.ask] = {"verb": event.verb, "accepted": event.accepted, "text": event.text, "at": at}
    while len(state.answers) > ANSWERS_KEPT:
        del state.answers[next(iter(state.answers))]


def _instant_settled(state: State, event: ev.InstantSettled, at: str) -> None:
    before = state.schedules.pop(event.schedule, [])
    record = {name: value for name, value in event.__dict__.items() if name != "schedule"}
    state.schedules[event.schedule] = [*before, {**record, "at": at}][-INSTANTS_KEPT:]
    while len(state.schedules) > SCHEDULES_KEPT:
        del state.schedules[next(iter(state.schedules))]


_RUN_FOLD: dict[type[Event], Callable[[State, Any, str], None]] = {
    ev.RunStarted: _run_started,
    ev.RunContinued: _opened,
    ev.PlanAdopted: _plan_adopted,
    ev.RunStopping: _run_stopping,
    ev.RunPaused: _run_paused,
    ev.RunResumed: _run_resumed,
    ev.RunEnded: _run_ended,
    ev.AgentEngaged: _agent_engaged,
    ev.AgentLeft: _agent_left,
    ev.AskAnswered: _ask_answered,
    ev.InstantSettled: _instant_settled,
    ev.RolledBack: _rolled_back,
}

# ---- state.json


def run_document(state: State) -> dict[str, Any]:
    run = {**state.run.__dict__, "scope": state.run.scope.as_dict()}
    run["owner"] = state.run.owner.as_dict() if state.run.owner else None
    agents = {name: who.as_dict() for name, who in state.agents.items()}
    return {"run": run, "agents": agents, "answers": state.answers, "runs": state.runs, "schedules": state.schedules}


def from_document(data: dict[str, Any]) -> State:
    state = State()
    state.run = RunState.from_dict(data["run"])
    state.agents = {name: Identity.from_dict(who) for name, who in data["agents"].items()}
    state.answers = dict(data["answers"])
    state.runs = list(data.get("runs", ()))
    state.schedules = dict(data.get("schedules", {}))
    for number, phase in (*data["phases"].items(), *data.get("items", {}).items()):
        state._put(number_of(number), PhaseState.from_dict(phase))
    return state
