"""The process table as /proc shows it: who is whose child, in which state, with which name."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import NamedTuple

from orchestrator import clock

_BUFFER = 4096
_WINDOW = 500


class Entry(NamedTuple):
    """One line of the process table."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    ticks: int

    @property
    def is_over(self) -> bool:
        return self.state in "ZXx"


def entry_of(pid: int) -> Entry | None:
    """None once the pid is gone. The name in field 2 may hold blanks and brackets: fields count from the last ')'."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fields = os.read(fd, _BUFFER).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(fields) < 20:
        return None
    ticks = int(fields[19]) - _shift()
    return Entry(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0].decode(), ticks)


def is_thread(pid: int) -> bool:
    """Threads have numbers among the pids, and /proc shows them as their process: a signal to one hits that."""
    found = re.search(rb"^Tgid:\s*(\d+)$", read(f"/proc/{pid}/status"), re.M)
    return found is not None and int(found[1]) != pid


@cache
def _shift() -> int:
    """A time namespace moves the start ticks that are shown in it; here they are what they are for everybody."""
    return round(clock.shift("boottime") * os.sysconf("SC_CLK_TCK"))


def scan() -> dict[int, Entry]:
    found = (entry_of(int(name)) for name in os.listdir("/proc") if name[0] in "123456789")
    return {entry.pid: entry for entry in found if entry is not None}


def scan_from(oldest: int) -> dict[int, Entry]:
    """Who was born since the pid `oldest` was handed out: little to read as long as that was a short while ago."""
    newest = newest_pid()
    if not oldest <= newest <= oldest + _WINDOW:
        return scan()  # the pids have begun anew, or it is no less work
    return {pid: entry for pid in range(oldest, newest + 1) if (entry := entry_of(pid)) is not None}


def below(roots: Collection[int], table: Mapping[int, Entry]) -> list[Entry]:
    """The living descendants of `roots`, without the roots themselves."""
    children: dict[int, list[Entry]] = {}
    for entry in table.values():
        children.setdefault(entry.parent, []).append(entry)
    found: list[Entry] = []
    seen = set(roots)
    waiting = list(roots)
    while waiting:
        for entry in children.get(waiting.pop(), ()):
            if entry.pid not in seen:
                seen.add(entry.pid)
                waiting.append(entry.pid)
                found.append(entry)
    return [entry for entry in found if not entry.is_over]


def descendants(pid: int) -> list[int]:
    return [entry.pid for entry in below([pid], scan())]


def children_of(pid: int) -> list[int]:
    return [entry.pid for entry in scan().values() if entry.parent == pid and not entry.is_over]


def groups_of(pids: Iterable[int]) -> set[int]:
    return {entry.group for entry in map(entry_of, pids) if entry is not None}


def is_running(names: Collection[str]) -> bool:
    """Is there a process whose program has one of these names?"""
    found = (read(f"/proc/{pid}/comm") for pid in os.listdir("/proc") if pid[0] in "123456789")
    return any(name.strip().decode(errors="replace") in names for name in found)


def newest_pid() -> int:
    """The pid that the kernel handed out last."""
    return int(read("/proc/loadavg").rpartition(b" ")[2] or 0)


def describe(pid: int, width: int = 120) -> str:
    """The pid and its command line, cut: for messages."""
    words = read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").strip() or read(f"/proc/{pid}/comm").strip()
    text = "".join(char if char.isprintable() else "?" for char in words.decode(errors="replace"))
    return f"{pid} {text}"[:width].strip()


def environment_of(pid: int) -> dict[str, str]:
    """What it was started with (changes made by the program itself do not show); empty where it may not be read."""
    pairs = (item.partition(b"=") for item in read(f"/proc/{pid}/environ").split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, mark, value in pairs if mark}


def read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
