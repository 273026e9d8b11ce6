"""Ports: what the loop needs of the world. Protocols without bodies; each has a real, a dry and a scripted hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from orchestrator.core.actions import Action
from orchestrator.core.agenda import Agenda
from orchestrator.core.draft import Decision
from orchestrator.core.names import Moment
from orchestrator.core.observations import Observation
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import Plan
from orchestrator.core.state import State

if TYPE_CHECKING:
    from orchestrator.core.telling import Message

Move = tuple[int, PhaseState, PhaseState]


class Clock(Protocol):
    def moment(self) -> Moment: ...


class Inbox(Protocol):
    def put(self, observation: Observation) -> None: ...

    def get(self, wait_seconds: float) -> list[Observation]:
        """What has happened by now, at most 256; silence until then is an empty list."""

    @property
    def is_empty(self) -> bool: ...


class Sources(Protocol):
    """The side of the inbox that others speak into: whatever a readable file says is put in."""

    def watch(self, fd: int, read: Callable[[], Iterable[Observation]]) -> None: ...

    def forget(self, fd: int) -> None: ...


class Store(Protocol):
    @property
    def state(self) -> State: ...

    def commit(self, decision: Decision, now: float) -> list[Move]:
        """Durable first, then folded; returns which phases moved."""

    def settle(self, now: float) -> float:
        """Write what is due to be written beside the journal; returns the seconds until more is due."""


class Executor(Protocol):
    """The hands that run attempts, wherever they are."""

    @property
    def agent(self) -> str:
        """Which agent takes new work; empty while there is none."""

    def prepare(self) -> None:
        """Work is about to come: see to it that an agent takes it."""

    def perform(self, actions: Sequence[Action]) -> None: ...


class Heart(Protocol):
    def beat(self, state: State, moment: Moment) -> float:
        """The loop went round; returns the seconds until the next beat is due."""


class Outbox(Protocol):
    """What is to be told outside, kept until it was heard."""

    def put(self, target: str, message: Message) -> None:
        """Durable when this returns; a message whose id waits already is not put twice."""

    def withdraw(self, ident: str) -> None: ...

    def wake(self) -> None:
        """See to it that somebody sends what waits."""


class Watcher(Protocol):
    def tell(
        self, batch: Sequence[Observation], decision: Decision, state: State, agenda: Agenda, plan: Plan, moment: Moment
    ) -> None: ...
