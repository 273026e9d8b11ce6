from __future__ import annotations

import re

from orchestrator.core import events as ev
from orchestrator.core.events import Scope
from orchestrator.core.outcome import Failure
from orchestrator.core.phase import PhaseState
from orchestrator.core.plan import BLOCKED, GOES_ON, KEEP, RUN, WAIT, Plan, Rules, stays_failed
from orchestrator.core.preview import Step, preview
from orchestrator.core.spec import Limits, RetryRule
from orchestrator.core.state import State
from tests.core.given import NOW, Case, an, completed, failed, intended, iso, retrying, spec_of

CHAIN = {1: (), 2: (1,), 3: (2,)}
LOST = Failure("INTERRUPTED", "gone")


def steps(case: Case, scope: Scope | None = None, **how: bool) -> list[tuple[int, str, str]]:
    return [(step.number, step.what, step.why) for step in preview(case.plan, case.state, scope or Scope(), **how)]


def test_a_fresh_pipeline_is_run_in_its_order():
    assert preview(Case({1: ()}).plan, State(), Scope()) == [Step(1, "p1", RUN, "not run yet")]
    assert steps(Case({3: (), 1: (3,)})) == [(1, RUN, "not run yet"), (3, RUN, "not run yet")]


def test_what_is_done_is_kept_unless_forced_or_new():
    case = Case({1: (), 2: (1,)}).given(intended(1), completed(1))
    assert steps(case) == [(1, KEEP, "completed in this run"), (2, RUN, "not run yet")]
    assert steps(case, force=True)[0] == (1, RUN, "--force")
    assert steps(case, new=True)[0] == (1, RUN, "a new run")


def test_what_failed_or_was_cancelled_runs_again_and_what_waits_waits():
    case = Case({1: (), 2: (), 3: (), 4: ()})
    case.given(intended(1), failed(1), ev.PhaseCancelled(2, "ann"), intended(3), retrying(3), intended(4))
    assert steps(case) == [
        (1, RUN, "it failed"), (2, RUN, "not run yet"), (3, WAIT, f"retry due {iso(NOW + 60)}"),
        (4, GOES_ON, "attempt 1 is in progress"),
    ]  # fmt: skip


def test_outside_the_range_nothing_moves_and_what_needs_it_is_blocked():
    case = Case(CHAIN)
    assert steps(case, Scope(first=2)) == [
        (1, KEEP, "outside the range, pending"),
        (2, BLOCKED, "needs 1 (outside the range, pending)"),
        (3, BLOCKED, "needs 2, behind 1 (outside the range, pending)"),
    ]
    longer = Case({**CHAIN, 4: (3,), 5: (1, 4)})
    assert steps(longer, Scope(first=2))[3:] == [
        (4, BLOCKED, "needs 3, behind 1 (outside the range, pending)"),
        (5, BLOCKED, "needs 1 (outside the range, pending), 4, behind 1 (outside the range, pending)"),
    ]
    case.given(intended(1), completed(1))
    assert steps(case, Scope(first=2))[:2] == [(1, KEEP, "outside the range, done"), (2, RUN, "not run yet")]
    assert case.plan.unmet_outside(Scope(first=2), case.state) == {}
    assert Case(CHAIN).plan.unmet_outside(Scope(only=(3,)), State()) == {2: [3]}


def test_a_file_that_cannot_be_imported_blocks_what_needs_it():
    case = Case(CHAIN, keys={2: {"broken": "line 3: invalid syntax"}})
    assert steps(case)[1:] == [(2, RUN, "line 3: invalid syntax"), (3, BLOCKED, "needs 2 (line 3: invalid syntax)")]


def test_what_was_interrupted_too_often_stays_failed_and_says_so():
    case = Case({1: (), 2: (1,)})
    plan = case.plan
    assert stays_failed(plan, 1, PhaseState(status="failed", interruptions=3)) == ""
    assert stays_failed(plan, 1, PhaseState(status="pending", interruptions=4)) == ""
    for attempt in range(1, 5):
        reset = ev.PhaseReset(1, "again", attempt - 1)
        case.given(*([reset] if attempt > 1 else []), intended(1, attempt), ev.PhaseRecovered(1, attempt, LOST))
    why = "interrupted 4 times in a row; `orch retry 1` runs it again"
    assert steps(case) == [(1, BLOCKED, why), (2, BLOCKED, f"needs 1 ({why})")]


def test_the_projects_rules_are_laid_over_the_defaults():
    plan = Plan([], Rules(retry={"FAILED": RetryRule(7)}), "digest")
    assert plan.rules.retry["FAILED"] == RetryRule(7) and plan.rules.retry["TRANSIENT"] == RetryRule(3, 60)


def test_the_net_strikes_after_the_agent_had_its_time():
    case = Case({1: (), 2: ()}, keys={1: {"timeout": 10.0}}, timeout=100.0, kill_grace=5.0)
    assert (case.plan.timeout(1), case.plan.timeout(2), case.plan.timeout(99)) == (10.0, 100.0, 100.0)
    assert case.plan.net_seconds(1) == 10.0 + 5.0 + 30.0


def test_an_order_holds_all_that_an_agent_needs():
    keys = {
        "timeout": 10.0,
        "heartbeat_timeout": 3.0,
        "env": {"A": "b"},
        "cwd": "sub",
        "limits": Limits(memory=9),
        "digest": "d",
    }
    case = Case({1: (), 2: (1,)}, keys={2: keys}, kill_grace=1.0, log_bytes=99).given(intended(1), completed(1))
    order = case.plan.order(an(2, 4), "now", case.state.phase)
    assert (order.attempt, order.name, order.file, order.digest, order.run) == (
        an(2, 4),
        "p2",
        "phases/all.toml",
        "d",
        "true",
    )
    assert (order.timeout, order.heartbeat_timeout, order.kill_grace, order.cwd) == (10.0, 3.0, 1.0, "sub")
    assert (order.env, order.limits, order.log_bytes, order.due) == ({"A": "b"}, Limits(memory=9), 99, "now")
    assert order.results == {"1": {"n": 1}} and order.log == "system/logs/phases/2/4.log"


def test_the_trace_names_the_run_and_the_attempt():
    case = Case({1: (), 2: ()})
    traces = [case.plan.order(attempt, "", case.state.phase).trace for attempt in (an(1), an(1, 2), an(1, run="r2"))]
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace) for trace in traces) and len(set(traces)) == 3
    assert traces[0].split("-")[1] == traces[1].split("-")[1] != traces[2].split("-")[1]


def test_titles_are_for_the_journal():
    plan = Plan([spec_of(2, title="Two"), spec_of(-1)], Rules(), "")
    assert plan.titles() == {"-1": ["p-1", ""], "2": ["p2", "Two"]} and list(plan.titles()) == ["-1", "2"]
