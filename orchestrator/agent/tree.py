"""The end of whole trees: ask, wait, insist, and look again until nothing is left, also against what keeps forking.

The agent is subreaper. As long as the root of a tree lives, all that it started is below it; afterwards that is below
the agent, as children that nobody knows. A listing of /proc is not one moment: a process can be gone before its line is
read, and the child that it forked be too young for the list. But then the dead one reaches the agent, which reaps it: a
tree is over only when a look finds nobody and no unknown child ended meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping

from orchestrator import clock, process
from orchestrator.agent.loop import Loop, Steps
from orchestrator.process import Entry
from orchestrator.process.groups import Group

_LOOKS = 2
_DEPTH = 64
_MOST_NAMES = 10
_WHOLE = 4096  # of a command line: what is secret in it is hidden before it is cut
_SETTLE_SECONDS = (0.01, 0.03, 0.06)


class Census:
    """Whom the agent knows among its children, and who ended that it did not know."""

    def __init__(self, loop: Loop) -> None:
        self.roots: dict[int, str] = {}  # pid -> attempt key, or "" for a template
        self.table: Mapping[int, Entry] = {}
        self.launcher = 0  # whoever is still in its session is being born, and will say whose it is
        self.strangers_ended = 0
        self.before_look: Callable[[], None] = lambda: None
        self.on_stranger: Callable[[], None] = lambda: None
        self._loop = loop
        self._me = os.getpid()

    def knows(self, pid: int) -> bool:
        return pid in self.roots

    def note_stranger(self) -> None:
        self.strangers_ended += 1
        self.on_stranger()

    def look(self, root: int | None, key: str, oldest: int | None = None) -> tuple[list[Entry], bool]:
        """(the tree of `root`, with the strangers that may be its own; whether that can be believed).

        What it was taken from stays in `table`.

        `oldest`: nobody of that tree has a pid that was handed out before this one.
        """
        for _ in range(_LOOKS):
            before = self.strangers_ended
            self.table = table = process.scan() if oldest is None else process.scan_from(oldest)
            # an attempt that is just being adopted has said its pid before it could be
            self.before_look()
            found = self._tree(root, key, table)
            self._loop.reap()
            if found or self.strangers_ended == before:
                return found, self.strangers_ended == before
        return [], False

    def is_of(self, entry: Entry, root: int | None, key: str) -> bool:
        """The same question about one process, by walking up."""
        for _ in range(_DEPTH):
            if entry.pid == root:
                return True
            if entry.parent == self._me:
                self.before_look()
                return not self.knows(entry.pid) and self._may_belong(entry, key)
            if entry.parent <= 1:
                return False
            # the parent ended between the two reads: where did that leave the child?
            above = process.entry_of(entry.parent) or process.entry_of(entry.pid)
            if above is None:
                return False
            entry = above
        return False

    def _tree(self, root: int | None, key: str, table: Mapping[int, Entry]) -> list[Entry]:
        tops = [
            entry
            for entry in table.values()
            if entry.parent == self._me
            and not entry.is_over
            and not self.knows(entry.pid)
            and self._may_belong(entry, key)
        ]
        if root is not None and (entry := table.get(root)) is not None and not entry.is_over:
            tops.append(entry)
        return [*tops, *process.below([entry.pid for entry in tops], table)]

    def _may_belong(self, entry: Entry, key: str) -> bool:
        """A stranger belongs to whoever asks, unless it is plainly of another attempt that is still in hand."""
        if entry.session == self.launcher:
            return False
        others = {other for other in self.roots.values() if other and other != key}
        if not others:
            return True
        if self.roots.get(entry.session, key) not in ("", key):
            return False
        environ = process.environment_of(entry.pid)
        return f"{environ.get('ORCH_RUN')}/{environ.get('ORCH_PHASE')}.{environ.get('ORCH_ATTEMPT')}" not in others


class Tree:
    """One tree: its root while that is not reaped, and what is left of it."""

    def __init__(self, census: Census, key: str, root: Callable[[], int | None], group: Group | None = None) -> None:
        self._census = census
        self._key = key
        self._root = root
        self._group = group

    def look(self) -> tuple[list[Entry], bool]:
        return self._census.look(self._root(), self._key)

    def is_over(self, oldest: int | None = None) -> bool:
        found, settled = self._census.look(self._root(), self._key, oldest)
        return settled and not found

    def storm(self) -> bool:
        """One assault with SIGKILL, as short as it can be. True once nothing is left."""
        if self._group is not None:
            self._group.kill()
        found, settled = self.look()
        if settled and not found:
            return True
        process.insist(found, self._census.table, self._groups(found))
        process.chase(self._is_ours, process.STORM_SECONDS)
        return False

    def _is_ours(self, entry: Entry) -> bool:
        return self._census.is_of(entry, self._root(), self._key)

    def _groups(self, found: list[Entry]) -> set[int]:
        """Process groups that can only be of this tree: never the agent's, a template's or another attempt's."""
        others = [pid for pid in self._census.roots if pid != self._root()]
        taken = {os.getpgrp(), *others, *process.groups_of(others)}
        return {entry.group for entry in found if entry.group > 1} - taken


def end_tree(
    tree: Tree,
    grace: float,
    pause: Callable[[float], Steps],
    is_urgent: Callable[[], bool],
    insisting: Callable[[], None],
) -> Steps:
    """Ask, wait `grace` (cut short once `is_urgent`), then insist (`insisting` is told) until nothing is left."""
    found, settled = tree.look()
    if settled and not found:
        return
    process.ask(found)
    until = clock.ticking() + grace
    wait = 0.01
    while clock.ticking() < until and not is_urgent():
        yield from pause(min(wait, until - clock.ticking()))
        if tree.is_over():
            return
        wait = min(wait * 1.5, 0.25)
    insisting()
    wait = 0.002
    while not tree.storm():
        yield from pause(wait)
        wait = min(wait * 1.2, 0.05)


def find_leftovers(
    tree: Tree, oldest: int | None, pause: Callable[[float], Steps]
) -> Generator[None, None, list[str] | None]:
    """Who is still there a moment after the root's own end (many a child needs that moment to notice); None: nobody."""
    for wait in _SETTLE_SECONDS:
        if tree.is_over(oldest):
            return None
        yield from pause(wait)
    return [process.describe(entry.pid, _WHOLE) for entry in tree.look()[0][:_MOST_NAMES]]
