"""reconcile where something is not known: an owner's identity, since when it works, the ticks of a process."""

from __future__ import annotations

from orchestrator.core import observations as obs
from orchestrator.core.reconcile import ALIVE, DEAD, UNKNOWABLE, Finding, reconcile
from tests.core.given import AGENT, NOW, Case, an, intended, iso

GONE = "its process is not there any more"


def live() -> Case:
    return Case({1: ()}).given(intended(1))


def test_an_owner_of_whom_nothing_was_found_is_named_as_the_state_knows_it():
    assert reconcile(live().state, [Finding("a1", DEAD)], NOW) == [
        obs.OwnerDead(an(1), "agent a1 (pid 20 on host)", iso(NOW), GONE),
        obs.AgentGone("a1", GONE),
    ]


def test_what_was_found_of_an_owner_names_it_also_where_the_state_does_not_know_it():
    case = live()
    case.state.agents.clear()
    found = Finding("a1", DEAD, AGENT.replace(pid=77))
    assert reconcile(case.state, [found], NOW) == [obs.OwnerDead(an(1), "agent a1 (pid 77 on host)", iso(NOW), GONE)]


def test_an_owner_that_nobody_knows_anything_of_has_its_name():
    case = live()
    case.state.agents.clear()
    assert reconcile(case.state, [Finding("a1", DEAD)], NOW) == [obs.OwnerDead(an(1), "agent a1", iso(NOW), GONE)]


def test_an_attempt_whose_beginning_is_not_known_has_no_age():
    """It is not given up for what nobody knows: only where no time at all is granted."""
    case = live()
    case.state.phases[1] = case.state.phase(1).replace(started_at=None)
    case.state.run = case.state.run.replace(stale_after=0.5)
    assert reconcile(case.state, [Finding("a1", UNKNOWABLE, AGENT)], NOW) == []
    case.state.run = case.state.run.replace(stale_after=0.0)
    (given_up,) = reconcile(case.state, [Finding("a1", UNKNOWABLE, AGENT)], NOW)
    assert isinstance(given_up, obs.OwnerDead) and given_up.since == ""


def test_who_has_a_pid_has_started_although_its_ticks_were_not_seen():
    seen = reconcile(live().state, [Finding("a1", ALIVE, AGENT, {an(1): (31, 0)})], NOW)
    assert seen == [obs.AgentJoined("a1", AGENT, (an(1),), takes_work=False), obs.Started(an(1), 31, 0)]
