"""Reads the documents as a reader would follow them: files to write, commands to type, and what is said then."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md",
    "docs/usage.md",
    "docs/phases.md",
    "docs/operations.md",
    "docs/architecture.md",
    "docs/performance.md",
)
_FENCE = re.compile(r"^```(\w*)[ ]?(\S*)\n(.*?)^```$", re.M | re.S)
_HEADING = re.compile(r"^#{2,3} (.+)$", re.M)
_EXITS = re.compile(r"# exits with (\d+)$")


class Block(NamedTuple):
    """One fenced block. `name`: the file that it is the text of."""

    section: str
    language: str
    name: str
    text: str


class Typed(NamedTuple):
    """One command, the exit code that it must end with, and lines that it must say, in this order."""

    line: str
    code: int
    said: list[str]


def blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text("utf-8")
    headings = [(match.start(), match[1]) for match in _HEADING.finditer(text)]
    return [
        Block(next((name for start, name in reversed(headings) if start < match.start()), ""), *match.groups())
        for match in _FENCE.finditer(text)
    ]


def sections(document: str) -> dict[str, list[Block]]:
    """Those that have something to run: each is a project of its own."""
    found: dict[str, list[Block]] = {}
    for block in blocks(document):
        found.setdefault(block.section, []).append(block)
    return {name: listed for name, listed in found.items() if any(each.language == "console" for each in listed)}


def typed(block: Block) -> Iterator[Typed]:
    line, said = "", list[str]()
    for row in [*block.text.splitlines(), "$ "]:
        if not row.startswith("$ "):
            said.append(row)
            continue
        if line:
            exits = _EXITS.search(line)
            yield Typed(line, int(exits[1]) if exits else 0, [each for each in said if each.strip() not in ("", "…")])
        line, said = row[2:], []


def prose(document: str) -> str:
    """Without the fenced blocks."""
    return _FENCE.sub("", (ROOT / document).read_text("utf-8"))


def inline(document: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(document))
