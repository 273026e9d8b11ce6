"""Events: what was decided to be true. Past tense; one journal line carries those of one decision."""

from __future__ import annotations

from typing import Any, ClassVar

from orchestrator.core.names import Identity
from orchestrator.core.outcome import Failure
from orchestrator.core.value import Value


class Scope(Value):
    """Which numbers a run was asked for; endpoints need not exist."""

    first: int | None = None
    last: int | None = None
    only: tuple[int, ...] = ()

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
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
        return {"event": self.kind, **super().as_dict()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Event:
        fields = dict(data)
        cls = Event.kinds[fields.pop("event")]
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


class RunEnded(Event):
    verdict: str  # completed, failed, cancelled, waiting
    exit_code: int


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
    number: int | None = None


# ---- about one phase


class PhaseEvent(Event):
    number: int


class _AttemptEvent(PhaseEvent):
    attempt: int


class _Failing(_AttemptEvent):
    nested: ClassVar[dict[str, Any]] = {"failure": Failure.from_dict}

    failure: Failure
    duration_seconds: float = 0.0


class AttemptIntended(_AttemptEvent):
    agent: str
    key: str
    of: dict[str, str] = {}  # noqa: RUF012  what it is made of, by name: what the next run compares


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


class PhaseSkipped(PhaseEvent):
    """Taken as done without having run."""

    why: str


class RetryScheduled(_Failing):
    due_at: str = ""
    delay_seconds: float = 0.0


class PhaseFailed(_Failing):
    why_final: str = ""  # why it is not tried again


class PhaseRecovered(_Failing):
    """Its owner was gone: found by whoever took the lock next."""

    owner: str = ""
    since: str = ""


class PhaseMended(_Failing):
    """The loop's own net: nobody could say how it ended."""


class PhaseCancelled(PhaseEvent):
    why: str
    attempt: int | None = None
    duration_seconds: float = 0.0


class PhaseReset(PhaseEvent):
    """To be run again, with fresh tries."""

    why: str
    interruptions: int = 0  # how many of its last attempts in a row were interrupted
    changed: bool = False  # it was compared with what it was made of, and `why` is the first difference
    keeps: bool = False  # only if it has changed by the time that what it needs is done
