"""A crontab as text: the block of a schedule, between two comments, goes in and out and leaves all else as it was."""

from __future__ import annotations

import re

from orchestrator.core.value import Value

UNENDED, NO_CRONTAB = ", after a line without an end", ", where there was no crontab"  # to be restored, too
_MARKER = re.compile(rf"# orch: (begin|end) schedule ([\w-]+)({UNENDED}|{NO_CRONTAB}|) of project (.*)", re.ASCII)
LONGEST = 900  # of a line: cron takes no thousand characters


class Unbalanced(Exception):
    """A marker that has lost its other half: nobody can say which lines are whose."""


class Block(Value):
    name: str
    project: str
    note: str
    first: int  # its first comment
    last: int  # its last
    lines: tuple[str, ...]  # between them


def command(script: str) -> str:
    """What cron is to start. It knows no quotes, and takes % for the end of the line; sh knows quotes."""
    quoted = "'" + script.replace("'", "'\"'\"'") + "'"
    return f"/bin/sh {quoted}".replace("%", r"\%")


def fault(project: str) -> str:
    """Why no line can be written that leads there; empty: one can."""
    if not project.replace("\\", "\n").isprintable():
        return (
            "it has a character that cron would take for another (a line break, a backslash, or one that is not seen)"
        )
    return "it is too long for cron" if len(command(project).encode("utf-8", "replace")) > LONGEST - 120 else ""


def blocks(text: str) -> list[Block]:
    found = list[Block]()
    opened: tuple[int, re.Match[str]] | None = None
    lines = text.split("\n")
    for index, line in enumerate(lines):
        marker = _MARKER.fullmatch(line)
        if marker is None:
            continue
        begins = marker[1] == "begin"
        if begins == (opened is not None):
            raise Unbalanced(_lost(index, line) if opened is None else _lost(opened[0], opened[1][0]))
        if opened is None:
            opened = index, marker
            continue
        start, begin = opened
        if (begin[2], begin[4]) != (marker[2], marker[4]):
            raise Unbalanced(_lost(start, begin[0]))
        found.append(Block(begin[2], begin[4], begin[3], start, index, tuple(lines[start + 1 : index])))
        opened = None
    if opened is not None:
        raise Unbalanced(_lost(opened[0], opened[1][0]))
    return found


def _lost(index: int, line: str) -> str:
    return f'line {index + 1} ("{line}") has no other half'


def block_of(text: str | None, name: str, project: str) -> Block | None:
    return next((one for one in blocks(text or "") if (one.name, one.project) == (name, project)), None)


def with_block(text: str | None, name: str, project: str, lines: list[str]) -> str:
    """At its end, so that what is set above it (MAILTO) holds for it. None: there is no crontab."""
    before, note = text or "", NO_CRONTAB if text is None else ""
    if before and not before.endswith("\n"):
        before, note = before + "\n", UNENDED
    inner = "".join(f"{line}\n" for line in lines)
    return f"{before}{_marker('begin', name, note, project)}\n{inner}{_marker('end', name, '', project)}\n"


def without_block(text: str, name: str, project: str, scripts: list[str]) -> str | None:
    """Lines that somebody else put into the block stay. None: then there is nothing, as before."""
    block = block_of(text, name, project)
    if block is None:
        return text
    lines = text.split("\n")
    ours = [command(script) for script in scripts]
    kept = [line for line in block.lines if not any(one in line for one in ours)]
    before, after = lines[: block.first] + kept, lines[block.last + 1 :]
    heir = next((one for one in blocks("\n".join(after)) if not one.note), None) if block.note else None
    if heir is not None:
        after[heir.first] = _marker("begin", heir.name, block.note, heir.project)
    elif block.note == UNENDED and after == [""] and not kept:
        after = []
    left = "\n".join([*before, *after])
    return None if not left and block.note == NO_CRONTAB else left


def _marker(edge: str, name: str, note: str, project: str) -> str:
    return f"# orch: {edge} schedule {name}{note} of project {project}"


def zone_for_all(text: str) -> str:
    """A zone that the crontab sets, which some crons then hold for the lines after it."""
    found = re.findall(r"^[ \t]*CRON_TZ[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE)
    return str(found[-1]).strip("\"'") if found else ""
