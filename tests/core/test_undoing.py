from __future__ import annotations

import pytest

from orchestrator.core import actions as act
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.decide import is_over
from orchestrator.core.outcome import EXITED, NEVER_STARTED, Failure, Outcome
from orchestrator.core.plan import CHECKPOINT_SECONDS, READING
from orchestrator.core.reconcile import reconcile
from orchestrator.core.table import FAILED, PENDING
from tests.core.given import FINE, Case, an, asked, failing, run_asked

MADE = "phase_1_20270115_080000"
CRITICAL = Outcome(EXITED, 1, failure=Failure("TRANSIENT", "half written", critical=True), duration_seconds=2.0)


def case(*, jobs: int = 2, **more) -> Case:
    keys = {1: {"checkpoint": True, "on_critical": "rollback", "outputs": ("out",), **more}}
    return Case({1: (), 2: (1,)}, keys=keys, jobs=jobs)


def begun(**more) -> Case:
    """Its checkpoint is made, its first attempt runs."""
    found = case(**more)
    found.step()
    found.step(obs.CheckpointMade(found.start(1).order, MADE))
    found.step(obs.Started(an(1), 30, 3))
    return found


def test_the_checkpoint_comes_before_the_attempt():
    found = case()
    order = found.start(1).order
    first = found.step()
    assert first.actions == (act.MakeCheckpoint(order),) and found.status(1) == "starting"
    assert found.step().is_empty
    second = found.step(obs.CheckpointMade(order, MADE))
    assert second.events == (ev.CheckpointTaken(1, 1, MADE),) and second.actions == (act.StartAttempt(order),)
    assert found.state.phase(1).checkpoint == MADE


def test_without_the_key_there_is_none():
    found = case(checkpoint=False)
    assert found.step().actions == (found.start(1),)


def test_a_retry_keeps_the_checkpoint_of_the_first_try():
    found = begun()
    found.step(obs.Ended(an(1), failing()))
    retry = found.step(after=100)
    assert isinstance(retry.actions[0], act.StartAttempt) and found.state.phase(1).checkpoint == MADE


@pytest.mark.parametrize(("interruptions", "kept"), [(0, None), (1, MADE)])
def test_fresh_tries_have_a_checkpoint_of_their_own_unless_others_cut_it_off(interruptions, kept):
    found = begun()
    found.step(obs.OwnerDead(an(1), "agent a1", "then", "it is gone"))
    found.given(ev.PhaseReset(1, "again", interruptions))
    assert found.state.phase(1).checkpoint == kept


def test_a_checkpoint_that_cannot_be_made_is_a_failed_attempt():
    found = case()
    found.step()
    event = found.step(obs.CheckpointFailed(an(1), "RESOURCE", "the disk is full")).events[0]
    assert isinstance(event, ev.RetryScheduled) and event.failure.code == "RESOURCE"
    assert event.failure.message == "its checkpoint could not be made: the disk is full"


@pytest.mark.parametrize("news", ["made", "failed"])
def test_what_was_cancelled_meanwhile_is_not_started(news):
    found = case()
    order = found.start(1).order
    found.step()
    assert found.step(asked("cancel", 1)).actions[0] == act.StopAttempt(an(1), "cancelled by ann")
    seen = obs.CheckpointMade(order, MADE) if news == "made" else obs.CheckpointFailed(an(1), "RESOURCE", "full")
    assert found.step(seen).is_empty
    found.step(obs.Ended(an(1), Outcome(NEVER_STARTED)))
    assert found.status(1) == "cancelled"
    assert found.step(seen).is_empty


def test_the_net_gives_a_checkpoint_its_time():
    assert case().plan.net_seconds(1) == case().plan.net_seconds(2) + CHECKPOINT_SECONDS + READING


# ---- it fails for good


@pytest.mark.parametrize("how", [CRITICAL, failing("VALIDATION")])
def test_what_fails_for_good_goes_back(how):
    found = begun()
    ended = found.step(obs.Ended(an(1), how))
    assert isinstance(ended.events[0], ev.PhaseFailed) and ended.events[0].restore == MADE
    assert act.RestoreCheckpoint(1, MADE) in ended.actions
    assert found.state.restoring == {1} and found.state.run.verdict is None, "the run waits for it"
    assert found.step().is_empty
    event = ev.PhaseRestored(1, MADE, 3, 1)
    assert found.step(obs.Restored(1, MADE, 3, 1)).events == (event, ev.RunEnded("failed", 1))
    assert found.status(1) == FAILED and not found.state.restoring


def test_what_is_critical_is_never_tried_again():
    event = begun().step(obs.Ended(an(1), CRITICAL)).events[0]
    assert isinstance(event, ev.PhaseFailed) and event.why_final == "it said that this is critical"


def test_tries_that_are_used_up_go_back_and_those_before_do_not():
    found = begun(retries=1)
    assert isinstance(found.step(obs.Ended(an(1), failing())).events[0], ev.RetryScheduled)
    found.step(after=100)
    last = found.step(obs.Ended(an(1, 2), failing())).events[0]
    assert isinstance(last, ev.PhaseFailed) and last.restore == MADE


def test_without_on_critical_it_stays_as_it_is():
    found = begun(on_critical="")
    ended = found.step(obs.Ended(an(1), CRITICAL))
    assert isinstance(ended.events[0], ev.PhaseFailed) and not ended.events[0].restore
    assert not found.state.restoring and found.state.run.verdict == "failed"


def test_what_was_ended_by_a_person_does_not_go_back():
    found = begun()
    found.step(asked("cancel", 1))
    found.step(obs.Ended(an(1), failing()))
    assert not found.state.restoring


def test_what_cannot_be_put_back_is_said_and_the_run_ends():
    found = begun()
    found.step(obs.Ended(an(1), CRITICAL))
    told = found.step(obs.Restored(1, MADE, fault="a copy is damaged")).events
    assert told == (ev.PhaseRestored(1, MADE, fault="a copy is damaged"), ev.RunEnded("failed", 1))


def test_news_of_another_restoring_changes_nothing():
    found = begun()
    assert found.step(obs.Restored(1, MADE)).is_empty
    found.step(obs.Ended(an(1), CRITICAL))
    assert found.step(obs.Restored(1, "phase_1_other")).is_empty


def test_nothing_begins_in_files_that_are_on_their_way_back():
    found = begun()
    found.step(obs.Ended(an(1), CRITICAL))
    found.given(ev.PhaseReset(1, "retry asked by ann"))
    assert found.step().is_empty and found.status(1) == PENDING
    after = found.step(obs.Restored(1, MADE))
    assert after.actions == (act.MakeCheckpoint(found.start(1, 2).order),)


def test_a_turn_waits_until_they_are_back():
    found = begun()
    found.step(obs.Ended(an(1), CRITICAL))
    turn = found.mode.replace(starts=False)
    assert not is_over(found.state, turn)
    found.step(obs.Restored(1, MADE))
    assert is_over(found.state, turn)


def test_whoever_comes_next_goes_on_with_it():
    found = begun()
    found.step(obs.Ended(an(1), CRITICAL))
    seen = reconcile(found.state, [], 0.0)
    assert obs.Unrestored(1) in seen
    assert found.step(obs.Unrestored(1)).actions == (act.RestoreCheckpoint(1, MADE),)
    found.step(obs.Restored(1, MADE))
    assert obs.Unrestored(1) not in reconcile(found.state, [], 0.0)
    assert found.step(obs.Unrestored(1)).is_empty


def test_a_rollback_is_written_down_and_the_agenda_follows():
    found = begun()
    found.step(obs.Ended(an(1), FINE), obs.Tick())
    found.step(obs.Ended(an(2), FINE))
    event = ev.RolledBack(MADE, "token", "ann", {"id": "r1"}, {"1": {}, "2": {}})
    found.mode = found.mode.replace(starts=False)
    assert found.step(obs.WentBack(event)).events == (event,)
    assert found.agenda.ready == [1] and found.state.run.verdict is None
    found.mode = found.mode.replace(starts=True)
    found.step(run_asked())
    assert isinstance(found.step().actions[0], act.MakeCheckpoint)
