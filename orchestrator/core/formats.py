"""Formats: which version of a document on disk this orch writes, and the way to it from every older one.

Readers take these steps in memory; the next writer writes the newest, and keeps a copy of what was there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.errors import StateDamaged

VERSION = 1
OLDEST = 1
STATE, LINE, OUTCOME, ASK, SCHEDULE = "state", "line", "outcome", "ask", "schedule"  # the kinds of documents

Document = dict[str, Any]

# version -> what makes of a document of that version, whatever its kind, one of the next
STEPS: dict[int, Callable[[str, Document], Document]] = {}

# What the reading of a document raises that is not what it should be: no JSON, too deep, or of another shape.
MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError)


def today(kind: str, document: Document, version: object, what: str, where: str = "") -> Document:
    """The document as this orch would have written it; StateDamaged, by name, if its format is not known here."""
    if not _is_known(version):
        raise refusal(version, what, where)
    for older in range(int(str(version)), VERSION):
        document = STEPS[older](kind, document)
    return document


def _is_known(version: object) -> bool:
    return type(version) is int and OLDEST <= version <= VERSION


def is_newer(version: object) -> bool:
    return type(version) is int and version > VERSION


def refusal(version: object, what: str, where: str = "") -> StateDamaged:
    return StateDamaged(
        f"{what} is of format {version}; this orch knows format {VERSION}" + (f" ({where})" if where else ""),
        "use the orch that wrote it, or a newer one; nothing was touched",
    )
