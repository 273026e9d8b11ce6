from __future__ import annotations

import pytest

from orchestrator.core.gate import Approval
from orchestrator.load.approvals import LONGEST, approval

EXAMPLE = 'approval = { when = "after", deadline = "2h", who = ["ann"] }'


def read(value: object) -> tuple[object, list[tuple[str, str]]]:
    told: list[tuple[str, str]] = []
    return approval(value, lambda message, hint: told.append((message, hint))), told


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (True, Approval("after")), (False, None), ("before", Approval("before")), ("after", Approval("after")),
        ({}, Approval("after")), ({"when": "before"}, Approval("before")),
        ({"deadline": "2h"}, Approval("after", 7200.0)), ({"deadline": 5, "default": "approve"}, Approval("after", 5.0, "approve")),
        ({"who": "ann"}, Approval(who=("ann",))), ({"who": ["ann", "bob", "ann"]}, Approval(who=("ann", "bob"))),
        ({"show": "rows"}, Approval(show="rows")), ({"when": None, "who": None}, Approval()),
    ],
)  # fmt: skip
def test_what_an_author_may_write(value, found):
    assert read(value) == (found, [])


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        (3, "approval: 3 is neither true, before, after nor a table", EXAMPLE),
        ({"": "date"}, "approval: date is neither true, before, after nor a table", EXAMPLE),
        ("always", "approval: 'always' is neither before nor after", 'approval = "before", or "after"'),
        ({"when": 1}, "approval: 1 is neither before nor after", 'approval = "before", or "after"'),
        ({"wo": ["ann"]}, "approval: unknown key wo", "did you mean who?"),
        ({"zzzzzz": 1}, "approval: unknown key zzzzzz", "known are when, deadline, default, who, show"),
        ({"deadline": "soon"}, "approval: deadline: 'soon' is not a duration", 'write seconds, or "10m", "2h", "1d"'),
        ({"deadline": 0}, "approval: deadline: must be more than 0", 'deadline = "2h"'),
        ({"deadline": 1e300}, "approval: deadline: 1e+300 is not a duration", 'write seconds, or "10m", "2h", "1d"'),
        ({"deadline": 9, "default": "maybe"}, "approval: default: 'maybe' is neither deny nor approve", 'default = "deny"'),
        ({"default": "deny"}, "approval: default: without a deadline nothing is decided by default", 'deadline = "2h"'),
        ({"who": []}, "approval: who: [] is not a list of accounts", 'who = ["ann", "bob"]'),
        ({"who": 3}, "approval: who: 3 is not a list of accounts", 'who = ["ann", "bob"]'),
        ({"who": ["ann", " "]}, "approval: who: ' ' is not the name of an account", 'who = ["ann", "bob"]'),
        ({"show": 3}, f"approval: show: 3 is not one line of at most {LONGEST} characters", 'show = "..."'),
        ({"show": "a\nb"}, f"approval: show: 'a\\nb' is not one line of at most {LONGEST} characters", 'show = "..."'),
    ],
)  # fmt: skip
def test_what_is_refused_and_what_to_write_instead(value, message, hint):
    assert read(value) == (None, [(message, hint)])


def test_every_fault_of_the_table_is_told_at_once_and_long_ones_are_cut():
    found, told = read({"when": "x" * 200, "who": [], "show": 10**5000})
    assert found is None and len(told) == 3
    assert told[0][0].endswith("... is neither before nor after") and "too long to show" in told[2][0]
