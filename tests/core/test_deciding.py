"""Gates: they open and hold nothing, exactly one decision counts, and each is bound to the run and plan that were seen."""

from __future__ import annotations

import random
from typing import Any

import pytest

from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.agenda import Agenda
from orchestrator.core.draft import Decision
from orchestrator.core.eta import estimate
from orchestrator.core.events import Event, Scope
from orchestrator.core.gate import SHOWN, Approval, Gate
from orchestrator.core.names import epoch
from orchestrator.core.outcome import EXITED, Outcome
from orchestrator.core.phase import PhaseState, phase_document
from orchestrator.core.plan import Plan, Rules
from orchestrator.core.preview import preview
from orchestrator.core.spec import RetryRule
from orchestrator.core.state import from_document, run_document
from tests.core.given import FINE, NOW, Case, an, completed, failed, failing, intended, retrying, run_asked, run_started

BEFORE, AFTER = Approval("before"), Approval("after")


def gated(approval: Approval = AFTER, **how: Any) -> Case:
    """2 needs 1, which is gated; 3 stands for itself."""
    return Case({1: (), 2: (1,), 3: ()}, keys={1: {"approval": approval}}, **how)


def kinds(decision: Decision) -> list[str]:
    return [event.kind for event in decision.events]


def gate_of(case: Case, number: int = 1) -> Gate:
    gate = case.state.phase(number).gate
    assert gate is not None
    return gate


def says(case: Case, verb: str, number: int = 1, by: str = "ann", why: str = "so", gate: str | None = "") -> obs.Asked:
    """About what is seen now; `gate`: about that; None: about nothing that was seen."""
    meant = () if gate is None else (f"gate={gate or gate_of(case, number).id}",)
    return obs.Asked(f"{verb}-{by}-{random.random()}", verb, by, number, why, meant)


def answered(case: Case, ask: obs.Asked) -> tuple[bool, str]:
    case.step(ask)
    answer = case.state.answers[ask.ask]
    return answer["accepted"], answer["text"]


def until_it_waits(approval: Approval = AFTER, **how: Any) -> Case:
    case = gated(approval, **how)
    if approval.when == "before":
        case.step()
    else:
        case.step()
        case.step(obs.Ended(an(1), FINE))
    assert case.status(1) == "awaiting_approval"
    return case


# ---- they open


def test_a_gate_before_the_body_opens_as_soon_as_its_needs_are_done_without_a_slot():
    case = Case({1: (), 2: ()}, keys={2: {"approval": BEFORE}}, jobs=1)
    decision = case.step()
    assert kinds(decision) == ["GateOpened", "AttemptIntended"] and decision.events[1] == case.intends(1)
    assert decision.reasons[0] == "its needs are done, and it asks for approval before it runs"
    behind = Case({1: (), 2: (1,)}, keys={2: {"approval": BEFORE}})
    assert kinds(behind.step()) == ["AttemptIntended"]
    assert kinds(behind.step(obs.Ended(an(1), FINE))) == ["PhaseCompleted", "GateOpened", "RunEnded"]


def test_a_gate_after_the_body_opens_with_its_end_and_what_needs_it_waits():
    case = gated(jobs=1)
    case.step()
    decision = case.step(obs.Ended(an(1), FINE))
    assert kinds(decision) == ["PhaseCompleted", "GateOpened", "AttemptIntended"]
    assert decision.events[2] == case.intends(3), "the slot is free for others"
    assert gate_of(case) == Gate("after", "r1", "digest", case.after(0.0)) and gate_of(case).waits
    assert case.state.awaiting == {1} and not case.state.phase(1).is_done


def test_what_fails_is_not_asked_about():
    case = gated()
    case.step()
    assert "GateOpened" not in kinds(case.step(obs.Ended(an(1), failing("VALIDATION"))))


def test_the_attempt_carries_its_gate_so_that_whoever_cannot_read_phases_any_more_opens_it():
    case = gated()
    case.step()
    turn = Case({}, starts=False)
    turn.state = case.state
    turn.agenda = Agenda(turn.plan, turn.state, turn.moment)
    assert kinds(turn.step(obs.Ended(an(1), FINE))) == ["PhaseCompleted", "GateOpened"]
    assert gate_of(turn).plan == "digest"
    again = PhaseState.from_dict(phase_document(case.state.phase(1)))
    assert again == case.state.phase(1) and again.gate == gate_of(turn)


@pytest.mark.parametrize(
    ("show", "result", "shown"),
    [
        ("look at the total", {"rows": 7}, "look at the total"), ("rows", {"rows": 7}, "rows: 7"), ("rows", None, "rows"),
        ("rows", [1], "rows"), ("", {"": 1}, ": 1"), ("rows", {"rows": "x" * 9999}, ("rows: " + "x" * 9999)[:SHOWN]),
    ],
)  # fmt: skip
def test_what_is_shown_is_a_text_or_a_key_of_the_result(show, result, shown):
    case = gated(Approval(show=show))
    case.step()
    case.step(obs.Ended(an(1), Outcome(EXITED, 0, result=result)))
    assert gate_of(case).shown == shown


# ---- a person decides


def test_yes_after_the_body_is_done_and_lets_others_run():
    case = until_it_waits()
    decision = case.step(says(case, "approve", why="checked"))
    gate = gate_of(case)
    assert kinds(decision) == ["GateApproved", "AskAnswered", "AttemptIntended"]
    assert decision.events[0] == ev.GateApproved(1, gate.id, "digest", "ann", "checked")
    assert case.status(1) == "approved" and case.state.phase(1).why == "approved by ann: checked"
    assert (gate.verdict, gate.by, gate.why, gate.decided_at) == ("approved", "ann", "checked", case.after(0.0))
    assert decision.actions[1].order.results == {"1": {"n": 1}}


def test_yes_before_the_body_lets_it_run_over_all_its_tries_and_only_once_it_is_done_is_asked_again():
    case = until_it_waits(BEFORE, retry={"TRANSIENT": RetryRule(2, 1.0)})
    assert answered(case, says(case, "approve")) == (True, "phase 1 is approved: it may run")
    assert case.status(1) == "starting"
    case.step(obs.Ended(an(1), failing()))
    assert case.status(1) == "retry_wait"
    case.step(after=5.0)
    assert case.status(1) == "starting"
    case.step(obs.Ended(an(1, 2), failing("VALIDATION")))
    case.given(ev.PhaseReset(1, "retry asked"))
    assert gate_of(case).lets_pass("digest"), "fresh tries, the same leave"
    case.given(intended(1, 3), completed(1, 3))
    assert case.given(ev.PhaseReset(1, "--force")).state.phase(1).gate is None, "it was for one doing of it"
    assert case.given(intended(1, 4), failed(1, 4), ev.PhaseReset(1, "x", forgotten=True)).state.phase(1).gate is None


@pytest.mark.parametrize("approval", [BEFORE, AFTER])
def test_no_is_a_failure_that_no_run_tries_again_by_itself(approval):
    case = until_it_waits(approval)
    text = "phase 1 is rejected, and counts as failed; `orch retry 1` asks again"
    assert answered(case, says(case, "reject", why="wrong total")) == (True, text)
    phase = case.state.phase(1)
    assert phase.status == "failed" and phase.outputs is None
    assert (phase.errors[-1]["code"], phase.errors[-1]["message"]) == ("REJECTED", "rejected by ann: wrong total")
    case.given(completed(3)) if case.state.phase(3).is_live else None
    case.given(ev.RunEnded("failed", 1))
    case.step(run_asked())
    assert case.status(1) == "failed", "a person said no"
    step = preview(case.plan, case.state, Scope())[0]
    assert (step.what, step.why) == ("blocked", "rejected by ann: wrong total; `orch retry 1` asks again")
    case.step(obs.Asked("r", "retry", "bob", 1))
    case.step()
    assert case.status(1) == ("awaiting_approval" if approval is BEFORE else "starting")


def test_nobody_rejects_without_a_reason():
    case = until_it_waits()
    assert answered(case, says(case, "reject", why=" ")) == (False, "why? `orch reject N --why ...`: it is recorded")


def test_twice_the_same_is_harmless_and_the_other_comes_too_late():
    case = until_it_waits()
    gate = gate_of(case).id
    case.step(says(case, "approve", why="checked"))
    assert answered(case, says(case, "approve", by="bob", gate=gate)) == (True, "phase 1 is approved already, by ann")
    assert answered(case, says(case, "approve", gate=None)) == (True, "phase 1 is approved already, by ann")
    late = f"too late: phase 1 was approved by ann: checked, at {gate_of(case).decided_at}"
    assert answered(case, says(case, "reject", by="bob", gate=gate)) == (False, late)
    case = until_it_waits(BEFORE)
    case.step(says(case, "reject"))
    assert answered(case, says(case, "approve"))[1].endswith("; `orch retry 1` asks again")


def test_of_two_at_once_exactly_one_decides():
    for verbs in (("approve", "reject"), ("reject", "approve"), ("approve", "approve")):
        case = until_it_waits()
        decision = case.step(says(case, verbs[0], by="ann"), says(case, verbs[1], by="bob"))
        decided = [event for event in decision.events if event.kind in ("GateApproved", "GateRejected")]
        assert [event.by for event in decided] == ["ann"]
        asks = [event.accepted for event in decision.events if isinstance(event, ev.AskAnswered)]
        assert asks == [True, verbs[0] == verbs[1]]


def test_only_who_may_decides():
    case = until_it_waits(Approval(who=("ann", "cid")))
    assert answered(case, says(case, "approve", by="bob")) == (
        False, "phase 1 is for ann or cid to decide, not for bob",
    )  # fmt: skip
    assert answered(case, obs.Asked("k", "skip", "bob", 1, "I say so")) == (
        False, "phase 1 is for ann or cid to decide, not for bob",
    )  # fmt: skip
    assert answered(case, says(case, "approve", by="cid"))[0]


@pytest.mark.parametrize(("by", "accepted"), [("bob", False), ("ann", True)])
def test_who_may_not_decide_may_not_skip_what_has_not_asked_yet(by, accepted):
    case = Case({1: (), 2: (1,)}, keys={2: {"approval": Approval(who=("ann",))}}).live(1)
    assert answered(case, obs.Asked("k", "skip", by, 2, "why not"))[0] == accepted


def test_what_was_not_seen_or_is_another_asking_is_refused():
    case = until_it_waits()
    assert answered(case, says(case, "approve", gate=None)) == (
        False, "phase 1 has begun to wait just now; `orch status` shows for what",
    )  # fmt: skip
    text = "phase 1 was asked anew since: another run, or another plan; `orch status` shows it"
    assert answered(case, says(case, "approve", gate="deadbeef")) == (False, text)
    assert answered(case, obs.Asked("k", "approve", "ann", None)) == (False, "which phase? `orch approve N`")
    old = gate_of(case).id
    case.given(run_started(run="r2"))
    assert case.state.awaiting == set(), "a new run supersedes it"
    assert answered(case, says(case, "approve", gate=old))[1] == (
        "phase 1 is pending: it does not wait for approval"
    )  # fmt: skip
    assert answered(case, says(case, "approve", 3, gate=None))[0] is False


@pytest.mark.parametrize("verb", ["cancel", "skip", "reset"])
def test_it_can_be_cancelled_skipped_or_reset_meanwhile_and_then_nothing_is_left_to_decide(verb):
    case = until_it_waits()
    gate = gate_of(case).id
    assert answered(case, obs.Asked("k", verb, "ann", 1, "so"))[0]
    assert not case.state.awaiting and case.state.phase(1).gate is None and not case.agenda.gates
    assert answered(case, says(case, "approve", gate=gate))[0] is False


def test_it_is_not_retried_while_it_waits():
    case = until_it_waits()
    text = "phase 1 waits for approval: `orch approve 1`, or `orch reject 1 --why ...`"
    assert answered(case, obs.Asked("k", "retry", "ann", 1)) == (False, text)


# ---- its deadline decides


DEADLINES = [("deny", "failed"), ("approve", "approved")]


@pytest.mark.parametrize(("default", "status"), DEADLINES)
def test_the_deadline_decides_as_the_author_said_and_the_loop_wakes_for_it(default, status):
    case = until_it_waits(Approval(deadline=60.0, default=default))
    assert case.wake() <= 60.0 and not [kind for kind in kinds(case.step(after=59.0)) if kind.startswith("Gate")]
    decision = case.step(after=1.0)
    assert case.status(1) == status and not case.agenda.gates
    due = gate_of(case).due_at
    assert decision.events[0].by == "its deadline" and decision.reasons[0] == f"nobody decided until {due}"
    assert gate_of(case).decided().startswith(("rejected" if default == "deny" else "approved") + " by its deadline")


def test_whoever_decides_after_the_deadline_is_too_late_though_nobody_had_noticed_it_before():
    case = until_it_waits(Approval(deadline=60.0))
    case.tick += 61.0
    accepted, text = answered(case, says(case, "approve"))
    assert not accepted and text.startswith("too late: phase 1 was rejected by its deadline: nobody decided until")
    assert case.status(1) == "failed"


@pytest.mark.parametrize(("default", "status"), DEADLINES)
def test_a_deadline_that_passed_while_nobody_was_there_is_carried_out_by_whoever_looks_next(default, status):
    case = until_it_waits(Approval(deadline=60.0, default=default))
    case.given(ev.RunEnded("waiting", 3))
    turn = Case({}, starts=False)
    turn.state, turn.clock = case.state, NOW + 61.0
    turn.agenda = Agenda(turn.plan, turn.state, turn.moment)
    assert kinds(turn.step()) == ["GateRejected" if default == "deny" else "GateApproved"]
    assert turn.status(1) == status


def test_a_clock_that_was_set_back_does_not_make_anybody_wait_longer_than_the_whole_deadline():
    case = until_it_waits(Approval(deadline=60.0))
    case.clock -= 86_400.0
    case.agenda = Agenda(case.plan, case.state, case.moment)
    assert case.agenda.gates[0][0] == case.tick + 60.0


# ---- another plan


def replanned(case: Case, approval: Approval | None = AFTER) -> Case:
    specs = [spec.replace(approval=approval) if number == 1 else spec for number, spec in case.plan.specs.items()]
    case.plan = Plan(specs, Rules(jobs=2), "another")
    return case


def test_a_plan_that_was_edited_asks_anew_and_what_was_seen_before_does_not_count():
    case = until_it_waits(Approval(deadline=60.0, show="rows"))
    old = gate_of(case)
    case.given(ev.RunEnded("waiting", 3))
    decision = replanned(case, Approval(deadline=600.0, show="n")).step(run_asked())
    assert kinds(decision)[:3] == ["RunContinued", "PlanAdopted", "GateOpened"]
    assert gate_of(case).plan == "another" and gate_of(case).shown == "n: 1"
    assert epoch(gate_of(case).due_at or "") > epoch(old.due_at or "")
    assert answered(case, says(case, "approve", gate=old.id))[0] is False
    assert answered(case, says(case, "approve"))[0] is True


def test_whoever_takes_the_gate_out_of_the_file_has_not_approved():
    case = until_it_waits(Approval(who=("cid",)))
    case.given(ev.RunEnded("waiting", 3))
    replanned(case, None).step(run_asked())
    assert case.status(1) == "awaiting_approval" and gate_of(case).who == ("cid",)


def test_leave_to_run_is_for_the_plan_that_was_seen():
    case = until_it_waits(BEFORE)
    case.step(says(case, "approve"))
    case.given(retrying(1), ev.RunEnded("waiting", 3))
    replanned(case, BEFORE).step(run_asked())
    assert case.status(1) == "pending" and case.agenda.asking == [1]
    assert kinds(case.step())[0] == "GateOpened"


def test_with_the_same_plan_it_goes_on_waiting_as_before():
    case = until_it_waits(Approval(deadline=60.0))
    before = gate_of(case)
    case.given(ev.RunEnded("waiting", 3))
    case.step(run_asked(), after=5.0)
    assert gate_of(case) == before and case.agenda.gates == [(60.0, 1)]


# ---- the run around it


def test_a_run_in_which_only_gates_are_left_ends_as_waiting():
    case = until_it_waits()
    decision = case.step(obs.Ended(an(3), FINE))
    assert decision.events[-1] == ev.RunEnded("waiting", 3)
    case = until_it_waits()
    assert case.step(obs.Ended(an(3), failing("VALIDATION"))).events[-1] == ev.RunEnded("waiting", 1)


def test_one_outside_of_the_range_keeps_nobody_waiting():
    case = until_it_waits().given(ev.RunEnded("waiting", 3))
    case.given(intended(3, 2)) if case.status(3) == "pending" else None
    case.given(completed(3)) if case.state.phase(3).is_live else None
    case.given(ev.PhaseReset(3, "again"))
    case.step(run_asked(scope=Scope(only=(3,))))
    case.step()
    number = case.state.phase(3).attempt
    assert case.step(obs.Ended(an(3, number), FINE)).events[-1] == ev.RunEnded("completed", 0)


def test_with_a_retry_that_is_due_later_it_waits_for_that_first():
    case = until_it_waits()
    decision = case.step(obs.Ended(an(3), failing()))
    assert "RunEnded" not in kinds(decision) and case.wake() < 100


def test_afterwards_it_is_said_that_orch_run_goes_on():
    case = until_it_waits(starts=True).given(ev.RunEnded("waiting", 3))
    case.mode = case.mode.replace(starts=False)
    assert answered(case, says(case, "approve")) == (True, "phase 1 is approved; `orch run` goes on")
    assert answered(case, says(case, "approve"))[1].endswith("; `orch run` goes on")


def test_a_gate_opens_in_a_paused_run_and_nothing_starts():
    case = gated(BEFORE).given(ev.RunPaused("ann"))
    assert kinds(case.step()) == ["GateOpened"]
    assert kinds(case.step(says(case, "approve"))) == ["GatePassed", "AskAnswered"]
    assert kinds(case.step(obs.Asked("k", "resume", "ann"))) == [
        "RunResumed", "AskAnswered", "AttemptIntended", "AttemptIntended",
    ]  # fmt: skip


def test_nothing_opens_in_a_run_that_is_being_ended_nor_in_a_turn():
    assert kinds(gated(BEFORE).given(ev.RunStopping("SIGTERM", 143)).step()) == ["RunEnded"]
    assert kinds(gated(BEFORE, starts=False).step()) == []


def test_what_a_run_would_do_says_where_a_person_is_asked():
    steps = {step.number: (step.what, step.why) for step in preview(gated(BEFORE).plan, gated().state, Scope())}
    assert steps[1] == ("wait", "asks for approval before it runs")
    assert steps[2] == ("wait", "until 1 is approved") and steps[3][0] == "run"
    chain = Case({1: (), 2: (), 3: (1, 2), 4: (3,)}, keys={n: {"approval": AFTER} for n in (1, 2)})
    assert [step.why for step in preview(chain.plan, chain.state, Scope())][2:] == ["until 1 and 2 are approved"] * 2
    steps = {step.number: (step.what, step.why) for step in preview(gated().plan, gated().state, Scope())}
    assert steps[1] == ("run", "not run yet") and steps[2] == ("wait", "until 1 is approved")
    case = until_it_waits(Approval(who=("ann",)))
    steps = {step.number: (step.what, step.why) for step in preview(case.plan, case.state, Scope())}
    ways = "`orch approve 1`, or `orch reject 1 --why ...`"
    assert steps[1] == ("wait", f"waits for approval by ann: {ways}")


def test_the_forecast_ends_where_only_a_person_can_go_on():
    history = {1: 10.0, 2: 1000.0, 3: 20.0}
    for approval in (BEFORE, AFTER):
        case = gated(approval)
        for number, seconds in history.items():
            case.state.phases[number] = case.state.phase(number).replace(durations=(seconds,) * 5)
        eta = estimate(case.plan, case.state, Scope(), 2, NOW)
        assert eta is not None and eta.high < 100, "what waits for a person is no work to come"


def test_state_json_holds_the_gate_whole():
    case = until_it_waits(Approval(deadline=60.0, who=("ann",), show="n"))
    document = {**run_document(case.state), "phases": {str(n): phase_document(p) for n, p in case.state.phases.items()}}
    again = from_document(document)
    assert again.phases == case.state.phases and again.awaiting == {1}
    told = document["phases"]["1"]["gate"]
    assert told["who"] == ["ann"] and told["verdict"] == "" and told["shown"] == "n: 1"


# ---- whatever happens, the agenda that follows is the one that would be made anew


def asks_of(case: Case, draw: random.Random) -> list[obs.Observation]:
    batch: list[obs.Observation] = []
    for index in range(draw.choice((1, 1, 2, 3))):
        verb = draw.choice(("cancel", "retry", "pause", "resume", "skip", "reset", "approve", "approve", "reject"))
        number = None if verb in ("pause", "resume") else draw.choice([*case.plan.specs])
        gate = case.state.phase(number).gate if number is not None else None
        options = (
            (f"gate={gate.id}",) if gate else ("with-dependents",) if verb == "reset" and draw.random() < 0.5 else ()
        )
        batch.append(obs.Asked(f"{case.tick}-{index}-{draw.random()}", verb, "ann", number, "so", options))
    live = sorted(case.state.live)
    for number in draw.sample(live, draw.randint(0, len(live))):
        attempt = case.state.attempt_id(number)
        batch.append(obs.Ended(attempt, draw.choice((FINE, FINE, failing(), failing("VALIDATION")))))
    return batch


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_asked_at_once_leads_where_the_table_allows_and_the_agenda_follows(seed):
    draw = random.Random(seed)
    needs = {number: tuple(sorted(draw.sample(range(1, number), min(number - 1, draw.choice((0, 1, 1, 2))))))
             for number in range(1, 8)}  # fmt: skip
    keys = {n: {"approval": Approval(draw.choice(("before", "after")), draw.choice((None, 20.0)))}
            for n in needs if draw.random() < 0.4}  # fmt: skip
    case = Case(needs, keys=keys)
    for _ in range(60):
        if case.state.run.verdict is not None:
            case.step(run_asked(new=draw.random() < 0.1, run=f"r{draw.random()}"))
        batch = asks_of(case, draw)
        decision = case.step(*batch, after=draw.choice((0.0, 1.0, 30.0)))
        answers = [event.ask for event in decision.events if isinstance(event, ev.AskAnswered)]
        assert sorted(answers) == sorted(one.ask for one in batch if isinstance(one, obs.Asked))
        fresh = Agenda(case.plan, case.state, case.moment)
        assert (case.agenda.ready, case.agenda.asking, case.agenda.unmet) == (fresh.ready, fresh.asking, fresh.unmet)
        assert [n for _, n in sorted(case.agenda.waiting, key=lambda one: one[1])] == sorted(
            n for _, n in fresh.waiting
        )
        assert sorted(n for _, n in case.agenda.gates) == sorted(n for _, n in fresh.gates)


def test_events_of_gates_are_read_as_they_were_written():
    gate = Gate("after", "r1", "digest", "2026-11-20T02:00:00.000Z", who=("ann",))
    for event in (ev.GateOpened(1, gate), intended(1).replace(approval=Approval(who=("ann",)))):
        assert Event.from_dict(event.as_dict()) == event
