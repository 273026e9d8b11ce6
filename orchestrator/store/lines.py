"""Journal lines and snapshots as bytes: checksummed JSON whose damage is seen. No files here.

A line ends in `,"sum":"xxxxxxxx"}`: the CRC of everything before, started with the sum of the line before, so that a
line that is changed, missing or out of place breaks the chain.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import Any, NamedTuple

from orchestrator.core import formats

_SUM = b',"sum":"'
_TAIL = len(_SUM) + 8 + 2  # ,"sum":"xxxxxxxx"}
_SEALED = re.compile(rb',"sum":"([0-9a-f]{8})"}$')


class Line(NamedTuple):
    seq: int
    at: str
    events: list[dict[str, Any]]
    because: list[str]  # for each event what it follows from
    chain: int


class BadLine(Exception):
    """Why these bytes are not the line that should stand here."""


# `dumps` would build it each time; what `as_dict` gives holds no circle.
_written = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str, check_circular=False).encode


def encode(document: dict[str, Any], chain: int) -> tuple[bytes, int]:
    """One line, and the chain after it. The events stand in it as their `as_dict` gives them."""
    return seal(dumped(document)[:-1], chain)


def dumped(document: dict[str, Any]) -> bytes:
    return _written(document).encode("utf-8", "replace")


def seal(opened: bytes, chain: int) -> tuple[bytes, int]:
    total = zlib.crc32(opened, chain)
    return opened + _SUM + b'%08x"}\n' % total, total


def check(raw: bytes, chain: int) -> int:
    """The chain after `raw` (without its newline), or BadLine."""
    opened, seal_ = raw[:-_TAIL], raw[-_TAIL:]
    total = zlib.crc32(opened, chain)
    if seal_ != _SUM + b'%08x"}' % total:
        raise BadLine("its checksum does not fit")
    return total


def told_chain(raw: bytes) -> int | None:
    """The chain after a line as that line says it, whether or not it fits: with it the line behind can be checked."""
    found = _SEALED.search(raw)
    return int(found[1], 16) if found else None


def decode(raw: bytes, chain: int, where: str = "") -> Line:
    total = check(raw, chain)
    document = json.loads(raw)
    document = formats.today(formats.LINE, document, document.get("v", formats.OLDEST), "the journal", where)
    line = Line(document["seq"], document["at"], document["events"], document["because"], total)
    if not _is_well_formed(line):
        raise BadLine("it is whole, but not a line of a journal")
    return line


def _is_well_formed(line: Line) -> bool:
    return (
        type(line.seq) is int
        and type(line.at) is str
        and type(line.events) is list
        and type(line.because) is list
        and len(line.events) == len(line.because)
        and all(type(event) is dict for event in line.events)
    )
