"""State: the fold of all events, and how it looks in state.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.core import events as ev
from orchestrator.core import table
from orchestrator.core.events import Event, PhaseEvent, Scope
from orchestrator.core.gate import APPROVED, REJECTED, Approval, Gate, answered, leave
from orchestrator.core.names import AttemptId, Identity, iso
from orchestrator.core.outcome import Failure
from orchestrator.core.value import Value

VERSION = 1
ERRORS_KEPT = 10
ANSWERS_KEPT = 1000
DURATIONS_KEPT = 20
RUNS_KEPT = 100


class PhaseState(Value):
    status: str = table.PENDING
    step: str | None = None  # of in_progress: starting, running, stopping
    started_at: str | None = None
    finished_at: str | None = None
    duration_seconds: float | None = None
    errors: tuple[dict[str, Any], ...] = ()
    retry_count: int = 0
    inputs_hash: str | None = None
    outputs: dict[str, Any] | None = None
    name: str = ""
    title: str = ""
    planned: bool = True  # still defined in phases/
    attempt: int = 0  # the number of its last attempt, through all runs
    attempts: int = 0  # in this run
    failures: int = 0  # tries used up since it was last reset
    interruptions: int = 0  # in a row
    retry_at: str | None = None
    retry_delay_seconds: float | None = None
    agent: str | None = None
    pid: int | None = None
    ticks: int | None = None
    why: str | None = None  # why it stands where it stands
    log: str | None = None
    leftovers: tuple[str, ...] = ()
    approval: Approval | None = None  # what the attempt in progress has to pass when it is done
    gate: Gate | None = None  # the last asking: what waits, or how it was decided
    durations: tuple[float, ...] = ()  # of the attempts that succeeded, through all runs, the newest last

    @property
    def place(self) -> str:
        """Where it stands in the table."""
        return self.step or self.status

    @property
    def is_live(self) -> bool:
        return self.status == table.IN_PROGRESS

    @property
    def is_done(self) -> bool:
        return self.status in table.DONE

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PhaseState:
        fields = dict(data)
        for name in ("errors", "leftovers", "durations"):
            fields[name] = tuple(fields.get(name) or ())
        for name, kind in (("approval", Approval), ("gate", Gate)):
            fields[name] = kind.from_dict(fields[name]) if fields.get(name) is not None else None
        return cls(**fields)


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
        self.agents: dict[str, Identity] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.runs: list[dict[str, Any]] = []  # how the last runs ended, the newest last
        self.live: set[int] = set()  # derived: which phases have an attempt
        self.awaiting: set[int] = set()  # derived: which phases wait for a person

    def phase(self, number: int) -> PhaseState:
        return self.phases.get(number) or PhaseState()

    def attempt_id(self, number: int) -> AttemptId:
        return AttemptId(self.run.id, number, self.phase(number).attempt)

    def apply(self, event: Event, at: float) -> None:
        if isinstance(event, PhaseEvent):
            self._put(event.number, fold_phase(self.phase(event.number), event, iso(at)))
        else:
            _RUN_FOLD[type(event)](self, event, iso(at))

    def _put(self, number: int, phase: PhaseState) -> None:
        self.phases[number] = phase
        (self.live.add if phase.is_live else self.live.discard)(number)
        (self.awaiting.add if phase.status == table.AWAITING else self.awaiting.discard)(number)


def fold_phase(phase: PhaseState, event: PhaseEvent, at: str) -> PhaseState:
    """The phase after `event`: the table says where it stands, the branch what is remembered."""
    place = table.move(event.kind, phase.place)
    step = place if place in table.STEPS else None
    changes = _PHASE_FOLD[type(event)](phase, event, at)
    return phase.replace(status=table.IN_PROGRESS if step else place, step=step, **changes)


# ---- the branches about one phase: what each event changes besides the place

_AT_REST: dict[str, Any] = {"agent": None, "pid": None, "ticks": None}


def _intended(phase: PhaseState, event: ev.AttemptIntended, at: str) -> dict[str, Any]:
    return {
        "attempt": event.attempt, "attempts": phase.attempts + 1, "agent": event.agent, "inputs_hash": event.key,
        "started_at": at, "finished_at": None, "duration_seconds": None, "retry_at": None, "retry_delay_seconds": None,
        "retry_count": phase.retry_count + (phase.status == table.RETRY_WAIT), "why": None, "outputs": None,
        "leftovers": (), "log": None, "approval": event.approval,
    }  # fmt: skip


def _started(phase: PhaseState, event: ev.AttemptStarted, at: str) -> dict[str, Any]:
    return {"pid": event.pid, "ticks": event.ticks}


def _stop_requested(phase: PhaseState, event: ev.StopRequested, at: str) -> dict[str, Any]:
    return {"why": event.why}


def _withdrawn(phase: PhaseState, event: ev.AttemptWithdrawn, at: str) -> dict[str, Any]:
    return {**_AT_REST, "attempts": phase.attempts - 1, "started_at": None, "why": event.why}


def _completed(phase: PhaseState, event: ev.PhaseCompleted, at: str) -> dict[str, Any]:
    return {
        **_AT_REST, "finished_at": at, "duration_seconds": event.duration_seconds, "outputs": {"result": event.result},
        "failures": 0, "interruptions": 0, "log": event.log, "leftovers": event.leftovers, "why": None,
        "durations": (*phase.durations, event.duration_seconds)[-DURATIONS_KEPT:],
    }  # fmt: skip


def _failing(phase: PhaseState, event: ev.PhaseFailed | ev.RetryScheduled, at: str) -> dict[str, Any]:
    interrupted = event.failure.code == "INTERRUPTED"
    return {
        **_AT_REST, "finished_at": at, "duration_seconds": event.duration_seconds,
        "log": event.failure.log or phase.log,
        "errors": (*phase.errors, _error(event.attempt, event.failure, at))[-ERRORS_KEPT:],
        "failures": phase.failures + (0 if interrupted else 1),
        "interruptions": phase.interruptions + 1 if interrupted else 0,
    }  # fmt: skip


def _error(attempt: int, failure: Failure, at: str) -> dict[str, Any]:
    return {**failure.as_dict(), "remedy": failure.remedy, "at": at, "attempt": attempt}


def _failed(phase: PhaseState, event: ev.PhaseFailed, at: str) -> dict[str, Any]:
    return {**_failing(phase, event, at), "why": event.why_final}


def _retry_scheduled(phase: PhaseState, event: ev.RetryScheduled, at: str) -> dict[str, Any]:
    waiting = {"retry_at": event.due_at, "retry_delay_seconds": event.delay_seconds, "why": event.failure.message}
    return {**_failing(phase, event, at), **waiting}


def _found(phase: PhaseState, event: Any, at: str) -> dict[str, Any]:
    return {**_failing(phase, event, at), "why": event.failure.message}


def _cancelled(phase: PhaseState, event: ev.PhaseCancelled, at: str) -> dict[str, Any]:
    return {
        **_AT_REST,
        "finished_at": at,
        "duration_seconds": event.duration_seconds,
        "retry_at": None,
        "why": event.why,
        "gate": answered(phase.gate),
    }


def _gate_opened(phase: PhaseState, event: ev.GateOpened, at: str) -> dict[str, Any]:
    return {"gate": event.gate, "why": f"waits for {event.gate.told()}"}


def _decided(phase: PhaseState, event: ev.GatePassed | ev.GateApproved, at: str) -> dict[str, Any]:
    gate = phase.gate and phase.gate.replace(verdict=APPROVED, by=event.by, why=event.why, decided_at=at)
    return {"gate": gate, "why": gate and gate.decided()}


def _rejected(phase: PhaseState, event: ev.GateRejected, at: str) -> dict[str, Any]:
    gate = phase.gate and phase.gate.replace(verdict=REJECTED, by=event.by, why=event.why, decided_at=at)
    return {
        "gate": gate, "why": gate and gate.decided(), "finished_at": at, "outputs": None,
        "errors": (*phase.errors, _error(phase.attempt, event.failure, at))[-ERRORS_KEPT:],
    }  # fmt: skip


def _skipped(phase: PhaseState, event: ev.PhaseSkipped, at: str) -> dict[str, Any]:
    return {
        "finished_at": at, "duration_seconds": None, "retry_at": None, "retry_delay_seconds": None, "outputs": None,
        "why": f"skipped by {event.by}: {event.why}", "gate": answered(phase.gate),
    }  # fmt: skip


def _reset(phase: PhaseState, event: ev.PhaseReset, at: str) -> dict[str, Any]:
    if event.forgotten:
        blank = {name: value for name, value in _kept(phase).__dict__.items() if name not in ("status", "step")}
        return {**blank, "why": event.why}
    return {
        "failures": 0, "retry_count": 0, "interruptions": event.interruptions, "retry_at": None,
        "retry_delay_seconds": None, "outputs": None, "why": event.why,
        "gate": None if phase.is_done else leave(phase.gate),
    }  # fmt: skip


_PHASE_FOLD: dict[type[Event], Callable[[PhaseState, Any, str], dict[str, Any]]] = {
    ev.AttemptIntended: _intended,
    ev.AttemptStarted: _started,
    ev.StopRequested: _stop_requested,
    ev.AttemptWithdrawn: _withdrawn,
    ev.PhaseCompleted: _completed,
    ev.RetryScheduled: _retry_scheduled,
    ev.PhaseFailed: _failed,
    ev.PhaseRecovered: _found,
    ev.PhaseMended: _found,
    ev.GateOpened: _gate_opened,
    ev.GatePassed: _decided,
    ev.GateApproved: _decided,
    ev.GateRejected: _rejected,
    ev.PhaseCancelled: _cancelled,
    ev.PhaseSkipped: _skipped,
    ev.PhaseReset: _reset,
}

# ---- the branches about the run


def _opened(state: State, event: Any, at: str) -> None:
    state.run = state.run.replace(
        id=event.run, continued_at=at, finished_at=None, verdict=None, exit_code=None,
        stopping=None, stopping_code=None,
        scope=event.scope, owner=event.owner, command=event.command, jobs=event.jobs, calls=state.run.calls + 1,
        heartbeat_timeout=event.heartbeat_timeout, stale_after=event.stale_after,
    )  # fmt: skip


def _run_started(state: State, event: ev.RunStarted, at: str) -> None:
    _opened(state, event, at)
    state.run = state.run.replace(started_at=at, calls=1, due=event.due, paused=None, paused_at=None)
    for number, phase in state.phases.items():
        state._put(number, _kept(phase))


def _kept(phase: PhaseState) -> PhaseState:
    """What a new run knows of a phase: what it is called, and where its attempts are counted."""
    return PhaseState(
        name=phase.name, title=phase.title, planned=phase.planned, attempt=phase.attempt, durations=phase.durations
    )  # fmt: skip


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
    kept = [one for one in state.runs if one["id"] != state.run.id]
    state.runs = [*kept, _run_record(state, event)][-RUNS_KEPT:]
    state.agents.clear()  # nothing is in their hands any more: they leave


def _run_record(state: State, event: ev.RunEnded) -> dict[str, Any]:
    run = state.run
    planned = [phase for number, phase in state.phases.items() if phase.planned and number in run.scope]
    return {
        "id": run.id, "due": run.due, "started_at": run.started_at, "finished_at": run.finished_at, "calls": run.calls,
        "verdict": event.verdict, "done": sum(phase.is_done for phase in planned), "total": len(planned),
    }  # fmt: skip


def _agent_engaged(state: State, event: ev.AgentEngaged, at: str) -> None:
    state.agents[event.agent] = event.identity


def _agent_left(state: State, event: ev.AgentLeft, at: str) -> None:
    state.agents.pop(event.agent, None)


def _ask_answered(state: State, event: ev.AskAnswered, at: str) -> None:
    state.answers[event.ask] = {"verb": event.verb, "accepted": event.accepted, "text": event.text, "at": at}
    while len(state.answers) > ANSWERS_KEPT:
        del state.answers[next(iter(state.answers))]


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
}

# ---- state.json


def phase_document(phase: PhaseState) -> dict[str, Any]:
    """One phase as it stands in state.json: every field, so that a reader need not know the defaults."""
    lists = {name: list(getattr(phase, name)) for name in ("errors", "leftovers", "durations")}
    gate = {**phase.gate.__dict__, "who": [*phase.gate.who]} if phase.gate else None
    approval = {**phase.approval.__dict__, "who": [*phase.approval.who]} if phase.approval else None
    return {**phase.__dict__, **lists, "gate": gate, "approval": approval}


def run_document(state: State) -> dict[str, Any]:
    run = {**state.run.__dict__, "scope": state.run.scope.as_dict()}
    run["owner"] = state.run.owner.as_dict() if state.run.owner else None
    agents = {name: who.as_dict() for name, who in state.agents.items()}
    return {"run": run, "agents": agents, "answers": state.answers, "runs": state.runs}


def from_document(data: dict[str, Any]) -> State:
    state = State()
    state.run = RunState.from_dict(data["run"])
    state.agents = {name: Identity.from_dict(who) for name, who in data["agents"].items()}
    state.answers = dict(data["answers"])
    state.runs = list(data.get("runs", ()))
    for number, phase in data["phases"].items():
        state._put(int(number), PhaseState.from_dict(phase))
    return state
