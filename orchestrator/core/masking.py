"""What hides secrets in bytes that somebody else has written: every usual way of writing one is looked for.

A secret is bytes that may be written in many ways, mixed as they come: as they are, escaped for JSON, Python, a shell
or a URL, as base64 at any alignment, as hex. Each way is a row of pieces. In it a part that is always written alike,
its anchor, is what the bytes are searched for; only around an anchor the rest is compared. So what holds no secret
costs a few searches, and no row of escapes makes it slow.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from orchestrator.core.escapes import BREAKS, numbered, quoted, written

MARK = b"***"
SHORTEST = 4  # characters of what can be hidden: anything shorter stands everywhere
_BATCH = 32 * 1024  # of a stream, so much more than what is held back makes a look worth its while
_SURE = 3  # bytes of an anchor that is worth searching for
_LINE = 60  # characters of base64 that stand in one line at least, where it is in lines


class Anchor(NamedTuple):
    """The pieces from `first` to `after` of a way, as they are (nearly) always written."""

    way: Way
    first: int
    after: int
    literal: bytes


class Way:
    """One way of writing one secret."""

    def __init__(self, pieces: list[tuple[bytes, ...]]) -> None:
        self.pieces = pieces
        self._widths = [max(map(len, piece)) for piece in pieces]
        self.longest = sum(self._widths)

    def ends(self, data: bytes, at: int, piece: int) -> int:
        """Where it ends, if the pieces from this one on follow `at`; else -1."""
        places = {at}
        for ways in self.pieces[piece:]:
            places = {place + len(way) for place in places for way in ways if data.startswith(way, place)}
            if not places:
                return -1
        return max(places)

    def begins(self, data: bytes, at: int, piece: int) -> int:
        """Where it begins, if the pieces before this one end at `at`; else -1."""
        places = {at}
        for ways in reversed(self.pieces[:piece]):
            places = {
                place - len(way)
                for place in places
                for way in ways
                if place >= len(way) and data.startswith(way, place - len(way))
            }
            if not places:
                return -1
        return min(places)

    def may_go_on(self, data: bytes, at: int) -> bool:
        """Whether what stands from `at` to the end is the beginning of it, and not all."""
        places, end = {at}, len(data)
        for ways, width in zip(self.pieces, self._widths, strict=True):
            following = set[int]()
            for place in places:
                rest = data[place : place + width]
                for way in ways:
                    if rest.startswith(way):
                        following.add(place + len(way))
                    elif place + len(rest) == end and way.startswith(rest):
                        return True
            if end in places or not following:
                return end in places
            places = following
        return False


class Masker:
    def __init__(self, values: Iterable[str]) -> None:
        ways: dict[tuple[tuple[bytes, ...], ...], list[tuple[int, int, bytes]]] = {}
        for value in _also_stripped(values):
            for pieces, anchors in _ways_of(value):
                ways.setdefault(tuple(pieces), anchors)
        self.longest = 0
        self._beginnings: dict[int, list[Way]] = {}
        self._anchors: dict[bytes, list[Anchor]] = {}  # by what must be there for any of them to be
        for key, places in ways.items():
            way = Way(list(key))
            self.longest = max(self.longest, way.longest)
            for first in {piece[0] for piece in way.pieces[0]}:
                self._beginnings.setdefault(first, []).append(way)
            for start, after, literal in places:
                gate = next((mark for mark in _GATES if mark in literal), b"")
                self._anchors.setdefault(gate, []).append(Anchor(way, start, after, literal))
        for beginning in self._beginnings.values():
            beginning.sort(key=lambda way: -way.longest)

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where secrets stand in it, from the first to the last, none touching another."""
        found: list[tuple[int, int]] = []
        for gate, anchors in self._anchors.items():
            if gate and gate not in data:
                continue
            for way, first, after, literal in anchors:
                at = data.find(literal)
                while at >= 0:
                    begin = way.begins(data, at, first)
                    end = way.ends(data, at + len(literal), after) if begin >= 0 else -1
                    if end >= 0:
                        found.append((begin, end))
                    at = data.find(literal, at + 1)
        return _merged(found) if found else []

    def first_pending(self, data: bytes) -> int:
        """From where on the end of it may be the beginning of a secret; its length if nowhere."""
        for at in range(max(0, len(data) - self.longest), len(data)):
            for way in self._beginnings.get(data[at], ()):
                if way.longest <= len(data) - at:
                    break  # it would be over by now, and so would those after it
                if way.may_go_on(data, at):
                    return at
        return len(data)

    def data(self, data: bytes) -> bytes:
        pieces, last = [], 0
        for begin, end in self.spans(data):
            pieces += [data[last:begin], MARK]
            last = end
        return b"".join([*pieces, data[last:]]) if last else data

    def text(self, text: str) -> str:
        told = text.encode("utf-8", "surrogatepass")
        hidden = self.data(told)
        return text if hidden is told else hidden.decode("utf-8", "replace")

    def json(self, value: Any) -> Any:
        """A value of JSON without what is secret in its strings and keys; a number that is one becomes the mark."""
        told = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return self._json(value) if self.spans(told) else value

    def _json(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | tuple):
            return [self._json(item) for item in value]
        if isinstance(value, dict):
            return {self.text(str(key)): self._json(item) for key, item in value.items()}
        told = json.dumps(value)
        return value if self.text(told) == told else MARK.decode()


class Stream:
    """Bytes as they come, in pieces of any size; what may be part of a secret is held back until that is known."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = b""
        self._covered = 0  # so many of these bytes belong to a secret whose mark is out already

    @property
    def is_empty(self) -> bool:
        return not self._held

    def feed(self, data: bytes) -> bytes:
        """What is certain by now."""
        self._held += data
        if len(self._held) < self._masker.longest + _BATCH:
            return b""
        return self._release(len(self._held) - self._masker.longest)

    def settle(self) -> bytes:
        """All but what may go on to be a secret."""
        return self._release(self._masker.first_pending(self._held))

    def finish(self) -> bytes:
        return self._release(len(self._held))

    def _release(self, cut: int) -> bytes:
        """All before `cut`. What begins there is whole: so much was held back; what reaches over it is marked now."""
        if not cut:
            return b""
        held, spans, told, last = self._held, self._masker.spans(self._held), list[bytes](), 0
        if self._covered:
            spans = _merged([(0, self._covered), *spans])
        for begin, end in spans:
            if begin >= cut:
                break
            told += [held[last:begin], b"" if self._covered and not begin else MARK]
            last = end
        if last < cut:
            told.append(held[last:cut])
        self._covered, self._held = max(0, last - cut), held[cut:]
        return b"".join(told)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    spans.sort()
    merged = [spans[0]]
    for begin, end in spans[1:]:
        if begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


# ── the ways of writing one secret ─────────────────────────────────────────────────────────────────────────────

_GATES = (b"%25", b"%", b"\\\\", b"\\", b"&", b"0x")  # the first that a literal has
_Ways = Iterator[tuple[list[tuple[bytes, ...]], list[tuple[int, int, bytes]]]]


def _also_stripped(values: Iterable[str]) -> Iterator[str]:
    """Files and commands give blanks and empty lines at its ends, which most who use it take away."""
    for value in values:
        yield value
        if value != (bare := value.strip()) and len(bare) >= SHORTEST:
            yield bare


def _ways_of(value: str) -> _Ways:
    lines = [line.strip() for line in value.splitlines()] if len(value.splitlines()) > 1 else []
    for text in (value, *(line for line in lines if len(line) >= SHORTEST)):
        pieces = [written(char) for char in text]
        yield pieces, _anchors(pieces, (0, len(pieces)))
    data = value.encode("utf-8", "surrogateescape")
    for pieces in _as_base64(data):
        middle = min(len(pieces) // 2, _LINE // 2)  # a line may end in the one part, or in the other
        yield pieces, _anchors(pieces, (0, middle), (middle, min(len(pieces), _LINE)))
    for literal in {*quoted(value)}:
        yield [(literal,)], [(0, 1, literal)]
    for pieces, many, rows in numbered(data):
        yield pieces, [(0, many, row) for row in rows]


def _anchors(pieces: list[tuple[bytes, ...]], *parts: tuple[int, int]) -> list[tuple[int, int, bytes]]:
    """Of each part the longest run that is written in one way, but for line breaks; else all that it may begin with."""
    found = [_longest_run(pieces, *part) for part in parts]
    if all(len(literal) >= _SURE for _, _, literal in found):
        return found
    return [(0, min(2, len(pieces)), b"".join(both)) for both in product(*pieces[:2])]


def _longest_run(pieces: list[tuple[bytes, ...]], start: int, end: int) -> tuple[int, int, bytes]:
    best, first = (start, start, b""), start
    for at in range(start, end + 1):
        if at == end or not _is_certain(pieces[at]):
            if at - first > best[1] - best[0]:
                best = (first, at, b"".join(piece[0] for piece in pieces[first:at]))
            first = at + 1
    return best


def _is_certain(piece: tuple[bytes, ...]) -> bool:
    return len(piece) == 1 or (len(piece[0]) == 1 and piece == _folding(piece[0]) and len(piece) == 1 + len(BREAKS))


def _as_base64(data: bytes) -> Iterator[list[tuple[bytes, ...]]]:
    """At each of the three alignments: those characters that it alone decides."""
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + data).decode()
        chars = whole[-(-8 * shift // 6) : 8 * (shift + len(data)) // 6]
        yield [_OTHERWISE.get(chars[0]) or (chars[0].encode(),), *(_folding(char.encode()) for char in chars[1:])]


_OTHERWISE = {"+": (b"+", b"-", b"%2B", b"%2b"), "/": (b"/", b"_", b"%2F", b"%2f", b"\\/")}


@cache
def _folding(char: bytes) -> tuple[bytes, ...]:
    """A character of base64, at the end of a line or not."""
    ways = _OTHERWISE.get(char.decode("latin-1")) or (char,)
    return (*ways, *(line + way for line in BREAKS for way in ways))


def masker_of(values: Mapping[str, str]) -> Masker | None:
    return Masker(values.values()) if values else None
