"""Events: what was decided to be true. Past tense; one journal line carries those of one decision."""

from __future__ import annotations

from typing import Any, ClassVar

from orchestrator.core.gate import Approval, Gate
from orchestrator.core.item import number_of, phase_of
from orchestrator.core.names import Identity
from orchestrator.core.outcome import Failure
from orchestrator.core.value import Value

Number = int  # of a phase, or an Item


class Scope(Value):
    """Which numbers a run was asked for; endpoints need not exist."""

    first: int | None = None
    last: int | None = None
    only: tuple[int, ...] = ()

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        if self.first is self.last is None and not self.only:
            return True
        number = phase_of(number)
        if self.only:
            return number in self.only
        return (self.first is None or number >= self.first) and (self.last is None or number <= self.last)

    def __str__(self) -> str:
        if self.only:
            return "phases " + ", ".join(map(str, self.only))
        if self.first is None and self.last is None:
            return "all phases"
        low = "the first" if self.first is None else self.first
        return f"phases {low} to {'the last' if self.last is None else self.last}"

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scope:
        return cls(**{**data, "only": tuple(data.get("only", ()))})


class Event(Value):
    """Every subclass has a row in the table or is about the run, a branch in the fold, and a golden line."""

    kinds: ClassVar[dict[str, type[Event]]] = {}
    nested: ClassVar[dict[str, Any]] = {}  # field -> what turns its JSON into a value

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Event.kinds[cls.__name__] = cls

    @property
    def kind(self) -> str:
        return type(self).__name__

    def as_dict(self) -> dict[str, Any]:
        return {"event": self.kind, **self.given()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Event:
        fields = dict(data)
        cls = Event.kinds[fields.pop("event")]
        if fields.get("number") is not None:
            fields["number"] = number_of(fields["number"])
        for name, read in cls.nested.items():
            if fields.get(name) is not None:
                fields[name] = read(fields[name])
        return cls(**fields)


# ---- about the run


class _Opening(Event):
    nested: ClassVar[dict[str, Any]] = {"scope": Scope.from_dict, "owner": Identity.from_dict}

    run: str
    scope: Scope
    owner: Identity
    command: str
    jobs: int
    heartbeat_timeout: float
    stale_after: float


class RunStarted(_Opening):
    due: str  # the instant this run was due
    params: dict[str, Any] = {}  # noqa: RUF012  the parameters of the run, as they are for all of it
    cut_off: str = ""  # the run before, if it never came to an end
    force: bool = False  # nothing is kept of earlier runs, whatever has not changed


class RunContinued(_Opening):
    pass


class PlanAdopted(Event):
    """The phases there are from now on: number -> name, title."""

    digest: str
    phases: dict[str, list[str]]


class RunStopping(Event):
    why: str
    exit_code: int


class RunPaused(Event):
    """Nothing new starts until it is resumed; what runs goes on."""

    by: str
    why: str = ""


class RunResumed(Event):
    by: str


class RunEnded(Event):
    verdict: str  # completed, failed, cancelled, waiting
    exit_code: int
    due_at: str = ""  # of waiting: when the first retry is due


class AgentEngaged(Event):
    nested: ClassVar[dict[str, Any]] = {"identity": Identity.from_dict}

    agent: str
    identity: Identity


class AgentLeft(Event):
    agent: str
    why: str


class AskAnswered(Event):
    ask: str
    verb: str
    by: str
    accepted: bool
    text: str
    number: Number | None = None


class InstantSettled(Event):
    """What became of an instant that a schedule was due at, or of several in a row: each is settled once."""

    schedule: str
    due: str
    how: str  # ran, caught_up, skipped
    why: str = ""  # of skipped
    run: str = ""
    missed: bool = False  # it was skipped because nobody began it in time
    last: str = ""  # of several: the last of them
    count: int = 1


class RolledBack(Event):
    """The phases named are as they were, and so are the files that phases declare."""

    checkpoint: str
    token: str
    by: str
    run: dict[str, Any]
    phases: dict[str, dict[str, Any]]
    files: int = 0
    removed: int = 0


# ---- about one phase


class PhaseEvent(Event):
    number: Number


class _AttemptEvent(PhaseEvent):
    attempt: int


class _Failing(_AttemptEvent):
    nested: ClassVar[dict[str, Any]] = {"failure": Failure.from_dict}

    failure: Failure
    duration_seconds: float = 0.0


class AttemptIntended(_AttemptEvent):
    nested: ClassVar[dict[str, Any]] = {"approval": Approval.from_dict}

    agent: str
    key: str
    of: dict[str, str] = {}  # noqa: RUF012  what it is made of, by name: what the next run compares
    approval: Approval | None = None  # what it has to pass when it is done: also where phases/ cannot be read by then


class AttemptStarted(_AttemptEvent):
    pid: int
    ticks: int


class StopRequested(_AttemptEvent):
    why: str
    insist: bool = False


class AttemptWithdrawn(_AttemptEvent):
    """Intended, but never started: this costs no try."""

    why: str


class PhaseCompleted(_AttemptEvent):
    nested: ClassVar[dict[str, Any]] = {"leftovers": tuple}

    duration_seconds: float
    result: Any = None
    log: str = ""
    leftovers: tuple[str, ...] = ()
    files: str = ""  # the digest of its outputs, as its agent saw them at the end
    yields: str = ""  # of result and outputs: what whoever needs it depends on


class PhaseKept(PhaseEvent):
    """Nothing that it was made of has changed, nor what it made: its last success stands."""

    since: str  # the run in which it was made


class RetryScheduled(_Failing):
    due_at: str = ""
    delay_seconds: float = 0.0


class PhaseFailed(_Failing):
    why_final: str = ""  # why it is not tried again
    restore: str = ""  # the checkpoint that its outputs go back to


class PhaseRecovered(_Failing):
    """Its owner was gone: found by whoever took the lock next."""

    owner: str = ""
    since: str = ""


class PhaseMended(_Failing):
    """The loop's own net: nobody could say how it ended."""


class GateOpened(PhaseEvent):
    """It waits for a person, and holds nothing meanwhile."""

    nested: ClassVar[dict[str, Any]] = {"gate": Gate.from_dict}

    gate: Gate


class _Deciding(PhaseEvent):
    gate: str  # its id
    plan: str  # that was seen
    by: str
    why: str


class GatePassed(_Deciding):
    """Approved before its body: it may run."""


class GateApproved(_Deciding):
    """Approved after its body: it is done."""


class GateRejected(_Deciding):
    nested: ClassVar[dict[str, Any]] = {"failure": Failure.from_dict}

    failure: Failure


class PhaseCancelled(PhaseEvent):
    why: str
    attempt: int | None = None
    duration_seconds: float = 0.0
    killed: bool = False  # it did not heed SIGTERM


class PhaseSkipped(PhaseEvent):
    """It counts as done without having run: a person says so, or its condition does not hold."""

    why: str
    by: str = ""  # the person


class CheckpointTaken(_AttemptEvent):
    """How all stood before its first attempt can be had again."""

    checkpoint: str


class PhaseRestored(PhaseEvent):
    """Its outputs are as they were before it began, or why they could not be put back."""

    checkpoint: str
    files: int = 0
    removed: int = 0
    fault: str = ""


class PhaseReset(PhaseEvent):
    """To be run again, with fresh tries."""

    nested: ClassVar[dict[str, Any]] = {"items": tuple}

    why: str
    interruptions: int = 0  # how many of its last attempts in a row were interrupted
    forgotten: bool = False  # as if it had never run in this run
    changed: bool = False  # it was compared with what it was made of, and `why` is the first difference
    keeps: bool = False  # only if it has changed by the time that what it needs is done
    items: tuple[int, ...] | None = None  # of a phase that fans out: those run again; None: it fans out anew
    relists: bool = False  # its items are found anew, and each of them is judged by itself


class FannedOut(PhaseEvent):
    """What the phase is to be done for, each by itself; it is done when they are."""

    nested: ClassVar[dict[str, Any]] = {"items": tuple, "keys": tuple}

    items: tuple[Any, ...]
    key: str = ""  # of the whole
    of: dict[str, str] = {}  # noqa: RUF012  what the whole is made of, by name: what the next run compares
    keys: tuple[str, ...] = ()  # of each item, by which it is found again
    kept: str = ""  # how many of them are done by that, in words


class Gathered(PhaseEvent):
    """Its items are done, or as many as it takes: the list of their results, null for those that failed."""

    nested: ClassVar[dict[str, Any]] = {"failed": tuple}

    result: list[Any]
    failed: tuple[int, ...] = ()
    duration_seconds: float = 0.0  # since it fanned out; 0 where another call of `orch run` had begun it
    files: str = ""  # the digest of its outputs, when the last item had ended
    yields: str = ""  # of result and outputs: what whoever needs it depends on
    kept: int = 0  # how many items had not to be run


class GatherFailed(PhaseEvent):
    """Too many of its items failed."""

    nested: ClassVar[dict[str, Any]] = {"failure": Failure.from_dict}

    failure: Failure
