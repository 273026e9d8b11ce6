"""Journal lines and snapshots as bytes: checksummed JSON whose damage is seen. No files here.

A line ends in `,"sum":"xxxxxxxx"}`: the CRC of everything before, started with the sum of the line before, so that a
line that is changed, missing or out of place breaks the chain.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, NamedTuple

from orchestrator.core.value import plain
from orchestrator.errors import StateDamaged

VERSION = 1
_SUM = b',"sum":"'
_TAIL = len(_SUM) + 8 + 2  # ,"sum":"xxxxxxxx"}


class Line(NamedTuple):
    seq: int
    at: str
    events: list[dict[str, Any]]
    because: list[str]  # for each event what it follows from
    chain: int


class BadLine(Exception):
    """Why these bytes are not the line that should stand here."""


def encode(document: dict[str, Any], chain: int) -> tuple[bytes, int]:
    """One line, and the chain after it."""
    body = json.dumps(plain(document), separators=(",", ":"), ensure_ascii=False, default=str).encode(
        "utf-8", "replace"
    )
    return seal(body[:-1], chain)


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


def decode(raw: bytes, chain: int) -> Line:
    total = check(raw, chain)
    document = json.loads(raw)
    refuse_newer(document.get("v", VERSION), "the journal")
    return Line(document["seq"], document["at"], document["events"], document["because"], total)


def refuse_newer(version: object, what: str) -> None:
    if version != VERSION:
        raise StateDamaged(
            f"{what} is of format {version}; this orch knows format {VERSION}",
            "use the orch that wrote it, or a newer one; nothing was touched",
        )
