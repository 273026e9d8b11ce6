"""What an attempt has made, as its agent saw it when nothing of the attempt was left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.core.outcome import failure_of
from orchestrator.files.ground import OUTPUTS, Ground
from tests.agent.driving import Driven, order
from tests.files.test_plan_then_run import exhausted


def listed(project: Path, *patterns: str) -> str:
    return str(exhausted(Ground(project).listing(patterns)).digest)


def test_a_success_tells_the_digest_of_its_outputs_and_keeps_the_list(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, "mkdir out; echo one > out/a; echo two > b", outputs=("out", "*.csv", "b")))
    assert outcome.succeeded and outcome.files == listed(agent.project, "out", "*.csv", "b")
    kept = Ground(agent.project).recall(3, OUTPUTS, outcome.files)
    assert kept is not None and sorted(kept) == ["b", "out/a"]


@pytest.mark.parametrize("run", ["echo half > out; exit 1", "echo half > out; kill -9 $$", "echo half > out; echo no > $ORCH_RESULT"])  # fmt: skip
def test_of_an_attempt_that_did_not_succeed_nothing_is_told(agent: Driven, run: str) -> None:
    outcome = agent.owner.run(order(1, run, outputs=("out",)))
    assert not outcome.succeeded and outcome.files == ""


def test_a_success_whose_output_is_not_there_is_none(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, "echo one > other", outputs=("out", "*.csv")))
    failure = failure_of(outcome)
    assert (failure.code, failure.message) == ("VALIDATION", "it succeeded, but its output out is not there")
    assert outcome.files == ""


def test_what_a_leftover_would_still_change_is_looked_at_after_its_end(agent: Driven) -> None:
    run = "echo one > out; (trap '' HUP; while :; do echo more >> out; sleep 0.01; done) & sleep 0.1"
    outcome = agent.owner.run(order(1, run, outputs=("out",)))
    assert outcome.succeeded and outcome.leftovers
    assert outcome.files == listed(agent.project, "out")


def test_looking_at_what_it_made_is_not_its_own_time(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, "truncate -s 100M out", outputs=("out",)))
    assert outcome.succeeded and outcome.ended_at is not None and outcome.started_at is not None
    assert outcome.duration_seconds < outcome.ended_at - outcome.started_at


def test_parameters_are_in_the_environment_as_text(agent: Driven) -> None:
    params = {"year": 2024, "wide": True, "of": ["a", 1], "Title": 'All "of" it'}
    run = 'printf \'%s\\n\' "$ORCH_PARAM_YEAR" "$ORCH_PARAM_WIDE" "$ORCH_PARAM_OF" "$ORCH_PARAM_TITLE" > told'
    assert agent.owner.run(order(1, run, params=params)).succeeded
    told = (agent.project / "told").read_text().splitlines()
    assert told == ["2024", "true", json.dumps(["a", 1]), 'All "of" it']
