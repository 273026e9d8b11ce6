"""Outputs of which two phases would write the same files, though nothing keeps them from running at the same time.

Ten thousand phases are held against each other in no more than their own time: patterns meet in a tree of their parts,
and whether there is a way of needs between two phases is asked for neighbours only, where all of many must have one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import chain, pairwise

from orchestrator.core.graph import dependents, order
from orchestrator.core.spec import Spec
from orchestrator.files.patterns import is_wild

Clash = tuple[int, int, str, str]
"""The two phases, and the pattern of each."""


def clashes(specs: Mapping[int, Spec]) -> Iterator[Clash]:
    """The needs must be free of circles."""
    writers: dict[str, list[int]] = {}
    for number, spec in specs.items():
        for pattern in spec.outputs:
            writers.setdefault(pattern, []).append(number)
    if len(writers) and sum(map(len, writers.values())) > 1:
        yield from _Order(specs).unordered(_pairs(writers))


# ---- which patterns meet


def _pairs(writers: Mapping[str, list[int]]) -> Iterator[list[tuple[int, str]]]:
    """Groups of phases, each of which meets each other one."""
    for pattern, numbers in writers.items():
        if len(numbers) > 1:
            yield [(number, pattern) for number in numbers]
    for one, other in _meeting(list(writers)):
        yield [(number, one) for number in writers[one]] + [(number, other) for number in writers[other]]


def _meeting(patterns: list[str]) -> Iterator[tuple[str, str]]:
    """Each two different patterns that may name the same file, once."""
    tree, lasts, deep = _Node(), _Ends(), dict[str, list[str]]()
    for pattern in patterns:
        parts = pattern.split("/")
        if "**" not in parts:
            for other in {each for each in tree.near(parts) if meets(parts, each.split("/"))}:
                yield pattern, other
            tree.add(parts, pattern)
    for pattern in patterns:
        parts = pattern.split("/")
        if "**" in parts:
            near = {other for last in lasts.near(parts[-1]) for other in deep[last]}
            for other in {*near, *tree.near(parts)}:
                if meets(parts, other.split("/")):
                    yield pattern, other
            lasts.add(parts[-1])
            deep.setdefault(parts[-1], []).append(pattern)


def meets(one: list[str], other: list[str]) -> bool:
    """May a path be named by both? What has no `**` also names all that is below it."""
    covers = "**" not in one, "**" not in other
    seen: set[tuple[int, int]] = set()
    to_see = [(0, 0)]
    while to_see:
        at = i, j = to_see.pop()
        if at in seen:
            continue
        seen.add(at)
        rest, others = one[i:], other[j:]
        if (not rest and (covers[0] or set(others) <= {"**"})) or (not others and (covers[1] or set(rest) <= {"**"})):
            return True
        if rest and rest[0] == "**":
            to_see += [(i + 1, j), (i, j + 1)] if others else [(i + 1, j)]
        elif others and others[0] == "**":
            to_see += [(i, j + 1), (i + 1, j)] if rest else [(i, j + 1)]
        elif rest and others and _fit(rest[0], others[0]):
            to_see.append((i + 1, j + 1))
    return False


@lru_cache(maxsize=4096)
def _fit(one: str, other: str) -> bool:
    """May a name fit both? Of two wildcards only what is before the first and after the last is looked at."""
    if not is_wild(one):
        return one == other if not is_wild(other) else fnmatchcase(one, other)
    if not is_wild(other):
        return fnmatchcase(other, one)
    (head, tail), (head2, tail2) = _ends(one), _ends(other)
    return (head.startswith(head2) or head2.startswith(head)) and (tail.endswith(tail2) or tail2.endswith(tail))


def _ends(part: str) -> tuple[str, str]:
    """What any name that fits begins with, and ends with."""
    if not is_wild(part):
        return part, part
    first = min(part.index(char) for char in "*?[" if char in part)
    last = max(part.rindex(char) for char in "*?]" if char in part) if "[" not in part else len(part) - 1
    return part[:first], part[last + 1 :]


class _Index:
    """Parts of paths by what they begin with; turned round, by what they end with."""

    def __init__(self) -> None:
        self._ordered: list[tuple[str, str]] = []
        self._wild: dict[str, list[str]] = {}

    def add(self, text: str, part: str) -> None:
        insort(self._ordered, (text, part))
        if is_wild(part):
            self._wild.setdefault(text, []).append(part)

    def near(self, text: str, *, wild: bool) -> tuple[int, Callable[[], list[str]]]:
        """How many may fit, and which: wildcards that begin with less than this, and for a wildcard all with more."""
        less = [self._wild[text[:cut]] for cut in range(len(text) + (not wild)) if text[:cut] in self._wild]
        first = bisect_left(self._ordered, (text, ""))
        last = bisect_left(self._ordered, (text + _LAST, "")) if wild else first
        return sum(map(len, less)) + last - first, lambda: [
            *chain.from_iterable(less), *(part for _, part in self._ordered[first:last])
        ]  # fmt: skip


_LAST = chr(0x10FFFF)


class _Ends:
    """Parts of paths, found again by what they begin or end with, whichever leaves fewer."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._heads, self._tails = _Index(), _Index()

    def add(self, part: str) -> None:
        if part not in self._known:
            self._known.add(part)
            head, tail = _ends(part)
            self._heads.add(head, part)
            self._tails.add(tail[::-1], part)

    def near(self, part: str) -> list[str]:
        """All that it fits, and perhaps some more."""
        (head, tail), wild = _ends(part), is_wild(part)
        ways = self._heads.near(head, wild=wild), self._tails.near(tail[::-1], wild=wild)
        found = min(ways, key=lambda way: way[0])[1]()
        return [*found, part] if not wild and part in self._known else found


class _Node:
    """A folder as patterns name it, and what they name in it."""

    def __init__(self) -> None:
        self._inner: dict[str, _Node] = {}
        self._ends = _Ends()
        self._here: list[str] = []

    def add(self, parts: list[str], pattern: str) -> None:
        node = self
        for part in parts:
            if part not in node._inner:
                node._inner[part] = _Node()
                node._ends.add(part)
            node = node._inner[part]
        node._here.append(pattern)

    def near(self, parts: list[str]) -> Iterator[str]:
        yield from self._here
        if not parts or parts[0] == "**":
            for inner in self._inner.values():
                yield from inner.near([])
            return
        for part in self._ends.near(parts[0]):
            if _fit(part, parts[0]):
                yield from self._inner[part].near(parts[1:])


# ---- which phases may run at the same time


class _Order:
    def __init__(self, specs: Mapping[int, Spec]) -> None:
        needs = {number: spec.needs for number, spec in specs.items()}
        self._after = dependents(needs)
        self._before = needs
        self._rank = {number: rank for rank, number in enumerate(order(needs))}

    def unordered(self, groups: Iterable[list[tuple[int, str]]]) -> Iterator[Clash]:
        """Of each group two that nothing keeps in order. All of them are in order if each is with the next."""
        asked: dict[tuple[int, int], tuple[str, str]] = {}
        for group in groups:
            ordered = sorted(group, key=lambda each: self._rank[each[0]])
            for (one, pattern), (other, pattern2) in pairwise(ordered):
                if one != other:
                    asked.setdefault((one, other), (pattern, pattern2))
        busy = Counter(number for pair in asked for number in pair)
        reached: dict[tuple[int, bool], set[int]] = {}
        for (one, other), patterns in asked.items():
            if not self._is_before(one, other, busy, reached):
                yield (one, other, *patterns)

    def _is_before(self, one: int, other: int, busy: Counter[int], reached: dict[tuple[int, bool], set[int]]) -> bool:
        """Who is asked about often is walked from once, all the way."""
        if max(busy[one], busy[other]) <= 2:
            return other in _walk(self._after, one, lambda number: self._rank[number] <= self._rank[other], other)
        forward = busy[one] >= busy[other]
        hub, end, ways = (one, other, self._after) if forward else (other, one, self._before)
        if (hub, forward) not in reached:
            reached[hub, forward] = _walk(ways, hub, lambda number: True, None)
        return end in reached[hub, forward]


def _walk(ways: Mapping[int, Iterable[int]], start: int, may: Callable[[int], bool], goal: int | None) -> set[int]:
    found, to_see = set[int](), [start]
    while to_see and goal not in found:
        fresh = [n for n in ways.get(to_see.pop(), ()) if n not in found and n in ways and may(n)]
        found.update(fresh)
        to_see.extend(fresh)
    return found
