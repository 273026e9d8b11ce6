"""Outcome: how one attempt ended, and what that says about the phase."""

from __future__ import annotations

from typing import Any

from orchestrator.core.causes import EXIT_STATUSES, SIGNALS, UNKNOWN, name_of_signal, signal_behind
from orchestrator.core.names import span
from orchestrator.core.value import Value
from orchestrator.errors import CODES

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
    critical: bool = False  # the phase said that it must not be tried again

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
    out_of_memory: bool | None = None  # whether memory ran out; None: that cannot be told
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
    log, tail = outcome.log, outcome.tail
    if (found := outcome.failure) is not None:
        found = found.replace(log=log or found.log, tail=tail or found.tail)
    else:
        code, message = _judge(outcome)
        found = Failure(code, message, log=log, tail=tail)
    if outcome.out_of_memory and found.code == UNKNOWN:
        return found.replace(code="RESOURCE", message=f"{found.message}; memory had run out")
    return found


def _judge(outcome: Outcome) -> tuple[str, str]:
    after = f"after {span(outcome.duration_seconds)}"
    kind = outcome.kind
    if kind == EXITED:
        return _judge_status(outcome.exit_status or 0, after, outcome.out_of_memory)
    if kind == SIGNALLED:
        return _judge_signal(outcome.signal or 0, after, outcome.out_of_memory)
    if kind == TIMED_OUT:
        return "TIMEOUT", f"did not end by its deadline, {after}" + (" (had to be killed)" if outcome.insisted else "")
    if kind == HUNG:
        return "TIMEOUT", f"stopped reporting progress, ended {after}"
    if kind == STOPPED:
        return "REJECTED", f"stopped {after}"
    if kind == LOST:
        return "INTERRUPTED", f"its agent, host or power was lost {after}"
    return "INTERNAL", "could not be started"


def _judge_status(status: int, after: str, out_of_memory: bool | None) -> tuple[str, str]:
    meaning, number = EXIT_STATUSES.get(status), signal_behind(status)
    if meaning is None and number is not None:
        code, message = _judge_signal(number, after, out_of_memory)
        return code, f"exit status {status}: {message}"
    code, words = meaning or (UNKNOWN, "")
    return code, f"exit status {status}{words and f' ({words})'} {after}"


def _judge_signal(number: int, after: str, out_of_memory: bool | None) -> tuple[str, str]:
    name = name_of_signal(number)
    code, words = SIGNALS.get(name, (UNKNOWN, ""))
    if name == "SIGKILL" and out_of_memory is False:
        return UNKNOWN, f"killed by {name} {after}, by a person or a program: memory had not run out"
    if name == "SIGKILL" and out_of_memory:
        return code, f"killed by {name} {after}, for lack of memory"
    if name == "SIGKILL":
        return code, f"killed by {name} {after}, most likely for lack of memory, or by a person"
    return code, f"{words} ({name}) {after}" if words else f"ended by {name} {after}"
