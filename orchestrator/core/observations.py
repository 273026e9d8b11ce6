"""Observations: what a hand noticed. They reach the loop through one inbox and are never written down."""

from __future__ import annotations

from typing import Any

from orchestrator.core.cachekey import Material
from orchestrator.core.events import InstantSettled, RolledBack, Scope
from orchestrator.core.names import AttemptId, Identity
from orchestrator.core.outcome import Outcome, told_of
from orchestrator.core.value import Value
from orchestrator.core.wire import Order


class Observation(Value):
    """Base of all that may stand in the inbox; `told` is the cause that the journal gives for what follows from it."""

    def told(self) -> str:
        return type(self).__name__


class Tick(Observation):
    """Silence until the next deadline."""


class Started(Observation):
    attempt: AttemptId
    pid: int
    ticks: int

    def told(self) -> str:
        return f"attempt {self.attempt} has started, pid {self.pid}"


class Ended(Observation):
    attempt: AttemptId
    outcome: Outcome

    def told(self) -> str:
        return f"attempt {self.attempt} has ended: {told_of(self.outcome)}"


class Measured(Observation):
    """What the disk says of a phase's files."""

    number: int
    material: Material

    def told(self) -> str:
        return f"the files of phase {self.number} were looked at"


class Beat(Observation):
    """What an agent runs just now, with the progress of each attempt."""

    agent: str
    attempts: dict[str, dict[str, Any]]


class AgentJoined(Observation):
    """An agent is there; `attempts` is everything that it has in hand."""

    agent: str
    identity: Identity
    attempts: tuple[AttemptId, ...] = ()
    takes_work: bool = True

    def told(self) -> str:
        return f"agent {self.agent} is there"


class AgentGone(Observation):
    agent: str
    why: str

    def told(self) -> str:
        return f"agent {self.agent} is gone: {self.why}"


class NoAgents(Observation):
    """No agent can be had, and trying again was given up."""

    why: str

    def told(self) -> str:
        return self.why


class OwnerDead(Observation):
    """Found at start-up: an attempt whose agent is provably gone, and that left no outcome."""

    attempt: AttemptId
    owner: str
    since: str
    why: str

    def told(self) -> str:
        return f"{self.owner} is gone: {self.why}"


class NeverStarted(Observation):
    """Found at start-up: intended, but its agent never heard of it."""

    attempt: AttemptId

    def told(self) -> str:
        return f"no agent has heard of attempt {self.attempt}"


class CheckpointMade(Observation):
    order: Order
    checkpoint: str

    def told(self) -> str:
        return "the checkpoint that comes first is made"


class CheckpointFailed(Observation):
    attempt: AttemptId
    code: str
    why: str

    def told(self) -> str:
        return f"no checkpoint could be made: {self.why}"


class Unrestored(Observation):
    """Found at start-up: its outputs are still to go back to its checkpoint."""

    number: int

    def told(self) -> str:
        return f"phase {self.number} had not gone back to its checkpoint yet"


class Restored(Observation):
    number: int
    checkpoint: str
    files: int = 0
    removed: int = 0
    fault: str = ""

    def told(self) -> str:
        return f"checkpoint {self.checkpoint} " + (f"could not be restored: {self.fault}" if self.fault else "is back")


class WentBack(Observation):
    """All files of a rollback are where they belong."""

    event: RolledBack

    def told(self) -> str:
        return f"{self.event.by} asked: rollback {self.event.checkpoint}"


class Interrupt(Observation):
    """SIGINT or SIGTERM."""

    name: str
    exit_code: int

    def told(self) -> str:
        return f"{self.name} to orch"


class FilesListed(Observation):
    """What a phase fans out to, as it was found; or why nothing was."""

    number: int
    files: tuple[str, ...] = ()
    why_not: str = ""


class Asked(Observation):
    ask: str
    verb: str  # cancel, retry, pause, resume, skip, reset, approve, reject, settle
    by: str
    number: int | None = None
    why: str = ""
    options: tuple[str, ...] = ()  # what was asked for besides, as on the command line without the dashes

    def told(self) -> str:
        what = [self.verb, *([] if self.number is None else [str(self.number)]), *(f"--{one}" for one in self.options)]
        return f"{self.by} asked: {' '.join(what)}" + (f" ({self.why})" if self.why else "")


class InstantsMet(Observation):
    """Instants of a schedule that have come, and that no run is for."""

    instants: tuple[InstantSettled, ...]

    def told(self) -> str:
        return f"what schedule {self.instants[0].schedule} was due at was looked at"


class RunAsked(Observation):
    """The command line itself: begin, or go on."""

    run: str  # the id that a new run would get
    scope: Scope
    owner: Identity
    command: str
    new: bool = False  # whatever is done already, begin anew
    force: bool = False
    due: str = ""
    params: dict[str, Any] = {}  # noqa: RUF012  of a new run; one that goes on keeps its own
    instants: tuple[InstantSettled, ...] = ()  # of a schedule: the one that it is for, and those that had no run

    def told(self) -> str:
        return self.command
