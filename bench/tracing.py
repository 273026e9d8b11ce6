"""What strace counts of a run: system calls, syncs, bytes and processes, for each part of orch, and for each phase.

Counts do not depend on how fast a machine is. Only what lies between the end of the first attempt and that of the last
is counted: starting and ending orch, which cost the same for any number of phases, are left out.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs")
WRITES = ("write", "pwrite64", "writev", "pwritev")
ORCHESTRATOR, HANDS, WORK = "orchestrator", "agent and what it keeps ready", "attempts"
_LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(\(| resumed>)(.*)")
_RESULT = re.compile(r" = (\d+)")


class Call(NamedTuple):
    pid: int
    name: str
    arguments: str  # of one that was interrupted in the record, only the first part
    result: int


class Counted(NamedTuple):
    phases: int  # that began in what is counted
    calls: Mapping[str, Counter[str]]  # for each part
    processes: int
    written: Mapping[str, int]  # bytes into files

    def per_phase(self, part: str, *names: str) -> float:
        """Of these calls, or of all."""
        calls = self.calls[part]
        return sum(calls[name] for name in names or calls) / self.phases

    @property
    def syncs(self) -> float:
        return sum(self.per_phase(part, *SYNCS) for part in self.calls)

    @property
    def bytes_written(self) -> float:
        return sum(self.written.values()) / self.phases


class CannotTrace(Exception):
    """There is no strace here, or it is not allowed to trace."""


def counted(argv: Sequence[str], folder: Path, environ: Mapping[str, str], record: Path, phases: int) -> Counted:
    """The attempts of so many phases are processes of a program of their own, each of which ends by itself."""
    _traced(argv, folder, environ, record, ("-y", "-s", "200"))
    return between(list(_calls(record.read_text("utf-8", errors="replace"))), phases)


def syncs(argv: Sequence[str], folder: Path, environ: Mapping[str, str], record: Path) -> int:
    """Of the whole run, all processes; what is not a sync runs at nearly its own speed."""
    _traced(argv, folder, environ, record, ("--seccomp-bpf", "-e", f"trace={','.join(SYNCS)}"))
    return sum(call.name in SYNCS for call in _calls(record.read_text("utf-8", errors="replace")))


def tracing(record: Path, *how: str) -> list[str]:
    if shutil.which("strace") is None:
        raise CannotTrace("there is no strace on this machine")
    return ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(record), *how]


def _traced(argv: Sequence[str], folder: Path, environ: Mapping[str, str], record: Path, how: Sequence[str]) -> None:
    ended = subprocess.run(
        [*tracing(record, *how), *argv], cwd=folder, env=dict(environ), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if "PTRACE" in ended.stderr or "ptrace" in ended.stderr:
        raise CannotTrace(f"strace may not trace here: {ended.stderr.splitlines()[0]}")
    if ended.returncode:
        raise RuntimeError(f"{argv[0]} ended with {ended.returncode}: {ended.stderr}")


def _calls(record: str) -> Iterator[Call]:
    """Each call where it was begun; where its end is told later, its result is filled in from there."""
    begun: dict[int, str] = {}
    for line in record.splitlines():
        if (found := _LINE.match(line)) is None:
            continue
        pid, name, how, rest = int(found[1]), found[2], found[3], found[4]
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest
            continue
        arguments = begun.pop(pid, "") if how != "(" else rest
        results = _RESULT.findall(rest)
        yield Call(pid, name, arguments, int(results[-1]) if results else -1)


def between(calls: Sequence[Call], phases: int) -> Counted:
    parts = _parts(calls)
    ends = [at for at, call in enumerate(calls) if call.name in ("exit_group", "exit") and parts.get(call.pid) == WORK]
    window = calls[ends[0] + 1 : ends[-1] + 1]
    counts: dict[str, Counter[str]] = {part: Counter() for part in (ORCHESTRATOR, HANDS, WORK)}
    written = dict.fromkeys(counts, 0)
    for call in window:
        part = parts.get(call.pid, HANDS)
        counts[part][call.name] += 1
        if call.name in WRITES and call.result > 0 and re.match(r"\d+</", call.arguments):
            written[part] += call.result
    begun = {call.result for call in window if call.name in ("clone", "clone3", "fork", "vfork") and call.result > 0}
    return Counted(phases - 1, counts, len(begun), written)


def _parts(calls: Sequence[Call]) -> dict[int, str]:
    """By the last program that a process became: whatever is not orch's own is an attempt."""
    parts = {calls[0].pid: ORCHESTRATOR}
    for call in calls:
        if call.name == "execve" and call.result == 0 and call.pid != calls[0].pid:
            parts[call.pid] = HANDS if "orchestrator" in call.arguments else WORK
    return parts
