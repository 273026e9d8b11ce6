"""TOML: `[[phase]]` tables as they were written, and the line of each table and key, which the parser does not tell."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from orchestrator.core.names import nearest
from orchestrator.load.definitions import Fault, Written

_HEADER = re.compile(r"""^[ \t]*\[\[[ \t]*(?:phase|"phase"|'phase')[ \t]*\]\]""", re.M)
_TEXT = re.compile(r'''"""(?:\\.|[^\\])*?"{3,5}|"(?:\\.|[^"\\\n])*"|''' + r"""'''.*?'{3,5}|'[^'\n]*'|#[^\n]*""", re.S)
_PLACE = re.compile(r"^(.*?) \(at (?:line (\d+), column \d+|end of document)\)$", re.S)


def parse(file: str, data: bytes, digest: str) -> tuple[list[Written], list[Fault]]:
    import tomllib  # a pipeline in Python does not pay for it

    text = _text(data)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return [], [_syntax(file, text, str(error))]
    except ValueError:
        return [], [Fault(file, None, "holds a number of thousands of digits", "correct it")]
    except RecursionError:
        return [], [Fault(file, None, "is nested too deeply", "write each phase as a table of its own: [[phase]]")]
    tables = document.pop("phase", [])
    faults = [_stranger(file, text, key) for key in document]
    if not isinstance(tables, list):
        return [], [*faults, Fault(file, _line_of(text, "phase"), "phase is not a list of tables", _HOW)]
    if not tables and not faults:
        faults.append(Fault(file, None, "defines no phase", _HOW))
    return _written(file, text, tables, digest, faults), faults


_HOW = "begin each phase with [[phase]], two brackets"


def _written(file: str, text: str, tables: list[Any], digest: str, faults: list[Fault]) -> list[Written]:
    lines = headers(text)
    if len(lines) != len(tables):  # phase = [{…}, {…}]: one line for all
        lines = [_line_of(text, "phase") or 1] * len(tables)
    found = []
    for line, table in zip(lines, tables, strict=True):
        if isinstance(table, dict):
            found.append(Written(file, line, table, digest=digest))
        else:
            faults.append(Fault(file, line, f"phase holds {table!r}, which is not a table", _HOW))
    return found


def headers(text: str) -> list[int]:
    """The line of every [[phase]]."""
    lines = []
    line, seen = 1, 0
    bare = _without_long_strings(text)
    for match in _HEADER.finditer(bare):
        line += bare.count("\n", seen, match.start())
        seen = match.start()
        lines.append(line)
    return lines


def key_line(data: bytes, header: int, key: str) -> int:
    """The line of `key` in the table that begins at line `header`, or that line."""
    lines = _lines(data)
    wanted = re.compile(rf"""[ \t]*(?:\[[ \t]*phase[ \t]*\.[ \t]*)?["']?{re.escape(key)}["']?[ \t]*[=.\]]""")
    for number in range(header, len(lines)):
        if _HEADER.match(lines[number]):
            break
        if wanted.match(lines[number]):
            return number + 1
    return header


@lru_cache(maxsize=2)
def _lines(data: bytes) -> list[str]:
    return _without_long_strings(_text(data)).split("\n")


def _text(data: bytes) -> str:
    return data.decode("utf-8-sig").replace("\r\n", "\n")


def _without_long_strings(text: str) -> str:
    """What looks like a key inside a text of several lines is none; every line keeps its number."""
    if '"""' not in text and "'''" not in text:
        return text
    return _TEXT.sub(lambda match: "\n" * match[0].count("\n") or match[0], text)


def _line_of(text: str, key: str) -> int | None:
    pattern = re.compile(rf"""^[ \t]*\[*[ \t]*["']?{re.escape(key)}["']?[ \t]*[=.\]]""", re.M)
    match = pattern.search(_without_long_strings(text))
    return text.count("\n", 0, match.start()) + 1 if match else None


def _stranger(file: str, text: str, key: str) -> Fault:
    message = f"{key} is not known here: a file of phases holds [[phase]] tables only"
    return Fault(file, _line_of(text, key), message, _HOW if nearest(key, ["phase"]) else "move it, or remove it")


def _syntax(file: str, text: str, said: str) -> Fault:
    match = _PLACE.match(said)
    if match is None:
        return Fault(file, None, f"is not TOML: {said}", "correct it")
    line = int(match[2]) if match[2] else text.rstrip("\n").count("\n") + 1
    return Fault(file, line, f"is not TOML: {match[1][:1].lower()}{match[1][1:]}", "correct this line")
