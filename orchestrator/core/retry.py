"""Whether, and after how long, a failed phase is tried again: by number and class, never by a counter in a process."""

from __future__ import annotations

from orchestrator.core.outcome import Failure
from orchestrator.core.phase import PhaseState
from orchestrator.core.spec import RetryRule, Spec
from orchestrator.core.value import Value
from orchestrator.errors import CODES, RetryDefault

INTERRUPTED = "INTERRUPTED"
_SPREAD = 0.6180339887498949  # so that phases that fail together are not tried together


class Verdict(Value):
    again: bool
    delay: float = 0.0
    why: str = ""


def default_rules() -> dict[str, RetryRule]:
    return {name: RetryRule(*code.retry) for name, code in CODES.items() if code.retry is not None}


def judge(
    spec: Spec | None, phase: PhaseState, failure: Failure, rules: dict[str, RetryRule], number: int, draw: float
) -> Verdict:
    """`phase` is as it was before this failure was counted."""
    if failure.critical:
        return Verdict(False, why="it said that this is critical")
    rule = rule_for(spec, failure.code, rules)
    if rule is None:
        return Verdict(False, why=f"{failure.code} is never retried")
    used = phase.interruptions if failure.code == INTERRUPTED else phase.failures
    if used >= rule.tries:
        return Verdict(False, why=_used_up(failure.code, used, rule.tries))
    share = (draw + number * _SPREAD) % 1.0
    return Verdict(True, _delay(rule, used) * (1 + rule.jitter * (2 * share - 1)))


def _delay(rule: RetryRule, used: int) -> float:
    try:
        return min(rule.cap, rule.delay * rule.factor**used) if rule.delay else 0.0
    except OverflowError:
        return rule.cap


def rule_for(spec: Spec | None, code: str, rules: dict[str, RetryRule]) -> RetryRule | None:
    """The phase's own rule, else the project's; `retries` sets the number for whatever class may be retried at all."""
    default: RetryDefault | None = CODES[code].retry
    if default is None:
        return None
    own = spec.retry.get(code) if spec else None
    rule = own or rules.get(code) or RetryRule(*default)
    if spec is not None and spec.retries is not None and own is None and code != INTERRUPTED:
        return rule.replace(tries=spec.retries)
    return rule


def _used_up(code: str, used: int, tries: int) -> str:
    if code == INTERRUPTED:
        return f"interrupted {used + 1} times in a row"
    if tries == 0:
        return f"{code} is not retried here"
    return f"its {tries} {'retry is' if tries == 1 else 'retries are'} used up"
