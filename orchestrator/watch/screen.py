"""A few rows at the foot of a terminal that are drawn anew, and lines above them that stay: bytes, no meaning.

The cursor is never hidden: it rests below the rows, so whatever kills orch, even with SIGKILL, leaves a terminal that
needs no repair and a prompt on a line of its own.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.style import Style

from orchestrator.watch.outlet import Outlet

# No yellow, white or blue: each of them cannot be read on one of the two backgrounds.
_STYLES = {"good": "green", "bad": "bold red", "again": "magenta", "quiet": "dim", "strong": "bold"}
_COLOURED = {
    "completed": "good", "approved": "good", "FAILED": "bad", "REJECTED": "bad", "RETRY": "again",
    "cancelled": "again", "PAUSED": "again", "WAITS": "again",
}  # fmt: skip
_FIRST_WORD = re.compile(r"(?:\d\d:\d\d:\d\d  )(\w+)")
_TOGETHER, _SHOW = "\x1b[?2026h", "\x1b[?2026l"  # terminals that know it show what is between at once
_REST_OF_LINE, _REST_OF_SCREEN = "\x1b[K", "\x1b[J"
MOST_LINES = 10_000  # that wait for a terminal which is not read

Size = Callable[[], tuple[int, int]]


class Paint:
    """Colours where they are wanted; bold and dim always; no word is said by them alone."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        styles = {name: Style.parse(text) for name, text in _STYLES.items()}
        plain = bool(environ.get("NO_COLOR"))
        self._styles = {name: style.without_color if plain else style for name, style in styles.items()}

    def __call__(self, text: str, style: str) -> str:
        return self._styles[style].render(text, color_system=ColorSystem.STANDARD) if style and text else text

    def line(self, text: str) -> str:
        """A line that stays: its first word in colour."""
        found = _FIRST_WORD.match(text)
        style = _COLOURED.get(found[1]) if found else None
        if found is None or style is None:
            return text
        return text[: found.start(1)] + self(found[1], style) + text[found.end(1) :]


class Row:
    """Pieces of text side by side, never wider than its width."""

    def __init__(self, width: int, dots: str = "…") -> None:
        self.width, self.cells = width, 0
        self.pieces: list[tuple[str, str]] = []
        self._dots = dots

    def add(self, text: str, style: str = "", width: int | None = None, *, right: bool = False) -> Row:
        """`width`: exactly so many cells; else as many as it takes and there are."""
        room = self.width - self.cells
        size = room if width is None else min(width, room)
        fitted = cut(text, size, self._dots)
        blank = " " * (size - cell_len(fitted)) if width is not None else ""
        self.pieces += [(blank, ""), (fitted, style)] if right else [(fitted, style), (blank, "")]
        self.cells += cell_len(fitted) + len(blank)
        return self

    @property
    def room(self) -> int:
        return self.width - self.cells

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)


def cut(text: str, width: int, dots: str = "…") -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - len(dots))).rstrip() + dots if width > len(dots) else "." * max(0, width)


class _Drawn(NamedTuple):
    text: str
    cells: int


class Screen:
    def __init__(self, outlet: Outlet, size: Size, paint: Paint) -> None:
        self._outlet, self._size, self._paint = outlet, size, paint
        self._above: deque[str] = deque()
        self._skipped = 0
        self._drawn: list[_Drawn] = []
        self._width = 0

    @property
    def size(self) -> tuple[int, int]:
        return self._size()

    def line(self, text: str) -> None:
        """To stay, above the rows; shown with the next drawing."""
        if len(self._above) >= MOST_LINES:
            self._above.popleft()
            self._skipped += 1
        self._above.append(text)

    @property
    def has_lines(self) -> bool:
        return bool(self._above)

    def draw(self, rows: Sequence[Row]) -> None:
        """In one piece, or not at all: a terminal that has not read the last drawing gets a newer one later."""
        self._outlet.flush()
        width, height = self._size()
        drawn = [_Drawn(self._painted(row), cell_len(row.text.rstrip())) for row in rows[: max(1, height - 1)]]
        if not self._outlet.is_clear or (not self._above and drawn == self._drawn and width == self._width):
            return
        body = "".join(f"{row.text}{_REST_OF_LINE}\r\n" for row in drawn)
        self._outlet.put(f"{_TOGETHER}{self._back(width)}{self._lines(width)}{body}{_REST_OF_SCREEN}{_SHOW}")
        self._drawn, self._width = drawn, width

    def close(self) -> None:
        """The rows go, the lines stay; nothing is dropped."""
        width, _ = self._size()
        if self._drawn or self._above:
            self._outlet.put(f"{self._back(width)}{_REST_OF_SCREEN if self._drawn else ''}{self._lines(width)}")
        self._drawn = []

    def forget(self) -> None:
        """Others have written on the terminal: what was drawn is theirs to scroll away."""
        self._drawn, self._width = [], 0

    def _painted(self, row: Row) -> str:
        return "".join(self._paint(text, style) for text, style in row.pieces).rstrip(" ")

    def _back(self, width: int) -> str:
        """To where the rows begin. A terminal that became narrower has broken the longer ones in two."""
        if not self._drawn:
            return "\r"
        lines = sum(max(1, -(-row.cells // width)) for row in self._drawn) if width < self._width else len(self._drawn)
        return f"\r\x1b[{lines}A"

    def _lines(self, width: int) -> str:
        lines = list(self._above)
        if self._skipped:
            lines.insert(0, f"({self._skipped} lines were not shown: nobody read them)")
        self._above.clear()
        self._skipped = 0
        painted = [self._paint.line(line) for line in lines]
        if all(cell_len(line) < width for line in lines):
            return "".join(f"{line}{_REST_OF_LINE}\r\n" for line in painted)
        # Erasing behind a line that fills the width exactly would take its last letter: erase before.
        return _REST_OF_SCREEN + "".join(f"{line}\r\n" for line in painted)


def size_of(fd: int) -> tuple[int, int]:
    """Columns and lines; a terminal that does not know says 0."""
    try:
        columns, lines = os.get_terminal_size(fd)
    except OSError:
        return 80, 24
    return columns or 80, lines or 24
