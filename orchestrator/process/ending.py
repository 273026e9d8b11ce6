"""Ends of processes by the dozen: ask, insist, reap, and the last resort when all supervisors were killed at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from orchestrator import clock
from orchestrator.core.names import Identity
from orchestrator.process.alive import boot, host
from orchestrator.process.table import Entry, below, children_of, describe, environment_of, scan


def ask(pids: Iterable[int]) -> None:
    """SIGTERM to each, and SIGCONT, because a stopped process hears nothing."""
    for pid in pids:
        _kill(pid, signal.SIGTERM)
        _kill(pid, signal.SIGCONT)


def insist(pids: Iterable[int], groups: Iterable[int] = ()) -> None:
    """SIGKILL. Groups first: a group is killed in one go, so that no member can fork meanwhile."""
    for group in groups:
        if group > 1 and group != os.getpgrp():
            _kill(-group, signal.SIGKILL)
    for pid in pids:
        _kill(pid, signal.SIGKILL)


def _kill(pid: int, number: int) -> None:
    if abs(pid) <= 1 or pid == os.getpid():
        return
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_group(pid: int) -> None:
    """SIGKILL to the process group that our child `pid` leads, then reap the child."""
    insist([pid], [pid])
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def end_strays(keep: Collection[int], patience: float = 5.0) -> list[str]:
    """End our children that are not in `keep`, and all below them: what came to us because its supervisor died."""
    names: list[str] = []
    until = clock.ticking() + patience
    while (strays := [pid for pid in children_of(os.getpid()) if pid not in keep]) and clock.ticking() < until:
        names += [name for name in map(describe, strays) if name not in names]
        insist([*strays, *(entry.pid for entry in below(strays, scan()))])
        clock.pause(0.002)
        for pid in strays:
            _reap_one(pid)
    return names


def _reap_one(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def reap() -> list[tuple[int, int]]:
    """(pid, wait status) of every child that has ended; never waits."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))


def find_tagged(project: str | Path, agents: Collection[str], attempts: Collection[Identity] = ()) -> list[Identity]:
    """What dead `agents` of `project` left behind: known by its environment, or by the session of an attempt.

    Needed only where agent and orchestrator were killed at once and took neither tree nor deadline with them.
    """
    place, ticks, table, own = boot(), {who.pid: who.ticks for who in attempts}, scan(), os.getpid()
    found = []
    for entry in table.values():
        if entry.is_over or entry.pid == own:
            continue
        if _is_in_session(entry, ticks, table) or _is_tagged(entry.pid, str(project), agents):
            found.append(Identity(entry.pid, entry.ticks, place, host()))
    return found


def _is_in_session(entry: Entry, ticks: Mapping[int, int], table: Mapping[int, Entry]) -> bool:
    began = ticks.get(entry.session)
    if began is None or entry.ticks < began:
        return False
    leader = table.get(entry.session)
    return leader is None or leader.ticks == began


def _is_tagged(pid: int, project: str, agents: Collection[str]) -> bool:
    environ = environment_of(pid) if agents else {}
    return environ.get("ORCH_PROJECT") == project and environ.get("ORCH_AGENT") in agents


def end_orphans(
    project: str | Path, agents: Collection[str], attempts: Collection[Identity] = (), grace: float = 1.0
) -> list[str]:
    """End what `find_tagged` finds, and what that started; returns their names."""
    first = find_tagged(project, agents, attempts)
    names = [describe(who.pid) for who in first]
    ask(who.pid for who in first)
    until = clock.ticking() + grace
    while (left := find_tagged(project, agents, attempts)) and clock.ticking() < until:
        clock.pause(0.02)
    until = clock.ticking() + 5.0
    while left and clock.ticking() < until:
        pids = [who.pid for who in left]
        insist([*pids, *(entry.pid for entry in below(pids, scan()))])
        clock.pause(0.005)
        left = find_tagged(project, agents, attempts)
    return names
