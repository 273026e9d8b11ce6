from __future__ import annotations

from orchestrator.core import observations as obs
from orchestrator.core.names import Identity
from orchestrator.core.reconcile import ALIVE, DEAD, UNKNOWABLE, Finding, reconcile
from tests.core.given import AGENT, FINE, NOW, Case, an, completed, intended, iso

NAMED = "agent a1 (pid 20 on host)"


def live() -> Case:
    """Two attempts in the hands of a1."""
    return Case({1: (), 2: ()}).given(intended(1), intended(2))


def found(case: Case, *findings: Finding, later: float = 0.0) -> list[obs.Observation]:
    return reconcile(case.state, findings, NOW + later)


def test_what_a_living_agent_has_in_hand_is_left_with_it():
    roster = {an(1): (31, 3), an(2): (0, 0)}
    assert found(live(), Finding("a1", ALIVE, AGENT, roster)) == [
        obs.AgentJoined("a1", AGENT, (an(1), an(2)), takes_work=False),
        obs.Started(an(1), 31, 3),
    ]


def test_what_a_living_agent_never_heard_of_was_never_started():
    assert found(live(), Finding("a1", ALIVE, AGENT, {an(1): (0, 0)}))[1:] == [obs.NeverStarted(an(2))]


def test_a_living_agent_that_nobody_asked_is_left_alone():
    assert found(live(), Finding("a1", ALIVE, AGENT, None)) == []


def test_a_dead_agents_outcomes_count_and_the_rest_is_lost():
    why = "its process is not there any more"
    assert found(live(), Finding("a1", DEAD, AGENT, None, {an(1): FINE})) == [
        obs.Ended(an(1), FINE),
        obs.OwnerDead(an(2), NAMED, iso(NOW), why),
        obs.AgentGone("a1", why),
    ]


def test_the_outcome_of_a_living_agent_is_the_end_of_its_attempt():
    seen = found(live(), Finding("a1", ALIVE, AGENT, {an(2): (0, 0)}, {an(1): FINE}))
    assert obs.Ended(an(1), FINE) in seen and not any(isinstance(one, obs.NeverStarted) for one in seen)


def test_an_agent_that_left_in_order_had_nothing_in_hand():
    assert found(live()) == [obs.NeverStarted(an(1)), obs.NeverStarted(an(2)), obs.AgentGone("a1", "it left")]


def test_one_on_another_host_is_given_time_and_then_given_up():
    case = live()
    stale = case.state.run.stale_after
    there = Finding("a1", UNKNOWABLE, AGENT.replace(host="far/1"))
    assert found(case, there, later=stale - 1) == []
    assert found(case, there, later=stale) == [
        obs.OwnerDead(an(number), "agent a1 (pid 20 on far)", iso(NOW), "not to be reached for 2h 00m")
        for number in (1, 2)
    ]


def test_an_agent_that_the_state_does_not_know_is_heard():
    stranger = Identity(99, 9, "boot", "host/1")
    case = Case({1: ()})
    case.state.agents.clear()
    assert found(case, Finding("a9", ALIVE, stranger, {an(1): (31, 3)}, {an(1, 5): FINE})) == [
        obs.Ended(an(1, 5), FINE),
        obs.AgentJoined("a9", stranger, (an(1),), takes_work=False),
        obs.Started(an(1), 31, 3),
    ]


def test_nothing_in_progress_is_nothing_to_recover():
    case = Case({1: ()}).given(intended(1), completed(1))
    case.state.agents.clear()
    assert found(case) == []


def test_what_was_found_is_decided_like_any_other_news():
    case = live()
    case.mode = case.mode.replace(starts=False)
    decision = case.step(*found(case, Finding("a1", DEAD, AGENT, None, {an(1): FINE})))
    assert (case.status(1), case.status(2), decision.recovered) == ("completed", "failed", (2,))
    assert (
        case.state.phase(2).errors[-1]["code"] == "INTERRUPTED" and NAMED in case.state.phase(2).errors[-1]["message"]
    )
    assert case.state.agents == {}


def test_an_agent_whom_nobody_can_identify_is_called_by_its_name():
    case = live()
    case.state.agents.clear()
    lost = [obs.OwnerDead(an(n), "agent a1", iso(NOW), "its process is not there any more") for n in (1, 2)]
    assert found(case, Finding("a1", DEAD)) == lost


def test_the_identity_that_the_journal_knows_stands_in_for_one_that_was_not_found():
    assert found(live(), Finding("a1", DEAD))[0].owner == NAMED


def test_an_attempt_of_which_nobody_knows_when_it_began_is_not_stale_yet():
    case = live()
    for number in (1, 2):
        case.state.phases[number] = case.state.phase(number).replace(started_at=None)
    assert found(case, Finding("a1", UNKNOWABLE, AGENT), later=case.state.run.stale_after * 2) == []


def test_a_living_agent_whose_identity_is_not_known_has_not_joined():
    assert found(live(), Finding("a1", ALIVE, None, {an(1): (31, 3), an(2): (0, 0)})) == []
