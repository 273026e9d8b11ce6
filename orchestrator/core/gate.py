"""Gates: where a phase waits for a person; what is asked, of whom, until when, and how it was decided."""

from __future__ import annotations

import hashlib
from typing import Any

from orchestrator.core.names import iso
from orchestrator.core.value import Value

BEFORE, AFTER = "before", "after"
APPROVE, DENY = "approve", "deny"
APPROVED, REJECTED = "approved", "rejected"
ITS_DEADLINE = "its deadline"  # who decided where nobody did
SHOWN = 500  # characters of what is shown


class Approval(Value):
    """What an author wrote: whether to ask before or after the body, until when, and what holds if nobody answers."""

    when: str = AFTER
    deadline: float | None = None  # seconds; None: it waits for ever
    default: str = DENY
    who: tuple[str, ...] = ()  # the accounts that may decide; none named: whoever may ask anything
    show: str = ""  # a text, or a key of the result

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Approval:
        return cls(**{**data, "who": tuple(data.get("who", ()))})


class Gate(Value):
    """One asking, bound to the run and to the plan that it was asked for."""

    when: str
    run: str
    plan: str
    opened_at: str
    due_at: str | None = None
    delay_seconds: float | None = None
    default: str = DENY
    who: tuple[str, ...] = ()
    shown: str = ""
    verdict: str = ""  # approved, rejected; empty: it waits
    by: str = ""
    why: str = ""
    decided_at: str | None = None

    @property
    def id(self) -> str:
        """What a decision names, so that it cannot be taken for one about another asking."""
        return hashlib.sha256(f"{self.run} {self.plan} {self.opened_at} {self.due_at}".encode()).hexdigest()[:8]

    @property
    def waits(self) -> bool:
        return not self.verdict

    def lets_pass(self, plan: str) -> bool:
        return self.verdict == APPROVED and self.plan == plan

    def told(self) -> str:
        """For whom it waits, until when, and what follows then."""
        whom = f" by {' or '.join(self.who)}" if self.who else ""
        then = "approved" if self.default == APPROVE else "rejected"
        return f"approval{whom}" + (f" until {self.due_at}, then it is {then}" if self.due_at else "")

    def decided(self) -> str:
        return f"{self.verdict} by {self.by}" + (f": {self.why}" if self.why else "")

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Gate:
        return cls(**{**data, "who": tuple(data.get("who", ()))})


def opened(approval: Approval, run: str, plan: str, now: float, result: Any = None) -> Gate:
    due = None if approval.deadline is None else iso(now + approval.deadline)
    shown = approval.show
    if isinstance(result, dict) and shown in result:
        shown = f"{shown}: {result[shown]}"
    return Gate(
        approval.when, run, plan, iso(now), due, approval.deadline, approval.default, approval.who, shown[:SHOWN]
    )


def answered(gate: Gate | None) -> Gate | None:
    """Nobody waits for the answer any more: one that was given is remembered."""
    return None if gate is None or gate.waits else gate


def leave(gate: Gate | None) -> Gate | None:
    """To run, once it was given: it holds for all tries."""
    return gate if gate is not None and gate.when == BEFORE and gate.verdict == APPROVED else None


def ways(number: int) -> str:
    """What to type."""
    return f"`orch approve {number}`, or `orch reject {number} --why ...`"
