"""A terminal just large enough to see what orch draws on one: whatever it does not know is a failure of the test."""

from __future__ import annotations

import re
import unicodedata

_SEQUENCE = re.compile(r"\x1b\[(\??)(\d*(?:;\d+)*)([A-Za-z])")
_TOGETHER = "2026"


class Emulator:
    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.columns, self.lines = columns, lines
        self._rows: list[list[str]] = [[]]
        self._broken: set[int] = set()  # rows that go on in the next
        self.x = self.y = 0
        self.frames = 0
        self._rest = b""

    @property
    def shown(self) -> list[str]:
        """What is on it, with what has scrolled away."""
        rows = ["".join(row).rstrip() for row in self._rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def screen(self) -> list[str]:
        return self.shown[self._top :]

    def feed(self, data: bytes) -> Emulator:
        data = self._rest + data
        cut = data.rfind(b"\x1b") if b"\x1b" in data[-12:] else -1
        if cut >= 0 and not _SEQUENCE.match(data[cut:].decode("utf-8", "ignore")):
            data, self._rest = data[:cut], data[cut:]
        else:
            self._rest = b""
        text = data.decode("utf-8")
        place = 0
        while place < len(text):
            if text[place] == "\x1b":
                found = _SEQUENCE.match(text, place)
                assert found, f"an unknown sequence: {text[place : place + 20]!r}"
                self._obey(*found.groups())
                place = found.end()
            else:
                self._write(text[place])
                place += 1
        return self

    def resize(self, columns: int, lines: int) -> None:
        """As most terminals do it: lines that no longer fit are broken, those that were broken are joined."""
        whole: list[list[str]] = []
        joined = False
        for number, row in enumerate(self._rows):
            whole = [*whole[:-1], whole[-1] + row] if joined else [*whole, row]
            joined = number in self._broken
        self.columns, self.lines = columns, lines
        self._rows, self._broken = [], set()
        for row in whole:
            self._rows.append([])
            for cell in row:
                if sum(map(_width, self._rows[-1])) + _width(cell) > columns:
                    self._broken.add(len(self._rows) - 1)
                    self._rows.append([])
                self._rows[-1].append(cell)
        self.x, self.y = 0, len(self._rows) - 1

    @property
    def _top(self) -> int:
        return max(0, len(self._rows) - self.lines)

    def _write(self, char: str) -> None:
        if char == "\r":
            self.x = 0
        elif char == "\n":
            self._down()
        elif char == "^" or char.isprintable():
            self._put(char)
        else:
            raise AssertionError(f"an unknown control character: {char!r}")

    def _down(self) -> None:
        self.y += 1
        if self.y == len(self._rows):
            self._rows.append([])

    def _put(self, char: str) -> None:
        width = _width(char)
        if self.x + width > self.columns:
            self._broken.add(self.y)
            self.x = 0
            self._down()
        row = self._rows[self.y]
        row += [" "] * (self.x - len(row))
        row[self.x : self.x + width] = [char, ""][:width]
        self.x += width

    def _obey(self, private: str, numbers: str, letter: str) -> None:
        if letter == "m":
            return
        if private:
            assert numbers == _TOGETHER, f"an unknown mode: {numbers}"
            self.frames += letter == "h"
        elif letter == "A":
            self.y = max(self._top, self.y - int(numbers or 1))
        elif letter == "K" and not numbers:
            del self._rows[self.y][min(self.x, self.columns - 1) :]
            self._broken.discard(self.y)
        elif letter == "J" and not numbers:
            del self._rows[self.y][self.x :]
            del self._rows[self.y + 1 :]
            self._broken = {number for number in self._broken if number < self.y}
        else:
            raise AssertionError(f"an unknown sequence: {private}{numbers}{letter}")


def _width(char: str) -> int:
    return 2 if char and unicodedata.east_asian_width(char) in "WF" else 1 if char else 0
