from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.outcome import Failure
from orchestrator.core.phase import PhaseState
from orchestrator.core.retry import Verdict, default_rules, judge, rule_for
from orchestrator.core.spec import RetryRule
from orchestrator.errors import CODES
from tests.core.given import spec_of

MINUTES = {
    "CONFLICT": (1, 2, 4), "TRANSIENT": (1, 2, 4), "RESOURCE": (5, 10, 20), "DEPENDENCY": (5, 10, 20),
    "FAILED": (1,), "INTERRUPTED": (0, 0, 0), "TIMEOUT": (),
}  # fmt: skip
NEVER = set(CODES) - set(MINUTES)
EXACT = 0.5 - (3 * 0.6180339887498949) % 1.0  # the draw at which phase 3 is given neither more nor less


def verdict(code: str, used: int = 0, draw: float = EXACT % 1.0, rules: dict | None = None, **keys) -> Verdict:
    phase = PhaseState(interruptions=used) if code == "INTERRUPTED" else PhaseState(failures=used)
    return judge(spec_of(3, **keys), phase, Failure(code, "no"), {**default_rules(), **(rules or {})}, 3, draw)


@pytest.mark.parametrize("code", MINUTES)
def test_each_class_waits_as_the_design_says_and_then_no_more(code):
    delays = MINUTES[code]
    for used, minutes in enumerate(delays):
        found = verdict(code, used)
        assert found.again and found.delay == pytest.approx(60 * minutes)
    last = verdict(code, len(delays))
    assert not last.again and last.why


@pytest.mark.parametrize("code", sorted(NEVER))
def test_what_is_never_retried_is_not_whatever_is_asked_for(code):
    own = {code: RetryRule(5)}
    assert verdict(code, retries=5, retry=own, rules=own) == Verdict(False, why=f"{code} is never retried")


def test_six_classes_and_no_others_are_never_retried():
    assert {"CONFIGURATION", "VALIDATION", "NOT_FOUND", "PERMISSION", "INTERNAL", "REJECTED"} == NEVER


@pytest.mark.parametrize("code", sorted(set(MINUTES) - {"INTERRUPTED"}))
def test_retries_n_means_n_for_whatever_may_be_retried_at_all(code):
    assert [verdict(code, used, retries=2).again for used in range(3)] == [True, True, False]
    assert not verdict(code, retries=0).again


def test_retries_do_not_touch_the_budget_of_interruptions():
    assert verdict("INTERRUPTED", 2, retries=0).again and not verdict("INTERRUPTED", 3, retries=9).again


def test_interruptions_and_failures_have_each_their_own_budget():
    tired = PhaseState(failures=3, interruptions=0)
    assert judge(None, tired, Failure("INTERRUPTED", ""), default_rules(), 3, 0.5).again
    assert not judge(None, tired, Failure("TRANSIENT", ""), default_rules(), 3, 0.5).again


def test_the_phases_own_rule_beats_the_projects_and_the_number():
    project, own = {"TRANSIENT": RetryRule(1, 7, jitter=0)}, {"TRANSIENT": RetryRule(5, 9, 1, jitter=0)}
    assert verdict("TRANSIENT", 0, rules=project) == Verdict(True, 7.0)
    assert not verdict("TRANSIENT", 1, rules=project).again
    assert verdict("TRANSIENT", 4, rules=project, retry=own, retries=0) == Verdict(True, 9.0)
    assert rule_for(None, "TRANSIENT", {}) == RetryRule(3, 60)


def test_a_delay_never_exceeds_its_cap_by_more_than_the_jitter():
    assert verdict("TRANSIENT", 99, retry={"TRANSIENT": RetryRule(100)}).delay == pytest.approx(3600)
    assert verdict("TRANSIENT", 5000, retry={"TRANSIENT": RetryRule(9999)}).delay == pytest.approx(3600)


@settings(max_examples=25)
@given(st.floats(0, 1, exclude_max=True), st.integers(-50, 50), st.integers(0, 2))
def test_jitter_stays_within_a_tenth(draw, number, used):
    found = judge(None, PhaseState(failures=used), Failure("TRANSIENT", ""), default_rules(), number, draw)
    assert 0.9 * 60 * 2**used - 1e-6 <= found.delay <= 1.1 * 60 * 2**used + 1e-6


def test_phases_that_fail_together_are_not_tried_together():
    delays = {
        round(judge(None, PhaseState(), Failure("FAILED", ""), default_rules(), n, 0.3).delay, 3) for n in range(20)
    }
    assert len(delays) == 20


@pytest.mark.parametrize(
    ("code", "used", "why"),
    [
        ("FAILED", 1, "its 1 retry is used up"),
        ("TRANSIENT", 3, "its 3 retries are used up"),
        ("TIMEOUT", 0, "TIMEOUT is not retried here"),
        ("INTERRUPTED", 3, "interrupted 4 times in a row"),
    ],
)
def test_it_says_why_it_is_over(code, used, why):
    assert verdict(code, used).why == why
