from __future__ import annotations

import pytest

from orchestrator.core.integration import (
    ACTIVE,
    DEGRADED,
    FAILED,
    FOLLOWS,
    INITIALIZING,
    UNINITIALIZED,
    HealthStatus,
    IntegrationResult,
    RecoveryResult,
)

STATES = {UNINITIALIZED, INITIALIZING, ACTIVE, DEGRADED, FAILED}


def test_every_state_is_followed_by_known_states_and_never_by_itself():
    assert set(FOLLOWS) == STATES
    assert all(following <= STATES - {state} for state, following in FOLLOWS.items())


def test_nothing_is_active_that_was_not_set_up():
    assert FOLLOWS[UNINITIALIZED] == {INITIALIZING}
    assert {state for state in STATES if ACTIVE in FOLLOWS[state]} == {INITIALIZING, DEGRADED}


@pytest.mark.parametrize("state", sorted(STATES - {UNINITIALIZED}))
def test_from_everywhere_it_can_be_shut_down_and_begun_again(state):
    assert UNINITIALIZED in FOLLOWS[state]


def test_a_failed_bridge_is_only_set_up_anew():
    assert FOLLOWS[FAILED] == {INITIALIZING, UNINITIALIZED}


def test_answers_are_values():
    assert IntegrationResult(True, ACTIVE, "a1") != RecoveryResult(True, ACTIVE)
    assert HealthStatus(ACTIVE).as_dict() == {"state": ACTIVE}
