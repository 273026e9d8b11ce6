from __future__ import annotations

import json

import pytest

from orchestrator.core.gate import Approval
from orchestrator.core.spec import Foreach, Limits, RetryRule, Spec

LEAST = Spec(3, "index", "phases/p03.py", 4)
FULL = Spec(
    -8,
    "host",
    "phases/a.toml",
    1,
    title="Look",
    run=("make", "all"),
    needs=(1, 2),
    timeout=60.0,
    heartbeat_timeout=5.0,
    retries=0,
    retry={"TIMEOUT": RetryRule(2, 1.0)},
    env={"A": "1"},
    cwd="data",
    limits=Limits(10**9, 60, 64),
    isolation="spawn",
    approval=Approval("before", 60.0, "approve", ("ann",), "rows"),
    pools={"gpu": 1},
    secrets=("token",),
    foreach=Foreach(("a", 2)),
    max_parallel=3,
    fail_fast=True,
    fail_after=0.05,
    item=("a",),
    inputs=("data/*.csv",),
    outputs=("out",),
    params={"year": 2024},
    checkpoint=True,
    on_critical="rollback",
    cache=True,
    when="params.year > 2024",
    digest="d",
    broken="no",
)


@pytest.mark.parametrize(
    "spec",
    [
        LEAST,
        FULL,
        FULL.replace(run="make all"),
        LEAST.replace(limits=Limits(cpu=1)),
        LEAST.replace(approval=Approval()),
    ],
)
def test_a_spec_survives_being_stored(spec):
    assert Spec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


def test_only_what_differs_from_the_default_is_stored():
    assert LEAST.as_dict() == {"number": 3, "name": "index", "file": "phases/p03.py", "line": 4}


def test_every_field_is_covered_by_the_full_one():
    assert set(FULL.as_dict()) == set(Spec._fields)


def test_label():
    assert FULL.label == "-8 host"
