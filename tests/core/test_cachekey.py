from __future__ import annotations

import pytest

from orchestrator.core.cachekey import attempt_key
from orchestrator.core.spec import Limits, RetryRule, Spec

FUNCTION = Spec(3, "index", "phases/p03.py", 4, digest="d1", env={"A": "1", "B": "2"})
COMMAND = Spec(3, "index", "phases/a.toml", 4, digest="d1", run="make all")


def test_a_key_names_its_recipe_and_stays_what_it_was_in_earlier_releases():
    assert attempt_key(FUNCTION) == "1:8d6bbaa6f1916ec66fa4401a514999a4ebb86a420ec1b75ce1f2e0a2a82d1856"
    assert attempt_key(COMMAND) == "1:f6392fd9573dced2dd9e8334ebbf7da9e7ccc6d775a57d74edf933015d77b8be"


@pytest.mark.parametrize(
    "same",
    [
        {"name": "x"},
        {"title": "x"},
        {"file": "x"},
        {"line": 9},
        {"timeout": 9.0},
        {"heartbeat_timeout": 9.0},
        {"retries": 9},
        {"retry": {"TIMEOUT": RetryRule(2)}},
        {"needs": (1,)},
        {"limits": Limits(10**9)},
        {"isolation": "spawn"},
        {"env": {"B": "2", "A": "1"}},
    ],
)
def test_how_it_is_treated_does_not_count(same):
    assert attempt_key(FUNCTION.replace(**same)) == attempt_key(FUNCTION)


@pytest.mark.parametrize("other", [{"number": 4}, {"digest": "d2"}, {"env": {"A": "1"}}, {"cwd": "data"}, {"run": "x"}])
def test_what_it_does_counts(other):
    assert attempt_key(FUNCTION.replace(**other)) != attempt_key(FUNCTION)


def test_a_command_is_its_own_code():
    assert attempt_key(COMMAND.replace(digest="d2")) == attempt_key(COMMAND)
    assert attempt_key(COMMAND.replace(run="make")) != attempt_key(COMMAND)
    assert attempt_key(COMMAND.replace(run=("make all",))) != attempt_key(COMMAND)
