"""Refreshes `orch status --watch` on a terminal, many times in one process, and prints what it held before and after.

python -m tests.perf.refreshing PROJECT TIMES
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import struct
import sys
import termios
import threading
from functools import partial
from pathlib import Path
from typing import NamedTuple

import typer
from rich.cells import cached_cell_len

from orchestrator.cli import watching
from orchestrator.cli.showing import status_lines
from orchestrator.look import Look

WARM = 100  # refreshes after which whatever is kept once is there


class Held(NamedTuple):
    blocks: int  # of memory that Python has given out
    objects: int
    resident_kib: int
    descriptors: int
    threads: int


class Refreshing:
    """The words of the status, counting how often they were asked for; enough is told as Ctrl-C would."""

    def __init__(self, times: int) -> None:
        self._times, self._count = times, 0
        self.held: list[Held] = []
        self._screen, self._terminal = os.openpty()
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        os.set_blocking(self._screen, False)
        self._words = partial(status_lines, everything=False)

    def __enter__(self) -> Refreshing:
        self._stdout = os.dup(1)
        os.dup2(self._terminal, 1)
        return self

    def __exit__(self, *_: object) -> None:
        os.dup2(self._stdout, 1)

    def words(self, look: Look, *, columns: int = 0, room: int = 0) -> list[str]:
        self._count += 1
        self._read()
        if self._count in (WARM, WARM + self._times):
            self.held.append(held())
        if self._count == WARM + self._times:
            raise KeyboardInterrupt
        return self._words(look, columns=columns, room=room)

    def _read(self) -> None:
        try:
            while os.read(self._screen, 65536):
                pass
        except BlockingIOError:
            return


def held() -> Held:
    cached_cell_len.cache_clear()  # rich keeps the widths of the last 4,096 texts, and those with a time in them differ
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    descriptors = len(os.listdir("/proc/self/fd"))
    return Held(sys.getallocatedblocks(), len(gc.get_objects()), resident, descriptors, threading.active_count())


def main() -> None:
    watching.EVERY = 0.0
    os.environ["TERM"] = "xterm"
    with Refreshing(int(sys.argv[2])) as refreshing:
        try:
            watching.watch(Path(sys.argv[1]), refreshing.words)
        except typer.Exit:
            pass
    print(json.dumps([each._asdict() for each in refreshing.held]))


if __name__ == "__main__":
    main()
