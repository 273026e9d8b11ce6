from __future__ import annotations

import pytest

from orchestrator.core.spec import Spec
from orchestrator.load.checks import Checked
from orchestrator.load.definitions import Written
from orchestrator.load.pipeline import assemble


def assembled(needs, unread=()):
    """`needs`: (number, needs or None) in the order of files."""
    found = []
    phases = [
        Checked(
            Written("phases/a.toml", line, {}),
            Spec(number, "x", "phases/a.toml", line, needs=tuple(wanted or ())),
            wanted is None,
        )
        for line, (number, wanted) in enumerate(needs, 1)
    ]
    specs = assemble(
        phases, unread, lambda written, key, message, hint: found.append((written.line, key, message, hint))
    )
    return {spec.number: spec.needs for spec in specs}, found


def test_needs_left_out_mean_the_next_lower_number_of_all():
    specs, found = assembled([(10, None), (-8, None), (3, [-8]), (0, [])])
    assert specs == {-8: (), 0: (), 3: (-8,), 10: (3,)} and list(specs) == [-8, 0, 3, 10] and found == []


def test_a_number_given_twice_names_both_places():
    _, found = assembled([(1, []), (2, []), (1, []), (1, [])])
    assert found == [
        (
            line,
            "number",
            f"phase 1 is defined twice: phases/a.toml:1 and phases/a.toml:{line}",
            "give one of them another number",
        )
        for line in (3, 4)
    ]


@pytest.mark.parametrize(
    ("others", "hint"),
    [
        ([3, 9], "the nearest are 3 and 9"),
        ([3], "the nearest is 3"),
        ([9, 11], "the nearest is 9"),
        ([], "it is the only one"),
    ],
)
def test_a_need_that_does_not_exist_names_the_nearest(others, hint):
    _, found = assembled([(1000, [5]), *((number, []) for number in others)])
    assert found == [(1, "needs", "phase 1000 needs phase 5, which does not exist", hint)]


def test_what_an_unreadable_file_seems_to_define_is_not_missing():
    assert assembled([(1, [5])], unread={5})[1] == []


def test_a_need_of_itself_is_no_circle_of_its_own():
    specs, found = assembled([(1, [1])])
    assert found == [(1, "needs", "phase 1 needs itself", "take it out of its needs")] and specs == {1: ()}


def test_circles_name_all_members_in_order():
    _, found = assembled([(1, []), (4, [2]), (2, [3]), (3, [4, 1]), (7, [8]), (8, [7])])
    assert found == [
        (5, "needs", "phases wait for each other in a circle: 7 needs 8 needs 7", "take one of these needs out"),
        (
            3,
            "needs",
            "phases wait for each other in a circle: 2 needs 3 needs 4 needs 2",
            "take one of these needs out",
        ),
    ]


def test_a_knot_is_named_a_few_times_only():
    knot = [(number, [other for other in range(30) if other != number]) for number in range(30)]
    assert len(assembled(knot)[1]) == 10
