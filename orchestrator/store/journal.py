"""The journal's segments in system/journal: which there are, reading their lines, where a torn tail begins.

`<seq>.jsonl` holds the lines from that number on; `<seq>.snapshot.json` is the state just before them. Two of each are
kept, so that the newest state can be proven twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from orchestrator.store.lines import BadLine, Line, check, decode


class Segment(NamedTuple):
    first: int
    path: Path


class Damage(NamedTuple):
    path: Path
    line: int
    offset: int
    why: str

    def __str__(self) -> str:
        return f"{self.path.name}, line {self.line} (byte {self.offset}): {self.why}"


class Read(NamedTuple):
    """What a segment held: the good lines, where they end, and what was wrong after that."""

    lines: list[Line]
    end: int  # offset behind the last good line
    chain: int
    last: int  # the last good sequence number
    torn: bool  # an unfinished last line follows: a decision not taken
    damage: Damage | None


def segments(folder: Path) -> list[Segment]:
    found = [Segment(int(path.stem), path) for path in folder.glob("*.jsonl") if path.stem.isdigit()]
    return sorted(found)


def path_of(folder: Path, first: int) -> Path:
    return folder / f"{first:012d}.jsonl"


def base_of(folder: Path, first: int) -> Path:
    return folder / f"{first:012d}.snapshot.json"


def read(path: Path, chain: int, last: int, *, after: int = 0, offset: int = 0) -> Read:
    """From `offset` on, where `chain` and `last` hold; lines up to `after` are checked but not parsed."""
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read()
    lines: list[Line] = []
    number, end = 0, offset
    *whole, tail = data.split(b"\n")
    for raw in whole:
        number += 1
        try:
            if last + 1 <= after:
                chain = check(raw, chain)
            else:
                lines.append(_expect(decode(raw, chain), last + 1))
                chain = lines[-1].chain
        except (BadLine, ValueError, KeyError, TypeError) as error:
            return Read(lines, end, chain, last, False, Damage(path, number, end, _why(error)))
        last += 1
        end += len(raw) + 1
    damage = Damage(path, number + 1, end, "its newline is damaged") if _is_whole(tail[:-1], chain) else None
    return Read(lines, end, chain, last, bool(tail) and damage is None, damage)


def _is_whole(raw: bytes, chain: int) -> bool:
    """A sealed line that something other than its newline follows: no torn write leaves that behind."""
    try:
        check(raw, chain)
    except BadLine:
        return False
    return True


def _expect(line: Line, seq: int) -> Line:
    if line.seq != seq:
        raise BadLine(f"line {line.seq} stands where {seq} should")
    return line


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, BadLine) else f"not a journal line ({type(error).__name__})"
