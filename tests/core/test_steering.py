"""Pause, resume, skip and reset: what is answered, what is written down, and what the loop makes of it."""

from __future__ import annotations

import pytest

from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.asking import answer
from orchestrator.core.draft import Draft
from orchestrator.core.eta import estimate
from orchestrator.core.events import Event, Scope
from orchestrator.core.outcome import Failure
from orchestrator.core.phase import PhaseState, phase_document
from orchestrator.core.preview import preview
from orchestrator.core.state import from_document, run_document
from tests.core.given import FINE, NOW, Case, an, completed, failed, intended, retrying, run_asked, run_started

PAUSED = ev.RunPaused("ann")


def given(starts: bool = True) -> Case:
    """1 completed, 2 failed, 3 in retry_wait, 4 cancelled, 5 running, 6 pending, 7 skipped; 6 needs 5, 8 needs 6."""
    needs: dict[int, tuple[int, ...]] = {**dict.fromkeys(range(1, 8), ()), 6: (5,), 8: (6,)}
    case = Case(needs, starts=starts)
    case.given(intended(1), completed(1), intended(2), failed(2), intended(3), retrying(3), ev.PhaseCancelled(4, "bob"))
    return case.given(ev.PhaseSkipped(7, "old", "bob")).live(5)


def asked(verb: str, number: int | None = None, *options: str, why: str = "") -> obs.Asked:
    return obs.Asked("k1", verb, "ann", number, why, options)


def ask(case: Case, *what: object, why: str = "") -> tuple[bool, str, tuple[Event, ...]]:
    draft = Draft(case.plan, case.state, case.agenda, case.moment, case.mode)
    accepted, text = answer(draft, asked(*what, why=why))  # type: ignore[arg-type]
    assert not draft.decision().actions
    return accepted, text, draft.decision().events


def forgotten(*numbers: int) -> tuple[Event, ...]:
    return tuple(ev.PhaseReset(number, "reset by ann", forgotten=True) for number in numbers)


# ---- pause and resume


def test_a_pause_and_its_end_are_written_down_and_asked_for_twice_change_nothing():
    case = given()
    text = "paused: nothing new starts, 1 attempt in hand goes on; `orch resume` lets it go on"
    assert ask(case, "pause", why="moving") == (True, text, (ev.RunPaused("ann", "moving"),))
    assert ask(case, "resume") == (True, "the run is not paused", ())
    case.given(ev.RunPaused("ann", "moving"))
    assert case.state.run.paused == "by ann: moving" and case.state.run.paused_at
    assert ask(case, "pause") == (True, "the run is paused already; `orch resume` lets it go on", ())
    assert ask(case, "resume") == (True, "resumed", (ev.RunResumed("ann"),))
    case.given(ev.RunResumed("ann"))
    assert (case.state.run.paused, case.state.run.paused_at) == (None, None)


def test_both_at_once_are_done_in_their_order():
    case = Case({1: ()})
    decision = case.step(asked("pause").replace(ask="a"), asked("pause").replace(ask="b"), asked("resume"))
    assert [event.kind for event in decision.events] == [
        "RunPaused", "AskAnswered", "AskAnswered", "RunResumed", "AskAnswered", "AttemptIntended",
    ]  # fmt: skip


def test_nothing_starts_in_a_paused_run_what_runs_goes_on_and_it_does_not_end():
    case = Case({1: (), 2: (1,), 3: ()}, jobs=1).live(1).given(PAUSED)
    assert [event.kind for event in case.step(obs.Ended(an(1), FINE)).events] == ["PhaseCompleted"]
    assert case.step().is_empty and case.wake() == 3600.0 and case.state.run.verdict is None
    decision = case.step(asked("resume"))
    assert [event.kind for event in decision.events] == ["RunResumed", "AskAnswered", "AttemptIntended"]


def test_a_due_retry_waits_for_the_end_of_the_pause_without_spinning():
    case = Case({1: ()}).given(intended(1), retrying(1, 5.0), PAUSED)
    assert case.step(after=60.0).is_empty and case.wake() == 3600.0
    assert case.step(asked("resume")).events[-1] == case.intends(1, 2)


def test_a_paused_run_that_is_not_to_wait_ends_as_waiting():
    case = Case({1: ()}, no_wait=True).given(PAUSED)
    assert case.step().events == (ev.RunEnded("waiting", 3),)
    case = Case({1: (), 2: ()}, no_wait=True).given(PAUSED, intended(1), failed(1))
    assert case.step().events == (ev.RunEnded("waiting", 1),)


def test_a_run_that_is_all_done_has_nothing_to_hold_back():
    case = Case({1: ()}).live(1).given(PAUSED)
    assert case.step(obs.Ended(an(1), FINE)).events[-1] == ev.RunEnded("completed", 0)
    assert (case.state.run.paused, case.state.run.paused_at) == (None, None)


@pytest.mark.parametrize("no_wait", [True, False])
def test_a_paused_run_with_nothing_left_to_start_ends_as_any_other(no_wait):
    case = Case({1: (), 2: (1,)}, no_wait=no_wait).given(PAUSED, intended(1), completed(1), intended(2), failed(2))
    assert case.step().events == (ev.RunEnded("failed", 1),)


def test_the_next_call_is_paused_as_well_and_a_new_run_is_not():
    case = given().given(PAUSED, ev.RunEnded("waiting", 3))
    assert not case.step(run_asked()).is_empty and case.state.run.paused
    case.step(run_asked(new=True))
    assert case.state.run.paused is None


def test_it_is_refused_where_there_is_nothing_to_pause():
    nothing = Case({1: ()})
    nothing.state.run = nothing.state.run.replace(id="")
    for verb in ("pause", "skip", "reset"):
        assert ask(nothing, verb, 1, why="so") == (False, "no run yet: `orch run` begins one", ())
    assert ask(nothing, "resume") == (True, "no run yet: `orch run` begins one", ())
    assert ask(given().given(ev.RunStopping("SIGTERM", 143)), "pause")[0] is False
    over = Case({1: ()}, starts=False).given(intended(1), completed(1), ev.RunEnded("completed", 0))
    assert ask(over, "pause") == (False, "the run is over: nothing in it could be paused", ())
    assert ask(over.given(*forgotten(1)), "pause")[0], "`orch run` would run what was reset"
    failing = Case({1: ()}, starts=False).given(intended(1), failed(1), ev.RunEnded("failed", 1))
    assert ask(failing, "pause")[0], "`orch run` goes on with it"
    assert ask(failing.given(PAUSED), "resume")[1] == "resumed; `orch run` goes on"


def test_no_time_is_told_of_a_paused_run():
    case = Case({1: (), 2: ()}).given(intended(1), completed(1))
    assert estimate(case.plan, case.state, Scope(), 2, NOW) is not None
    assert estimate(case.plan, case.given(PAUSED).state, Scope(), 2, NOW) is None


# ---- skip


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize(
    ("number", "accepted", "text"),
    [
        (1, False, "phase 1 is completed already"),
        (2, True, "phase 2 counts as done; `orch retry 2` takes that back"),
        (3, True, "phase 3 counts as done; `orch retry 3` takes that back"),
        (4, True, "phase 4 counts as done; `orch retry 4` takes that back"),
        (5, False, "phase 5 is in progress; `orch cancel 5` ends it, then skip it"),
        (6, True, "phase 6 counts as done; `orch retry 6` takes that back"),
        (7, True, "phase 7 is skipped already"),
        (None, False, "which phase? `orch skip N --why ...`"),
    ],
)
def test_skip(number, accepted, text, starts):
    noted = (ev.PhaseSkipped(number, "by hand", "ann"),) if "counts as done" in text else ()
    assert ask(given(starts), "skip", number, why="by hand") == (accepted, text, noted)


def test_nobody_skips_without_a_reason():
    assert ask(given(), "skip", 6, why=" ")[:2] == (False, "why? `orch skip N --why ...`: it is recorded")


def test_what_needs_a_skipped_phase_runs_and_is_handed_no_result():
    case = Case({1: (), 2: (1,)}).given(intended(1), failed(1))
    decision = case.step(asked("skip", 1, why="by hand"))
    assert decision.events[-1] == case.intends(2)
    assert decision.actions[-1].order.results == {"1": None}
    assert case.step(obs.Ended(an(2), FINE)).events[-1] == ev.RunEnded("completed", 0)
    assert case.state.phase(1).why == "skipped by ann: by hand" and case.state.runs[-1]["done"] == 2
    assert next((step.what, step.why) for step in preview(case.plan, case.state, Scope())) == (
        "keep", "skipped in this run",
    )  # fmt: skip


def test_a_skip_is_taken_back_and_forgotten_by_a_new_run():
    case = given()
    assert ask(case, "retry", 7)[2] == (ev.PhaseReset(7, "retry asked by ann"),)
    assert ask(case, "reset", 7)[2] == forgotten(7)
    assert case.given(run_started(run="r2")).status(7) == "pending"


def test_a_skipped_phase_takes_no_time():
    case = Case({1: (), 2: ()}).given(intended(1), completed(1), run_started(run="r2"))
    both = estimate(case.plan, case.state, Scope(), 1, NOW)
    one = estimate(case.plan, case.given(ev.PhaseSkipped(1, "so", "ann")).state, Scope(), 1, NOW)
    assert both and one and one.likely < 0.7 * both.likely


# ---- reset


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize(
    ("number", "accepted", "text"),
    [
        *((number, True, f"phase {number} is pending, as if never run") for number in (1, 2, 3, 4, 7)),
        (5, False, "in progress: 5 (attempt 5.1); `orch cancel 5` ends it"),
        (6, True, "phase 6 is pending already, and never ran"),
    ],
)
def test_reset_of_one(number, accepted, text, starts):
    later = "; `orch run` runs it" if accepted and not starts else ""
    noted = forgotten(number) if "as if" in text else ()
    assert ask(given(starts), "reset", number) == (accepted, text + later, noted)


def test_a_phase_that_was_reset_is_as_one_that_never_ran_but_for_its_log_numbers_and_durations():
    case = given()
    before = case.state.phase(1)
    after = case.given(*forgotten(1)).state.phase(1)
    assert after == PhaseState(name="p1", attempt=before.attempt, durations=before.durations, why="reset by ann")


def test_reset_with_all_that_need_it():
    case = Case({1: (), 2: (1,), 3: (2,), 4: ()})
    for number in (1, 2, 3, 4):
        case.given(intended(number), completed(number))
    text = "phases 1, 2, 3 are pending, as if never run"
    assert ask(case, "reset", 1, "with-dependents") == (True, text, forgotten(1, 2, 3))
    assert ask(case.given(*forgotten(3)).live(3, attempt=2), "reset", 1, "with-dependents") == (
        False, "in progress: 3 (attempt 3.2); `orch cancel 3` ends it", (),
    )  # fmt: skip
    step = case.step(asked("reset", 1))
    assert case.intends(1, 2) in step.events, "it runs again at once, beside what is in progress"


def test_reset_of_all_leaves_out_what_has_no_past_and_is_refused_while_anything_runs():
    assert ask(given(), "reset") == (False, "in progress: 5 (attempt 5.1); `orch cancel 5` ends it", ())
    case = given(starts=False).given(ev.PhaseCancelled(5, "bob", 1))
    text = "phases 1, 2, 3, 4, 5, 7 are pending, as if never run; `orch run` runs it"
    assert ask(case, "reset") == (True, text, forgotten(1, 2, 3, 4, 5, 7))
    many = Case(dict.fromkeys(range(1, 13), ()), jobs=20).live(*range(1, 13))
    assert ask(many, "reset")[1].endswith("5 (attempt 5.1), and 7 more; `orch cancel` ends them")
    case = Case(dict.fromkeys(range(1, 13), ()))
    for number in range(1, 13):
        case.given(intended(number), completed(number))
    assert ask(case, "reset")[1] == "12 phases are pending, as if never run"


def test_who_needs_what_is_not_guessed_where_the_definitions_are_not_known():
    case = given()
    bare = Case({}, starts=False)
    bare.state = case.state
    text = "who needs what is not known here, as phases/ has changed since: `orch plan` reads it, then reset"
    assert ask(bare, "reset", 1, "with-dependents") == (False, text, ())
    assert ask(bare, "reset", 1) == (True, "phase 1 is pending, as if never run; `orch run` runs it", forgotten(1))


def test_nothing_is_reset_while_the_run_is_being_ended():
    assert ask(given().given(ev.RunStopping("SIGTERM", 143)), "reset", 1)[0] is False


def lost() -> Case:
    """1 completed, 2 failed for lack of its machine, 3 for itself, 4 waits because its agent was lost, 5 is in progress."""
    case = Case(dict.fromkeys(range(1, 6), ()))
    gone = Failure("INTERRUPTED", "gone")
    case.given(intended(1), completed(1), intended(2), ev.PhaseRecovered(2, 1, gone, 0.0, "a9", "then"))
    case.given(intended(3), failed(3), intended(4), ev.RetryScheduled(4, 1, gone, 2.0, "2027-01-01T00:00:00Z", 9.0))
    return case.live(5)


def test_reset_of_what_was_lost_touches_nothing_else():
    case = lost()
    assert ask(case, "reset", None, "lost") == (True, "phases 2, 4 are pending, as if never run", forgotten(2, 4))
    assert ask(case, "reset", 2, "lost")[2] == forgotten(2)
    assert ask(case, "reset", 3, "lost") == (True, "nothing was lost", ())
    assert ask(case, "reset", 5, "lost") == (False, "in progress: 5 (attempt 5.1); `orch cancel 5` ends it", ())


def test_whoever_cannot_be_asked_from_here_is_named_and_only_overridden_on_purpose():
    case = lost()
    case.mode = case.mode.replace(hidden=("a1",))
    owner = "agent a1 (pid 20 on host)"
    assert ask(case, "reset", 5) == (
        False,
        f"in progress: 5 (attempt 5.1); whether {owner} lives cannot be told from here: --lost counts it as lost", (),
    )  # fmt: skip
    accepted, text, events = ask(case, "reset", None, "lost")
    assert accepted and text == "phases 2, 4, 5 are pending, as if never run"
    recovered = events[2]
    assert isinstance(recovered, ev.PhaseRecovered) and recovered.owner == owner
    assert recovered.failure.message.startswith(f"{owner} cannot be reached, and ann counts it as lost")
    case.step(asked("reset", 5, "lost"))
    news = case.step(obs.Started(an(5), 35, 3))
    assert [type(action).__name__ for action in news.actions] == ["StopAttempt"], "it is there again: it is ended"


def test_what_is_kept_in_state_json_is_read_again():
    case = given().given(ev.RunPaused("ann", "so"))
    document = {**run_document(case.state), "phases": {str(n): phase_document(p) for n, p in case.state.phases.items()}}
    again = from_document(document)
    assert again.run == case.state.run and again.phases == case.state.phases
    del document["run"]["paused"], document["run"]["paused_at"]
    assert from_document(document).run.paused is None, "an older orch wrote none"
