"""Outputs that overlap: whom they are refused for, and that it costs no more than there is."""

from __future__ import annotations

import itertools
import random
import sys

import pytest

from orchestrator.core.graph import closure
from orchestrator.core.spec import Spec
from orchestrator.load.overlap import clashes, meets

MEETING = [
    ("a", "a"), ("a", "a/b"), ("a/*.csv", "a/x.csv"), ("a/*", "a/b/c"), ("*", "a"), ("a/x*", "a/*y"), ("a/*/c", "a/b"),
    ("**/x.csv", "a/x.csv"), ("a/**/x.csv", "a/b/c/x.csv"), ("**/*.csv", "**/x*"), ("a/**", "a/b/c"), ("**/x", "a/b"),
    ("a/[ab].csv", "a/a.csv"), ("a/?.csv", "a/*.csv"), ("a/**/b/*", "a/c/**/b/d"),
]  # fmt: skip
APART = [
    ("a", "b"), ("a/b", "a/c"), ("a1", "a"), ("a/*.csv", "a/x.txt"), ("a/x*", "a/y*"), ("a/*_1", "a/*_2"), ("a/*", "b"),
    ("a/**/x", "b/x"), ("**/x.csv", "**/y.csv"), ("*.csv", "a.txt"), ("a/*/c", "a/b/d"), ("a/1*", "a/2"),
]  # fmt: skip


def specs_of(outputs: dict[int, tuple[str, ...]], needs: dict[int, tuple[int, ...]]) -> dict[int, Spec]:
    return {
        number: Spec(number, f"p{number}", "phases/a.toml", 1, run="x", needs=needs.get(number, ()), outputs=made)
        for number, made in outputs.items()
    }


def found(outputs: dict[int, tuple[str, ...]], needs: dict[int, tuple[int, ...]] | None = None) -> set[tuple[int, int]]:
    return {(min(one, other), max(one, other)) for one, other, *_ in clashes(specs_of(outputs, needs or {}))}


@pytest.mark.parametrize(("one", "other"), MEETING)
def test_patterns_that_may_name_the_same_file(one: str, other: str) -> None:
    assert meets(one.split("/"), other.split("/")) and meets(other.split("/"), one.split("/"))
    assert found({1: (one,), 2: (other,)}) == found({1: (other,), 2: (one,)}) == {(1, 2)}


@pytest.mark.parametrize(("one", "other"), APART)
def test_patterns_that_never_do(one: str, other: str) -> None:
    assert not meets(one.split("/"), other.split("/")) and not meets(other.split("/"), one.split("/"))
    assert found({1: (one,), 2: (other,)}) == found({1: (other,), 2: (one,)}) == set()


def test_phases_in_order_may_write_the_same() -> None:
    same = dict.fromkeys(range(1, 5), ("out",))
    assert found(same, {2: (1,), 3: (2,), 4: (3,)}) == set()
    assert found(same, {2: (1,), 3: (1,), 4: (2, 3)}) == {(2, 3)}
    assert found({1: ("a",), 2: (), 3: ("a/b",)}, {2: (1,), 3: (2,)}) == set()
    assert found({1: ("a", "a/b"), 2: ()}) == set(), "a phase with itself"


PARTS = ["a", "b", "a1", "*", "a*", "*1", "**", "?", "[ab]"]


def test_random_ones_against_all_pairs() -> None:
    """Whoever clashes is named, in a group of many perhaps only with a neighbour; and nobody else is."""
    chance = random.Random(7)
    for _ in range(150):
        many = chance.randint(2, 9)
        needs = {n: tuple(chance.sample(range(n), min(n, chance.randint(0, 2)))) for n in range(many)}
        made = {
            n: tuple("/".join(chance.choices(PARTS, k=chance.randint(1, 3))) for _ in range(chance.randint(0, 2)))
            for n in range(many)
        }
        real = {
            (one, other)
            for one, other in itertools.combinations(range(many), 2)
            if any(meets(p.split("/"), q.split("/")) for p in made[one] for q in made[other])
            and one not in closure(needs, [other])
            and other not in closure(needs, [one])
        }
        told = found(made, needs)
        assert told <= real and bool(told) == bool(real), (made, needs)


SHAPES = {
    "each its own file": lambda n: (f"out/{n}.bin",),
    "each its own folder": lambda n: (f"out/{n}/*.csv",),
    "told apart at the end": lambda n: (f"out/*.{n}x",),
    "told apart at the beginning": lambda n: (f"out/{n}x*",),
    "in any folder": lambda n: (f"**/{n}.csv",),
    "one after the other into one file": lambda n: ("out/log",),
    "all into a folder that the last one packs": lambda n: ("out",) if n % 1000 == 999 else (f"out/{n}",),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_cost_is_in_proportion(shape: str) -> None:
    """Four times as many take far less than sixteen times as many calls."""

    def calls(many: int) -> int:
        chain = {n: (n - 1,) if n else () for n in range(many)}
        needs = chain if "one" in shape.split() or "all" in shape.split() else {}
        specs = specs_of({n: SHAPES[shape](n) for n in range(many)}, needs)
        called = 0

        def count(*_: object) -> None:
            nonlocal called
            called += 1

        sys.setprofile(count)
        try:
            found = list(clashes(specs))
        finally:
            sys.setprofile(None)
        assert found == []
        return called

    few, lots = calls(500), calls(2000)
    assert few < lots < 8 * few, (few, lots)
