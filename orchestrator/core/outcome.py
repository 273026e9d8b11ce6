"""Outcome: how one attempt ended, and what that says about the phase."""

from __future__ import annotations

import signal
from typing import Any

from orchestrator.core.names import span
from orchestrator.core.value import Value
from orchestrator.errors import CODES, EXIT_STATUS_CODES

EXITED, SIGNALLED, TIMED_OUT, HUNG = "exited", "signalled", "timed_out", "hung"
STOPPED, LOST, NEVER_STARTED = "stopped", "lost", "never_started"
KINDS = (EXITED, SIGNALLED, TIMED_OUT, HUNG, STOPPED, LOST, NEVER_STARTED)


class Failure(Value):
    """Why an attempt failed: one of the 13 codes, a sentence, and where to look."""

    code: str
    message: str
    type: str = ""  # the exception's name, where there was one
    log: str = ""  # relative to the project's root
    tail: tuple[str, ...] = ()  # the last lines of what it printed

    @property
    def remedy(self) -> str:
        return CODES[self.code].remedy

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Failure:
        return cls(**{**data, "tail": tuple(data.get("tail", ()))})


class Outcome(Value):
    kind: str
    exit_status: int | None = None
    signal: int | None = None
    failure: Failure | None = None  # what the attempt said of itself, or the agent found
    result: Any = None
    duration_seconds: float = 0.0
    started_at: float | None = None  # seconds since 1970, by the agent's clock
    ended_at: float | None = None
    insisted: bool = False  # SIGKILL was needed
    leftovers: tuple[str, ...] = ()  # processes that were still there when it was over, and were ended
    log: str = ""
    tail: tuple[str, ...] = ()
    files: str = ""  # the digest of its declared outputs, taken when nothing of it was left that could change them

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Outcome:
        fields = dict(data)
        if fields.get("kind") not in KINDS:
            raise ValueError(f"no such outcome: {fields.get('kind')!r}")
        if fields.get("failure") is not None:
            fields["failure"] = Failure.from_dict(fields["failure"])
        for name in ("leftovers", "tail"):
            fields[name] = tuple(fields.get(name, ()))
        return cls(**fields)

    @property
    def succeeded(self) -> bool:
        return self.kind == EXITED and self.exit_status == 0 and self.failure is None


def told_of(outcome: Outcome) -> str:
    return "exit status 0" if outcome.succeeded else failure_of(outcome).message


def failure_of(outcome: Outcome) -> Failure:
    """The code and the sentence for an outcome that is no success."""
    if outcome.failure is not None:
        return outcome.failure.replace(
            log=outcome.log or outcome.failure.log, tail=outcome.tail or outcome.failure.tail
        )
    code, message = _judge(outcome)
    return Failure(code, message, log=outcome.log, tail=outcome.tail)


def _judge(outcome: Outcome) -> tuple[str, str]:
    after = f"after {span(outcome.duration_seconds)}"
    kind = outcome.kind
    if kind == EXITED:
        status = outcome.exit_status or 0
        return EXIT_STATUS_CODES.get(status, "FAILED"), f"exit status {status} {after}"
    if kind == SIGNALLED:
        return _judge_signal(outcome.signal or 0, after)
    if kind == TIMED_OUT:
        return "TIMEOUT", f"did not end by its deadline, {after}" + (" (had to be killed)" if outcome.insisted else "")
    if kind == HUNG:
        return "TIMEOUT", f"stopped reporting progress, ended {after}"
    if kind == STOPPED:
        return "REJECTED", f"stopped {after}"
    if kind == LOST:
        return "INTERRUPTED", f"its agent, host or power was lost {after}"
    return "INTERNAL", "could not be started"


def _judge_signal(number: int, after: str) -> tuple[str, str]:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if name == "SIGXCPU":
        return "RESOURCE", f"used up its processor time ({name}) {after}"
    if name == "SIGKILL":
        return "RESOURCE", f"killed by {name} {after}, most likely for lack of memory, or by a person"
    return "FAILED", f"ended by {name} {after}"
