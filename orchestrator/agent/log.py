"""What attempts print: a log file of bounded size, the last lines, and progress found on the way."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path

from orchestrator import disk

LINE_WIDTH, TAIL_LINES = 500, 20
_LONGEST_LINE = 4096  # of a line that is not over yet, this much is kept
_PROGRESS = re.compile(rb"::progress\s+(\d+(?:\.\d+)?)(?:\s*/\s*(\d+(?:\.\d+)?))?(?:\s+(.*))?\s*")


class BoundedLog:
    """Holds the last of what was written: at half of `most` bytes it becomes `<name>.1`, and a new one begins.

    A disk that is full costs lines, never the attempt: what could not be written is counted. Others may move it, cut it
    or remove it at any time: the next line is under its name again.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self._half = max(most // 2, 1024)
        self._dropped = 0
        self._fd = -1
        self._size = self._written = 0  # with what could not be written, and without
        self._open(os.O_TRUNC)

    def write(self, data: bytes) -> None:
        self._look()
        while data:
            room = self._half - self._size
            if room <= 0:
                self._turn()
                room = self._half - self._size
            part, data = data[:room], data[room:]
            self._size += len(part)
            try:
                disk.write_all(self._fd, part)
                self._written += len(part)
            except OSError:
                self._dropped += len(part)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> None:
        """Is it still the file that has its name?"""
        if self._fd < 0:
            return
        try:
            mine, named = os.fstat(self._fd), os.stat(self.path)
            is_mine = (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)
        except OSError:
            is_mine = False
        if is_mine and mine.st_size < self._written:
            self._size = self._written = mine.st_size
        elif not is_mine:
            self.close()
            self._open()

    def _open(self, how: int = 0) -> None:
        how |= os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe may stand there
        try:
            disk.make_folder(self.path.parent, durable=False)
            self._fd = os.open(self.path, how, disk.PRIVATE_FILE)
            self._size = self._written = os.fstat(self._fd).st_size
        except OSError:  # from here on every write fails, and is counted
            self._fd, self._size = -1, 0

    def _turn(self) -> None:
        old = self.path.with_name(self.path.name + ".1")
        try:
            self._dropped += old.stat().st_size
        except OSError:
            pass
        self.close()
        try:
            os.rename(self.path, old)
        except OSError:
            self._dropped += self._size
        self._open(os.O_TRUNC)
        line = f"[orch: {self._dropped} bytes before this were dropped; the latest of them are in {old.name}]\n"
        if not self._dropped:
            line = f"[orch: continues {old.name}]\n"
        self._size = len(line)
        try:
            disk.write_all(self._fd, line.encode())
        except OSError:
            pass


class Lines:
    """The last lines of a stream of bytes, and its `::progress` lines; memory does not grow with the stream."""

    def __init__(self, on_progress: Callable[[float, float | None, str], None]) -> None:
        self._on_progress = on_progress
        self._last: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._rest = b""

    def feed(self, data: bytes) -> None:
        data = self._rest + data
        if b"::progress" in data:
            self._find_progress(data)
        *ended, rest = data.rsplit(b"\n", TAIL_LINES + 1)
        if len(ended) > TAIL_LINES:
            del ended[0]  # everything before
        self._last.extend(line[:_LONGEST_LINE] if b"\r" not in line else line[-_LONGEST_LINE:] for line in ended)
        self._rest = _current(rest)[:_LONGEST_LINE]

    def tail(self) -> tuple[str, ...]:
        lines = [_shown(line) for line in (*self._last, self._rest)]
        if not lines[-1]:  # the line that has not begun yet
            del lines[-1]
        return tuple(lines[-TAIL_LINES:])

    def last(self) -> str:
        """The last line that is not empty."""
        return next((line for line in reversed(self.tail()) if line.strip()), "")

    def _find_progress(self, data: bytes) -> None:
        begin = data.find(b"::progress")
        while begin >= 0 and (end := data.find(b"\n", begin)) >= 0:
            at_line_start = begin == 0 or data[begin - 1 : begin] in (b"\n", b"\r")
            if at_line_start and (match := _PROGRESS.fullmatch(data[begin:end])):
                done, total, text = match.groups()
                self._on_progress(float(done), None if total is None else float(total), _shown(text or b""))
            begin = data.find(b"::progress", end)


def _current(line: bytes) -> bytes:
    """What a terminal would show of it: a carriage return begins the line anew, except at its end."""
    head = line.rstrip(b"\r")
    return head.rpartition(b"\r")[2] + line[len(head) :]


def _shown(line: bytes) -> str:
    return _current(line).rstrip(b"\r").decode(errors="replace")[:LINE_WIDTH]


def forget_old(folder: Path, keep: int) -> None:
    """Remove the logs of all but the last `keep` attempts of one phase."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    numbers = sorted({int(name.partition(".")[0]) for name in names if name.partition(".")[0].isdigit()})
    old = {str(number) for number in numbers[: max(0, len(numbers) - keep)]}
    for name in names:
        if name.partition(".")[0] in old:
            try:
                os.unlink(folder / name)
            except OSError:
                pass
