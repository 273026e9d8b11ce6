"""The journal's segments in system/journal: which there are, reading their lines, where a torn tail begins.

`<seq>.jsonl` holds the lines from that number on; `<seq>.snapshot.json` is the state just before them. Two of each are
kept, so that the newest state can be proven twice.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from orchestrator import disk
from orchestrator.core.formats import MALFORMED
from orchestrator.store.lines import BadLine, Line, check, decode

_NAME = re.compile("[0-9]{12}")


class Segment(NamedTuple):
    first: int
    path: Path


class Damage(NamedTuple):
    path: Path
    line: int  # 0: the file as a whole
    offset: int
    why: str

    def __str__(self) -> str:
        place = f", line {self.line} (byte {self.offset})" if self.line else ""
        return f"{self.path.name}{place}: {self.why}"


class Read(NamedTuple):
    """What a segment held: the good lines, where they end, and what was wrong after that."""

    lines: list[Line]
    end: int  # offset behind the last good line
    chain: int
    last: int  # the last good sequence number
    torn: bool  # an unfinished last line follows: a decision not taken
    damage: Damage | None


def segments(folder: Path) -> list[Segment]:
    found = [Segment(int(path.stem), path) for path in folder.glob("*.jsonl") if _NAME.fullmatch(path.stem)]
    return sorted(one for one in found if one.path.exists())


def path_of(folder: Path, first: int) -> Path:
    return folder / f"{first:012d}.jsonl"


def base_of(folder: Path, first: int) -> Path:
    return folder / f"{first:012d}.snapshot.json"


def read(path: Path, chain: int, last: int, *, after: int = 0, offset: int = 0) -> Read:
    """From `offset` on, where `chain` and `last` hold; lines up to `after` are checked but not parsed."""
    lines: list[Line] = []
    end = offset
    try:
        data = disk.read(path, offset)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        return Read(lines, end, chain, last, False, Damage(path, 0, 0, f"it cannot be read: {error.strerror}"))
    *whole, tail = data.split(b"\n")
    for raw in whole:
        number = _line_of(path, last + 1)
        try:
            if last + 1 <= after:
                chain = check(raw, chain)
            else:
                lines.append(_expect(decode(raw, chain, f"{path}, line {number}"), last + 1))
                chain = lines[-1].chain
        except (BadLine, *MALFORMED) as error:
            if _was_being_written(data[end - offset :]):
                return Read(lines, end, chain, last, True, None)
            return Read(lines, end, chain, last, False, Damage(path, number, end, _why(error)))
        last += 1
        end += len(raw) + 1
    damage = None
    if is_whole(tail[:-1], chain) and tail[-1:] != b"\0":
        damage = Damage(path, _line_of(path, last + 1), end, "its newline is damaged")
    return Read(lines, end, chain, last, bool(tail) and damage is None, damage)


def _was_being_written(rest: bytes) -> bool:
    """Whether a power cut may have left it: what a disk puts where nothing was synced. None of it looks like a line.

    Whatever changes one byte of a line leaves enough of its two ends.
    """
    return not any(_looks_like_a_line(piece) for piece in rest.split(b"\n"))


def _looks_like_a_line(raw: bytes) -> bool:
    head, end = raw[:24], raw[-24:]
    return (head.startswith(b'{"v":') or b'"seq":' in head) and (b'"sum":"' in end or end.endswith(b'"}'))


def _line_of(path: Path, seq: int) -> int:
    """Each line is one number further: its place in the file follows from the file's name."""
    return seq - int(path.stem) + 1 if _NAME.fullmatch(path.stem) else seq


def is_whole(raw: bytes, chain: int) -> bool:
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
