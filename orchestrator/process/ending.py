"""Ends of processes by the dozen: ask, insist, reap, and the last resort when all supervisors were killed at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from orchestrator import clock
from orchestrator.core.names import Identity
from orchestrator.process.alive import boot, host
from orchestrator.process.table import Entry, below, children_of, describe, entry_of, environment_of, newest_pid, scan

STORM_SECONDS = 0.03  # how long one assault may keep its caller from other work
_NEAR, _QUIET, _MOST_NAMES = 24, 10, 20


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
            if entry is not None and not entry.is_over and is_prey(entry):
                killed.append(describe(pid))
                insist([pid])
                quiet = 0
        last = newest
    return killed


def end_strays(keep: Collection[int], patience: float = 5.0) -> list[str]:
    """End our children that are not in `keep`, and all below them: what came to us because its supervisor died."""
    me, names, until = os.getpid(), dict[str, None](), clock.ticking() + patience
    while clock.ticking() < until:
        strays = [pid for pid in children_of(me) if pid not in keep]
        names.update(dict.fromkeys(map(describe, strays)))
        insist([*strays, *(entry.pid for entry in below(strays, scan()))])
        met = chase(lambda entry: entry.parent == me and entry.pid not in keep, STORM_SECONDS)
        names.update(dict.fromkeys(met))
        for pid in strays:
            _reap_one(pid)
        if not strays and not met:
            break
    return list(names)[:_MOST_NAMES]


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
    project: str | Path,
    agents: Collection[str],
    attempts: Collection[Identity] = (),
    grace: float = 1.0,
    patience: float = 5.0,
) -> list[str]:
    """End what `find_tagged` finds, and what that started; returns their names."""

    def is_prey(entry: Entry) -> bool:
        return entry.pid != os.getpid() and _is_tagged(entry.pid, str(project), agents)

    left = find_tagged(project, agents, attempts)
    names = dict.fromkeys(describe(who.pid) for who in left)
    ask(who.pid for who in left)
    until = clock.ticking() + grace
    while left and clock.ticking() < until:
        clock.pause(0.02)
        left = find_tagged(project, agents, attempts)
    until = clock.ticking() + patience
    while clock.ticking() < until:
        pids = [who.pid for who in left]
        insist([*pids, *(entry.pid for entry in below(pids, scan()))])
        met = chase(is_prey, STORM_SECONDS) if agents else []
        names.update(dict.fromkeys(met))
        left = find_tagged(project, agents, attempts)
        if not left and not met:
            break
    return list(names)[:_MOST_NAMES]
