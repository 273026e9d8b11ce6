"""Control groups (version 2) where we may make them: a kill that no fork can run away from; never required."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.process.table import describe, entry_of


class Group:
    """The control group of one attempt."""

    def __init__(self, path: str) -> None:
        self._path = path

    @property
    def procs(self) -> str:
        return f"{self._path}/cgroup.procs"

    def members(self) -> list[int]:
        try:
            return [int(pid) for pid in Path(self.procs).read_text().split()]
        except (OSError, ValueError):
            return []

    def kill(self) -> None:
        try:
            fd = os.open(f"{self._path}/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.write(fd, b"1")
        except OSError:
            pass
        finally:
            os.close(fd)

    def oom_kills(self) -> int | None:
        """How many of its processes the kernel has ended for lack of memory; None where nobody counts them."""
        return _count(f"{self._path}/memory.events", "oom_kill")

    def remove(self) -> bool:
        """False while the kernel still counts a process in it."""
        try:
            os.rmdir(self._path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


class Groups:
    """The groups of one agent."""

    def __init__(self) -> None:
        # never the name of another agent's group: killing by a name that two share would end the other's work
        self._prefix = f"orch-{os.getpid()}-{os.urandom(6).hex()}"
        self._folder = "" if os.environ.get("ORCH_NO_CGROUP") == "1" else _usable(self._prefix)
        self._busy: list[Group] = []
        self._oom_kills = self._count_oom_kills()
        if self._folder:
            _remove_forgotten(self._folder)

    @property
    def are_used(self) -> bool:
        return bool(self._folder)

    def make(self, name: str) -> Group | None:
        if not self._folder:
            return None
        path = f"{self._folder}/{self._prefix}-{name}"
        try:
            os.mkdir(path, 0o700)
        except OSError:
            return None
        return Group(path)

    def ran_out_of_memory(self, group: Group | None) -> bool | None:
        """Whether the kernel ended one of that group for lack of memory; None where only a guess is left."""
        own = group.oom_kills() if group is not None else None
        if own is not None:
            return own > 0
        # All who are counted together: that it was one of ours could only be guessed, that it was none is sure.
        return False if self._oom_kills is not None and self._count_oom_kills() == self._oom_kills else None

    def _count_oom_kills(self) -> int | None:
        """Of the group that we are in ourselves, with all below it; else of the whole machine."""
        folder = _own_folder()
        of_ours = _count(f"{folder}/memory.events", "oom_kill") if folder else None
        return of_ours if of_ours is not None else _count("/proc/vmstat", "oom_kill")

    def drop(self, group: Group | None) -> None:
        """A dying process may hold its group for a moment: those are tried again with the next, and at the end."""
        if group is not None:
            self._busy.append(group)
        self._busy = [each for each in self._busy if not each.remove()]


def _count(path: str, name: str) -> int | None:
    """A number of a file that has a name and a number in each line."""
    try:
        for line in Path(path).read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return None


def _usable(prefix: str) -> str:
    """The folder below which groups can be made, killed and removed; empty if there is none."""
    folder = _own_folder()
    if not folder:
        return ""
    trial = f"{folder}/{prefix}-trial"
    try:
        os.mkdir(trial, 0o700)
    except OSError:
        return ""
    fits = all(
        os.access(f"{place}/{name}", os.W_OK) for place, name in ((trial, "cgroup.kill"), (folder, "cgroup.procs"))
    )
    os.rmdir(trial)
    return folder if fits else ""


def _own_folder() -> str:
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    points = [line.split()[4] for line in mounts if " - cgroup2 " in line]
    own = [line[3:] for line in groups if line.startswith("0::")]
    if not points or not own:
        return ""
    return f"{points[0]}{own[0]}".rstrip("/")


def _remove_forgotten(folder: str) -> None:
    """Empty groups of agents that were killed; one that holds a process cannot be removed by this."""
    for name in os.listdir(folder):
        pid = name.split("-")[1] if name.startswith("orch-") and name.count("-") > 1 else ""
        if pid.isdigit() and not _is_taken(int(pid)):
            try:
                os.rmdir(f"{folder}/{name}")
            except OSError:
                pass


def _is_taken(pid: int) -> bool:
    entry = entry_of(pid)
    return entry is not None and not entry.is_over


def end_groups_of(agent: int) -> list[str]:
    """Everything in the groups of an agent that is gone, whatever it did to its session and environment; its names."""
    folder = _own_folder()
    if not folder or _is_taken(agent):  # the pid is in use again: the groups may be those of its user
        return []
    names = []
    for name in os.listdir(folder):
        if name.startswith(f"orch-{agent}-"):
            group = Group(f"{folder}/{name}")
            names += [describe(pid) for pid in group.members()]
            group.kill()
            group.remove()
    return names
