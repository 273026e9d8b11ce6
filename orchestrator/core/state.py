"""State: the fold of all events, and how it looks in state.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.core import events as ev
from orchestrator.core import table
from orchestrator.core.cachekey import RECIPE, Made, digest
from orchestrator.core.events import Event, PhaseEvent, Scope
from orchestrator.core.gate import APPROVED, REJECTED, Approval, Gate, answered, leave
from orchestrator.core.item import Item, item, number_of, phase_of
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
    items: tuple[Any, ...] | None = None  # what it fans out to, from when that is known
    checkpoint: str | None = None  # was made before these tries began
    restore: str | None = None  # the checkpoint that its outputs are to go back to, until they have
    made: Made | None = None  # what its last attempt was made of; of a pending phase: what may be kept

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
        if fields.get("items") is not None:
            fields["items"] = tuple(fields["items"])
        for name, kind in (("approval", Approval), ("gate", Gate)):
            fields[name] = kind.from_dict(fields[name]) if fields.get(name) is not None else None
        fields["made"] = Made.from_dict(fields["made"]) if fields.get("made") else None
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
        self.live: set[int] = set()  # derived: which phases have an attempt
        self.restoring: set[int] = set()  # derived: whose outputs are to go back to their checkpoint
        self.awaiting: set[int] = set()  # derived: which phases wait for a person

    def phase(self, number: int) -> PhaseState:
        found = self.items.get(number) if isinstance(number, Item) else self.phases.get(number)
        return found or _BLANK

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

    def attempt_id(self, number: int) -> AttemptId:
        return AttemptId(self.run.id, number, self.phase(number).attempt)

    def apply(self, event: Event, at: float) -> None:
        if isinstance(event, PhaseEvent):
            self._put(event.number, fold_phase(self.phase(event.number), event, iso(at)))
            if isinstance(event, ev.PhaseReset):
                self._reset_items(event, iso(at))
        else:
            _RUN_FOLD[type(event)](self, event, iso(at))

    def _put(self, number: int, phase: PhaseState) -> None:
        if isinstance(number, Item):
            self.items[number] = phase
        else:
            self.phases[number] = phase
        (self.live.add if phase.is_live else self.live.discard)(number)
        (self.restoring.add if phase.restore else self.restoring.discard)(number)
        (self.awaiting.add if phase.status == table.AWAITING else self.awaiting.discard)(number)

    def _reset_items(self, event: ev.PhaseReset, at: str) -> None:
        if event.items is None:
            self._forget_items(event.number)
            return
        for number in (item(event.number, index) for index in event.items):
            self.items[number] = fold_phase(self.phase(number), ev.PhaseReset(number, event.why), at)

    def _forget_items(self, number: int | None = None) -> None:
        """Of one phase, or all: what is left is where their attempts are counted."""
        for one, phase in self.items.items():
            if number in (None, one.phase):
                self.items[one] = _bare(phase)


_BLANK = PhaseState()


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
        "leftovers": (), "log": None, "approval": event.approval, "made": Made(event.key, event.of),
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
        "made": phase.made.replace(files=event.files, yields=event.yields) if phase.made else None,
    }  # fmt: skip


def _kept(phase: PhaseState, event: ev.PhaseKept, at: str) -> dict[str, Any]:
    made = phase.made or Made("", {})
    return {
        "finished_at": at, "outputs": {"result": made.result}, "inputs_hash": made.key,
        "made": made.replace(result=None), "failures": 0, "why": f"unchanged since run {event.since}",
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
    return {**_failing(phase, event, at), "why": event.why_final, "restore": event.restore or None}


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
        "why": f"skipped by {event.by}: {event.why}" if event.by else event.why, "gate": answered(phase.gate),
    }  # fmt: skip


def _reset(phase: PhaseState, event: ev.PhaseReset, at: str) -> dict[str, Any]:
    if event.forgotten:
        blank = {name: value for name, value in _bare(phase).__dict__.items() if name not in ("status", "step")}
        return {**blank, "why": event.why}
    return {
        "items": None if event.items is None else phase.items,
        "failures": 0, "retry_count": 0, "interruptions": event.interruptions, "retry_at": None,
        "retry_delay_seconds": None, "outputs": None, "why": event.why,
        "gate": None if phase.is_done else leave(phase.gate),
        # cut off by others, it goes on with the tries that it had: what they left is nothing to go back to
        "checkpoint": phase.checkpoint if event.interruptions else None,
        "made": may_be_kept(phase) if event.keeps else None,
    }  # fmt: skip


def may_be_kept(phase: PhaseState) -> Made | None:
    """What came out of its last success, ready to be judged; None after an attempt that did not succeed."""
    if phase.made is None or not phase.made.yields:
        return None
    return phase.made.replace(result=phase.outputs["result"]) if phase.outputs else phase.made


def _fanned_out(phase: PhaseState, event: ev.FannedOut, at: str) -> dict[str, Any]:
    return {"items": event.items, "started_at": at, "finished_at": None, "duration_seconds": None, "why": None}


def _gathered(phase: PhaseState, event: ev.Gathered, at: str) -> dict[str, Any]:
    took = event.duration_seconds
    return {
        "finished_at": at, "duration_seconds": took or None, "outputs": {"result": event.result}, "failures": 0,
        "why": f"{len(event.failed)} of its items failed" if event.failed else None,
        "made": Made(f"{RECIPE}:", {}, yields=digest([event.result, ""])),
        "durations": (*phase.durations, took)[-DURATIONS_KEPT:] if took else phase.durations,
    }  # fmt: skip


def _gather_failed(phase: PhaseState, event: ev.GatherFailed, at: str) -> dict[str, Any]:
    error = _error(phase.attempt, event.failure, at)
    return {"finished_at": at, "errors": (*phase.errors, error)[-ERRORS_KEPT:], "why": event.failure.message}


def _checkpoint_taken(phase: PhaseState, event: ev.CheckpointTaken, at: str) -> dict[str, Any]:
    return {"checkpoint": event.checkpoint}


def _restored(phase: PhaseState, event: ev.PhaseRestored, at: str) -> dict[str, Any]:
    return {"restore": None}


_PHASE_FOLD: dict[type[Event], Callable[[PhaseState, Any, str], dict[str, Any]]] = {
    ev.AttemptIntended: _intended,
    ev.AttemptStarted: _started,
    ev.StopRequested: _stop_requested,
    ev.AttemptWithdrawn: _withdrawn,
    ev.PhaseCompleted: _completed,
    ev.PhaseKept: _kept,
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
    ev.FannedOut: _fanned_out,
    ev.Gathered: _gathered,
    ev.GatherFailed: _gather_failed,
    ev.CheckpointTaken: _checkpoint_taken,
    ev.PhaseRestored: _restored,
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
    before = state.run.id
    _opened(state, event, at)
    kept = {"paused": None, "paused_at": None, "params": event.params}
    state.run = state.run.replace(started_at=at, calls=1, due=event.due, **kept)
    for number, phase in state.phases.items():
        after = anew(phase, before)
        state._put(number, after.replace(made=None) if event.force and number in event.scope else after)
    state._forget_items()


def anew(phase: PhaseState, run: str) -> PhaseState:
    """What the run after `run` knows of a phase: its name, where its attempts are counted, what its success was."""
    made = may_be_kept(phase)
    return _bare(phase).replace(made=made.replace(run=made.run or run) if made else None)


def _bare(phase: PhaseState) -> PhaseState:
    """What it is called, and where its attempts are counted."""
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
    ev.RolledBack: _rolled_back,
}

# ---- state.json


def phase_document(phase: PhaseState) -> dict[str, Any]:
    """One phase as it stands in state.json: every field, so that a reader need not know the defaults."""
    lists = {name: list(getattr(phase, name)) for name in ("errors", "leftovers", "durations")}
    gate = {**phase.gate.__dict__, "who": [*phase.gate.who]} if phase.gate else None
    approval = {**phase.approval.__dict__, "who": [*phase.approval.who]} if phase.approval else None
    items = None if phase.items is None else list(phase.items)
    made = phase.made.as_dict() if phase.made else None
    return {**phase.__dict__, **lists, "gate": gate, "approval": approval, "items": items, "made": made}


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
    for number, phase in (*data["phases"].items(), *data.get("items", {}).items()):
        state._put(number_of(number), PhaseState.from_dict(phase))
    return state
