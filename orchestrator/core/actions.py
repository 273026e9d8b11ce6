"""Actions: what a hand is told to do. Never written down: they follow from the state."""

from __future__ import annotations

from orchestrator.core.names import AttemptId
from orchestrator.core.value import Value
from orchestrator.core.wire import Order


class Action(Value):
    """Base of all that a decision may tell the hands."""


class StartAttempt(Action):
    order: Order


class StopAttempt(Action):
    attempt: AttemptId
    why: str
    insist: bool = False


class ListFiles(Action):
    """Which files a phase fans out to."""

    number: int
    pattern: str


class Measure(Action):
    """Look at a phase's files: what is there, and what is not as it was."""

    number: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    was_inputs: str = ""  # digests; empty: there is nothing to compare with
    was_outputs: str = ""
    over: str = ""  # the pattern of the files that it fans out over
    was_over: str = ""
    ended: bool = False  # what the outputs hold now is what it has made


class TakeOutcome(Action):
    """The outcome is committed: the agent may forget it."""

    attempt: AttemptId


class MakeCheckpoint(Action):
    """Then this attempt may start."""

    order: Order


class RestoreCheckpoint(Action):
    """The outputs of this phase, and of no other."""

    number: int
    checkpoint: str


class EndAgent(Action):
    """It does not answer: end its process; what it had in hand dies with it."""

    agent: str
    why: str


class AnswerAsk(Action):
    ask: str
    accepted: bool
    text: str
