"""Makes docs/run.svg, the picture in the README: runs a real pipeline in a terminal and draws what that showed.

python docs/picture.py [TEMPLATE]     (qualify, the shipped pipeline, takes a minute or two; agents a second)
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import tempfile
import termios
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 104, 13
_AT_WORK = re.compile(r"\d[smh] of \d+[smh]")
_PIECE = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")
_FONTS = re.compile(r"@font-face \{\{.*?\}\}\s*", re.S)  # they would come from the network


class Terminal:
    """As much of one as orch uses: lines, carriage return, cursor up, erase, colours."""

    def __init__(self) -> None:
        self.lines: list[list[tuple[str, str]]] = [[]]  # of each cell its colours and its letter
        self.row, self.column, self.colours = 0, 0, ""

    def feed(self, text: str) -> None:
        for numbers, command, control, letters in _PIECE.findall(text):
            if command:
                self._command(numbers, command)
            elif control:
                self._move(control)
            else:
                self._write(letters)

    def _command(self, numbers: str, command: str) -> None:
        if command == "A":
            self.row = max(0, self.row - int(numbers or 1))
        elif command in "KJ":
            del self.lines[self.row][self.column :]
            if command == "J":
                del self.lines[self.row + 1 :]
        elif command == "m":
            self.colours = "" if numbers in ("", "0") else f"{self.colours}\x1b[{numbers}m"

    def _move(self, control: str) -> None:
        self.column = 0
        if control == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append([])

    def _write(self, letters: str) -> None:
        line = self.lines[self.row]
        line += [("", " ")] * (self.column - len(line))
        line[self.column : self.column + len(letters)] = [(self.colours, letter) for letter in letters]
        self.column += len(letters)

    def shown(self) -> list[str]:
        lines = [_text(line) for line in self.lines]
        while lines and not lines[-1].strip():
            lines.pop()
        return lines[-HEIGHT + 1 :]


def _text(cells: list[tuple[str, str]]) -> str:
    runs = [(colours, "".join(letter for _, letter in run)) for colours, run in groupby(cells, key=itemgetter(0))]
    return "".join(f"{colours}{text}\x1b[0m" if colours else text for colours, text in runs)


def orch(*words: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator.cli", *words]


def frames(folder: Path, *words: str) -> list[list[str]]:
    """All that the terminal showed, picture after picture."""
    pid, end = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        os.chdir(folder)
        argv = orch(*words)
        os.execve(argv[0], argv, {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"})
    terminal, found = Terminal(), [["$ orch " + " ".join(words)]]
    terminal.feed(found[0][0] + "\r\n")
    pending = b""
    while data := _read(end):
        *whole, pending = re.split(rb"(?<=\x1b\[\?2026l)|(?<=\n)(?!.*\x1b\[\?2026h)", pending + data)
        for piece in whole:
            terminal.feed(piece.decode())
            found.append(terminal.shown())
    terminal.feed(pending.decode())
    os.waitpid(pid, 0)
    return [*found, terminal.shown()]


def _read(end: int) -> bytes:
    try:
        return os.read(end, 65536)
    except OSError:  # Linux says so when nobody has the terminal open any more
        return b""


def drawn(lines: list[str]) -> str:
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop")
    return console.export_svg(title="orch run", unique_id="orch", code_format=_FONTS.sub("", CONSOLE_SVG_FORMAT))


def main() -> None:
    template = sys.argv[1] if len(sys.argv) > 1 else "qualify"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project"
        made = os.spawnve(os.P_WAIT, sys.executable, orch("init", str(folder), "--template", template),
                          {**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        assert made == 0, f"orch init ended with {made}"
        shown = frames(folder, "run")
    path, later = ROOT / "docs" / "run.svg", range(len(shown) // 2, len(shown))
    best = max(later, key=lambda place: (at_work(shown[place]), place))
    path.write_text(drawn(shown[best]), "utf-8")
    print(f"{path}: picture {best} of {len(shown)}")


def at_work(lines: list[str]) -> int:
    """How many phases a picture shows running; the last in the second half that shows most is drawn."""
    return sum(bool(_AT_WORK.search(Text.from_ansi(line).plain)) for line in lines)


if __name__ == "__main__":
    main()
