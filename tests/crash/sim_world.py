"""The simulated machine: its time, its disk as far as it fails, and what happens when; everything a function of the seed."""

from __future__ import annotations

import errno
import heapq
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.core.names import Identity, Moment
from tests.core.model import Broken, Cut
from tests.crash.sim_power import Power

WALL = 1_000_000_000.0  # long ago: the real times of files never look like the past
HOST = "sim/1"
ROUNDS_PER_SECOND = 400  # of the loop, in simulated time
SPIN = "the loop does not spin (§3)"
_MODES = os.O_WRONLY | os.O_RDWR

__all__ = ["Broken", "Cut", "Timer", "World"]


class Timer:
    def __init__(self, act: Callable[[], None]) -> None:
        self.act: Callable[[], None] | None = act

    def cancel(self) -> None:
        self.act = None


class World:
    """One thread, one clock. `acting` says whose code runs now: the orchestrator's can be cut off at every point."""

    def __init__(self, seed: int, folder: str) -> None:
        self.seed, self.folder = seed, folder
        self.first: Broken | None = None
        self.random = random.Random(seed)
        self.time, self.wall_shift = 0.0, 0.0
        self.boots, self.booted_at = 0, -100.0
        self.story: list[str] = []
        self.fired: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.calm = False  # no more faults
        self.acting = "world"
        self.dead = True  # the orchestrator: nothing that it still does has any effect
        self.points_left = 0  # until it is cut off; 0: it is not
        self.cut_kind = "orchestrator killed"
        self.power_follows = False  # cut it in the next life
        self.doomed = ""  # cut off as soon as it is its turn
        self.disk_faults: list[tuple[int, int]] = []  # (operations from now, errno)
        self.full_until = -1.0
        self.slow_until = -1.0
        self.late_until = -1.0
        self.failed_files: set[str] = set()  # in this life, by a write or a sync
        self.power = Power(Path(folder), random.Random(seed))
        self._events: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._files: dict[int, str] = {}
        self._pids = 100
        self._second, self._rounds = -1, 0

    # ---- what is told

    def tell(self, text: str) -> None:
        self.story.append(f"{self.time:9.3f}  {text.replace(self.folder, '')}")

    def fault(self, kind: str, text: str = "") -> None:
        self.fired[kind] += 1
        self.tell(f"FAULT {kind}{': ' + text if text else ''}")

    def breaks(self, rule: str, why: str) -> Broken:
        self.tell(f"BROKEN {rule}: {why}")
        self.first = self.first or Broken(f"{rule}: {why}")  # what fails behind it may hide it
        return self.first

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    # ---- time

    def now(self) -> float:
        return WALL + self.time + self.wall_shift

    def ticking(self) -> float:
        return self.time - self.booted_at

    def moment(self) -> Moment:
        return Moment(self.now(), self.ticking(), self.random.random())

    def pause(self, seconds: float) -> None:
        if self.acting == "orch":
            self.point("pause")
            if self.dead:
                raise Cut("dead")
        self.advance(self.time + max(seconds, 1e-4))

    def after(self, seconds: float, act: Callable[[], None]) -> Timer:
        self._count += 1
        timer = Timer(act)
        heapq.heappush(self._events, (self.time + max(0.0, seconds), self._count, timer))
        return timer

    def advance(self, until: float, ready: Callable[[], object] = lambda: False) -> None:
        """Whatever happens up to then; no further than what makes it `ready`."""
        while self._events and self._events[0][0] <= until:
            at, _, timer = heapq.heappop(self._events)
            if timer.act is None:
                continue
            self.time = max(self.time, at)
            act, timer.act = timer.act, None
            before, self.acting = self.acting, "world"
            try:
                act()
            finally:
                self.acting = before
            self._cut_if_doomed()
            if ready():
                return
        self.time = max(self.time, until)

    def next_round(self) -> None:
        """The loop goes round: not more often than makes sense."""
        second = int(self.time)
        self._rounds = self._rounds + 1 if second == self._second else 1
        self._second = second
        self.operations["rounds"] += 1
        if self._rounds > ROUNDS_PER_SECOND:
            raise self.breaks(SPIN, f"{self._rounds} rounds in one second")

    # ---- who is there

    def new_identity(self) -> Identity:
        self._pids += 1
        return Identity(self._pids, 1000 + int(self.ticking() * 100), f"boot-{self.boots}", HOST)

    # ---- the end of the orchestrator

    def point(self, what: str) -> None:
        """Here the orchestrator may be cut off: what it was about to do has not happened."""
        if self.acting != "orch" or self.dead:
            return
        self.operations["points"] += 1
        self._cut_if_doomed()
        if self.points_left > 0:
            self.points_left -= 1
            if self.points_left == 0:
                self.doomed = self.cut_kind
                self.tell(f"before: {what}")
                self._cut_if_doomed()

    def _cut_if_doomed(self) -> None:
        if self.doomed and self.acting == "orch" and not self.dead:
            self.fault(self.doomed)
            self.dead = True
            raise Cut(self.doomed)

    # ---- the disk, as far as it fails

    @contextmanager
    def disk(self) -> Iterator[None]:
        """In place of the functions of `os`: for what is in the folder, each a point, a fault, or slow."""
        real = {name: getattr(os, name) for name in ("open", "close", "write", "pwrite", *_SYNCS, *_NAMES, "ftruncate")}
        for name in real:
            setattr(os, name, self._wrapped(name, real[name]))
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(os, name, function)

    def close_files(self) -> None:
        """A process that is gone has nothing open; its lock closes by itself."""
        for fd, path in list(self._files.items()):
            if not path.endswith(".lock"):
                os.close(fd)

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        if name == "open":
            return lambda path, flags, *rest, **keys: self._open(real, path, flags, *rest, **keys)
        if name == "close":
            return lambda fd: (self._files.pop(fd, None), real(fd))[1]
        if name in _NAMES:
            return lambda path, *rest, **keys: self._by_name(real, name, path, *rest, **keys)
        return lambda fd, *rest: self._by_number(real, name, fd, *rest)

    def _is_ours(self, path: object) -> bool:
        return str(path).startswith(self.folder)

    def _open(self, real: Callable[..., int], path: Any, flags: int, *rest: Any, **keys: Any) -> int:
        if not self._is_ours(path) or not flags & (_MODES | os.O_DIRECTORY):
            return real(path, flags, *rest, **keys)
        if flags & os.O_CREAT:
            if self._is_ghost():
                return real("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
            self._touch("open", str(path))
        fd = real(path, flags, *rest, **keys)
        self._files[fd] = str(path)
        return fd

    def _by_number(self, real: Callable[..., Any], name: str, fd: int, *rest: Any) -> Any:
        path = self._files.get(fd)
        if path is None:
            return real(fd, *rest)
        if self._is_ghost():
            return len(rest[0]) if "write" in name else None
        if name in _SYNCS and self.time < self.slow_until and self.acting == "orch":
            self.fired["slow disk"] += 1
            self.advance(self.time + self.random.uniform(0.01, 0.5))
        try:
            self._touch(name, path)
        except OSError as error:
            if self.acting == "orch":
                self.failed_files.add(path)
            if name == "write" and error.errno == errno.ENOSPC and self.chance(0.5):
                real(fd, rest[0][: self.random.randrange(len(rest[0]))])  # what still fitted
            raise
        result = real(fd, *rest)
        if name in _SYNCS:
            self.power.synced(path)
        return result

    def _by_name(self, real: Callable[..., Any], name: str, path: Any, *rest: Any, **keys: Any) -> Any:
        if not self._is_ours(path):
            return real(path, *rest, **keys)
        if self._is_ghost():
            return None
        self._touch(name, str(path))
        return real(path, *rest, **keys)

    def _is_ghost(self) -> bool:
        return self.acting == "orch" and self.dead

    def _touch(self, name: str, path: str) -> None:
        self.operations["disk"] += 1
        if name in _SYNCS and "journal/" in path and self.acting == "orch" and not self.calm and self.chance(0.02):
            # What most often shows a bug: written and read again, but not synced, and then the power goes.
            self.points_left, self.cut_kind, self.power_follows = 1, "orchestrator killed", True
        self.point(f"{name} {path.removeprefix(self.folder)}")
        if self.acting == "orch" and path in self.failed_files and "journal/" in path and name != "open":
            raise self.breaks("a file that failed is not written or synced again (§5.1)", f"{name} {path}")
        if self.calm or name == "unlink":
            return
        if self.time < self.full_until and name in ("open", "write", "mkdir"):
            self.fired["disk full"] += 1
            raise OSError(errno.ENOSPC, "No space left on device", path)
        if self.acting == "orch" and self.disk_faults:
            left, number = self.disk_faults[0]
            self.disk_faults[0] = (left - 1, number)
            if left <= 0 and (number == errno.EIO or name in ("open", "write", "mkdir")):
                self.disk_faults.pop(0)
                self.fault("EIO" if number == errno.EIO else "ENOSPC", f"{name} {path.removeprefix(self.folder)}")
                raise OSError(number, os.strerror(number), path)


_SYNCS = ("fsync", "fdatasync")
_NAMES = ("rename", "unlink", "mkdir", "rmdir", "truncate")
