"""Ends of processes by the dozen: ask, insist, reap, and the last resort when all supervisors were killed at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from orchestrator import clock
from orchestrator.core.names import Identity
from orchestrator.process.alive import boot, host
from orchestrator.process.table import Entry, below, describe, entry_of, environment_of, is_thread, newest_pid, scan

STORM_SECONDS = 0.03  # how long one assault may keep its caller from other work
_NEAR, _QUIET, _MOST_NAMES = 24, 10, 20


def ask(found: Iterable[Entry]) -> None:
    """SIGTERM to each, and SIGCONT, because a stopped process hears nothing."""
    for entry in found:
        if _still(entry) is not None:
            _kill(entry.pid, signal.SIGTERM)
            _kill(entry.pid, signal.SIGCONT)


def insist(found: Sequence[Entry], table: Mapping[int, Entry], groups: Collection[int] = ()) -> None:
    """SIGKILL to each that is still who it was in `table`, below a parent that was still who it was, too.

    In a storm of forks a pid is used again within seconds, and a listing takes its time: without that look, right
    before the signal, a stranger would be hit. Parents come before their children, so that none goes on to its next
    step. `groups`: whose members are killed in one go, so that none can fork meanwhile.
    """
    hit: set[int] = set()
    for entry in found:
        now, parent = _still(entry), table.get(entry.parent)
        if now is None or not (parent is None or entry.parent in hit or _still(parent) is not None):
            continue
        if now.group in groups and now.group > 1 and now.group != os.getpgrp():
            _kill(-now.group, signal.SIGKILL)
        _kill(entry.pid, signal.SIGKILL)
        hit.add(entry.pid)


def _still(entry: Entry) -> Entry | None:
    now = entry_of(entry.pid)
    return now if now is not None and now.ticks == entry.ticks else None


def _kill(pid: int, number: int) -> None:
    if abs(pid) <= 1 or pid == os.getpid():
        return
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_group(pid: int) -> None:
    """SIGKILL to the process group that our child `pid` leads, then reap the child."""
    _kill(-pid, signal.SIGKILL)  # it is ours, and not reaped: neither number can be anybody else's
    _kill(pid, signal.SIGKILL)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def chase(is_prey: Callable[[Entry], bool], seconds: float) -> list[str]:
    """Kill whoever of the newest processes is prey, for a while; returns their names.

    Who forks and dies faster than /proc can be listed is never in a list: it is met where the pids are handed out.
    """
    killed: list[str] = []
    until, quiet = clock.ticking() + seconds, 0
    last = newest_pid() - _NEAR
    while quiet < _QUIET and clock.ticking() < until:
        newest = newest_pid()
        if newest == last:
            quiet += 1
            continue
        first = max(last + 1, newest - _NEAR) if newest > last else newest
        for pid in range(newest, first - 1, -1):
            entry = entry_of(pid)
            if entry is not None and not entry.is_over and is_prey(entry) and not is_thread(pid):
                killed.append(describe(pid))
                insist([entry], {})
                quiet = 0
        last = newest
    return killed


def end_strays(keep: Collection[int], patience: float = 5.0) -> list[str]:
    """End our children that are not in `keep`, and all below them: what came to us because its supervisor died."""
    me, names, until = os.getpid(), dict[str, str](), clock.ticking() + patience
    while clock.ticking() < until:
        table = scan()
        strays = [one for one in table.values() if one.parent == me and not one.is_over and one.pid not in keep]
        known = [describe(one.pid) for one in strays]
        insist([*strays, *below([one.pid for one in strays], table)], table)
        met = chase(lambda entry: entry.parent == me and entry.pid not in keep, STORM_SECONDS)
        _note(names, (*known, *met))
        for one in strays:
            _reap_one(one.pid)
        if not strays and not met:
            break
    return list(names.values())[:_MOST_NAMES]


def _note(names: dict[str, str], described: Iterable[str]) -> None:
    """By pid: one that is dying has a shorter name, and may be met once more."""
    for name in described:
        names.setdefault(name.partition(" ")[0], name)


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
    place, here = boot(), host()
    return [Identity(one.pid, one.ticks, place, here) for one in _tagged(scan(), str(project), agents, attempts)]


def _tagged(
    table: Mapping[int, Entry], project: str, agents: Collection[str], attempts: Collection[Identity]
) -> list[Entry]:
    ticks, own = {who.pid: who.ticks for who in attempts}, os.getpid()
    return [
        entry
        for entry in table.values()
        if not entry.is_over
        and entry.pid != own
        and (_is_in_session(entry, ticks, table) or _is_tagged(entry.pid, project, agents))
    ]


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
    project: str | Path,
    agents: Collection[str],
    attempts: Collection[Identity] = (),
    grace: float = 1.0,
    patience: float = 5.0,
) -> list[str]:
    """End what `find_tagged` finds, and what that started; returns their names."""

    def is_prey(entry: Entry) -> bool:
        return entry.pid != os.getpid() and _is_tagged(entry.pid, str(project), agents)

    def left() -> tuple[list[Entry], dict[int, Entry]]:
        table = scan()
        return _tagged(table, str(project), agents, attempts), table

    found, table = left()
    names = dict[str, str]()
    _note(names, map(describe, [one.pid for one in found]))
    ask(found)
    until = clock.ticking() + grace
    while found and clock.ticking() < until:
        clock.pause(0.02)
        found, table = left()
    until = clock.ticking() + patience
    while clock.ticking() < until:
        insist([*found, *below([one.pid for one in found], table)], table)
        met = chase(is_prey, STORM_SECONDS) if agents else []
        _note(names, met)
        found, table = left()
        if not found and not met:
            break
    return list(names.values())[:_MOST_NAMES]
