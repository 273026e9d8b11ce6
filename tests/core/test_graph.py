from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.graph import circle, closure, dependents, longest_path, order

N = 10_000
CHAIN = {number: [number - 1] for number in range(N)}
GRAPHS = st.dictionaries(st.integers(-9, 9), st.lists(st.integers(-9, 9), max_size=4), max_size=12)
ACYCLIC = GRAPHS.map(
    lambda needs: {number: [need for need in wanted if need < number] for number, wanted in needs.items()}
)


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ({}, []),
        ({3: [], 1: [], 2: []}, [1, 2, 3]),
        ({1: [3], 2: [], 3: []}, [2, 3, 1]),
        ({1: [9], 2: [1]}, [1, 2]),
        ({5: [], 4: [1], 1: [], 3: [1], 2: [1]}, [1, 2, 3, 4, 5]),
        ({1: [2, 2], 2: [], -8: [1]}, [2, 1, -8]),
    ],
)
def test_order_takes_the_smallest_that_is_ready(needs, expected):
    assert order(needs) == expected


@given(ACYCLIC)
def test_order_holds_every_phase_once_after_its_needs(needs):
    found = order(needs)
    assert sorted(found) == sorted(needs)
    place = {number: index for index, number in enumerate(found)}
    assert all(place[need] < place[number] for number in needs for need in needs[number] if need in needs)
    for index, number in enumerate(found):
        ready = [other for other in found[index:] if not set(needs[other]) & set(found[index:])]
        assert number == min(ready)


def test_order_of_a_circle_is_refused_by_name():
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        order({1: [2], 2: [1], 3: []})


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ({}, None),
        ({1: [], 2: [1]}, None),
        ({1: [1]}, [1]),
        ({3: [2], 2: [1], 1: [3]}, [1, 3, 2]),
        ({1: [2], 2: [3], 3: [1], 4: [3], 5: [4, 6], 6: [5]}, [5, 6]),
        ({0: [1], 1: [2], 2: [1], 3: [0]}, [1, 2]),
        ({1: [2], 2: [3], 3: [4, 1], 4: [2]}, [1, 2, 3]),
        ({1: [7]}, None),
        ({1: [3], 3: [2], 2: [3], 5: [6, 1], 6: [5]}, [2, 3]),
    ],
)
def test_circle_names_its_members_in_order(needs, expected):
    assert circle(needs) == expected


@given(GRAPHS)
def test_circle_is_one_and_is_found_exactly_when_there_is_no_order(needs):
    found = circle(needs)
    if found is None:
        assert sorted(order(needs)) == sorted(needs)
    else:
        assert found[0] == min(found) and len(set(found)) == len(found)
        assert all(following in needs[number] for number, following in zip(found, found[1:] + found[:1], strict=True))
        with pytest.raises(ValueError, match="circle"):
            order(needs)


def test_dependents_turns_the_arrows():
    assert dependents({1: [], 2: [1, 1], 3: [1, 2, 9]}) == {1: [2, 3], 2: [3], 3: []}


@pytest.mark.parametrize(
    ("start", "expected"), [([4], {1, 2, 3}), ([3], {1}), ([1], set()), ([2, 4], {1, 2, 3}), ([], set()), ([99], set())]
)
def test_closure_is_all_that_is_needed(start, expected):
    assert closure({1: [], 2: [1], 3: [1], 4: [2, 3, 77]}, start) == expected


def test_closure_ends_in_a_circle():
    assert closure({1: [2], 2: [1]}, [1]) == {1, 2}


@pytest.mark.parametrize(
    ("weight", "expected"),
    [({}, [1, 2, 4]), ({3: 5.0}, [1, 3, 4]), ({2: 5.0, 3: 4.0}, [1, 2, 4]), ({5: 100.0}, [5])],
)
def test_longest_path_weighs(weight, expected):
    assert longest_path({1: [], 2: [1], 3: [1], 4: [2, 3], 5: []}, {1: 0.5, 4: 0.5, **weight}) == expected


def test_longest_path_of_nothing():
    assert longest_path({}, {}) == []


def test_ten_thousand_in_a_chain_or_a_ring():
    assert order(CHAIN) == list(range(N))
    assert longest_path(CHAIN, dict.fromkeys(CHAIN, 1.0)) == list(range(N))
    assert len(closure(CHAIN, [N - 1])) == N - 1
    assert circle(CHAIN) is None
    assert circle({number: [(number + 1) % N] for number in range(N)}) == list(range(N))


def test_a_dense_knot_is_named_without_a_long_search():
    found = circle({number: [other for other in range(300) if other != number] for number in range(300)})
    assert found == [0, 1]
