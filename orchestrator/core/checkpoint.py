"""Checkpoint: how all stood before a phase, and what has to change for it to stand like that again. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.core.item import number_of
from orchestrator.core.names import epoch
from orchestrator.core.phase import PhaseState
from orchestrator.core.state import RunState, State
from orchestrator.core.table import PENDING
from orchestrator.core.value import Value

FILE, LINK = "file", "link"
# Of the run this comes back; who owns it, and what it may do, is of whoever runs it.
OF_THE_RUN = (
    "id", "started_at", "continued_at", "finished_at", "verdict", "exit_code", "scope", "due", "calls",
)  # fmt: skip
_OURS = ("name", "title", "planned", "durations", "checkpoint", "restore")  # of a phase this stays as it is now


class Entry(Value):
    """A file or link that phases declare, as it was."""

    path: str  # relative to the project's root
    kind: str = FILE
    size: int = 0
    mode: int = 0
    mtime_ns: int = 0
    digest: str = ""  # of what is in it
    leads: str = ""  # where a link leads
    inode: int = 0  # with its own time of change: the file is the same, and need not be read again
    ctime_ns: int = 0

    @property
    def is_file(self) -> bool:
        return self.kind == FILE

    def same_as(self, other: Entry | None) -> bool:
        """In all that comes back."""
        return other is not None and self.replace(inode=0, ctime_ns=0) == other.replace(inode=0, ctime_ns=0)


class Checkpoint(Value):
    id: str
    phase: int
    timestamp: str
    why: str  # it was made
    state: dict[str, Any]  # seq, run, phases
    context: dict[str, Any]  # results: what each phase had returned
    files: dict[str, tuple[Entry, ...]]  # by phase
    folders: dict[str, tuple[str, ...]]  # likewise
    patterns: dict[str, list[str]]  # what each phase declared
    left_out: tuple[int, ...] = ()  # phases that were in progress: their files were being written

    @property
    def entries(self) -> dict[str, Entry]:
        return {entry.path: entry for listed in self.files.values() for entry in listed}

    @property
    def all_folders(self) -> set[str]:
        """With those that its files are in."""
        inner = {folder for listed in self.folders.values() for folder in listed}
        return inner | {above for path in self.entries for above in ancestors(path)}

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries.values())

    def only(self, number: int) -> Checkpoint:
        """What is one phase's own."""
        name = str(number)
        return self.replace(
            files={name: self.files.get(name, ())}, folders={name: self.folders.get(name, ())},
            patterns={name: self.patterns.get(name, [])},
        )  # fmt: skip

    def phases(self) -> dict[str, dict[str, Any]]:
        """The documents of the phases, whole."""
        results = self.context["results"]
        told: Mapping[str, dict[str, Any]] = self.state["phases"]
        return {
            number: {**phase, "outputs": results[number]} if number in results else dict(phase)
            for number, phase in told.items()
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Checkpoint:
        files = {number: tuple(Entry(**entry) for entry in listed) for number, listed in data["files"].items()}
        folders = {number: tuple(listed) for number, listed in data["folders"].items()}
        return cls(**{**data, "files": files, "folders": folders, "left_out": tuple(data.get("left_out", ()))})


def name_for(number: int, now: float) -> str:
    return f"phase_{number}_{datetime.fromtimestamp(now, UTC):%Y%m%d_%H%M%S}"


def documents(state: State) -> dict[str, dict[str, Any]]:
    """Each phase as it would come back: what is in progress has to begin anew."""
    everything = [*sorted(state.phases.items()), *sorted(state.items.items())]
    return {str(number): _document(phase) for number, phase in everything}


def _document(phase: PhaseState) -> dict[str, Any]:
    if phase.is_live:
        phase = phase.replace(
            status=PENDING, step=None, agent=None, pid=None, ticks=None, started_at=None,
            attempts=max(0, phase.attempts - 1), why=None, made=None,
        )  # fmt: skip
    return {name: value for name, value in phase.as_dict().items() if name not in _OURS}


def run_document(run: RunState) -> dict[str, Any]:
    return {name: value for name, value in run.as_dict().items() if name in OF_THE_RUN}


def split(phases: Mapping[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the phases without, their results)"""
    bare = {number: {key: phase[key] for key in phase if key != "outputs"} for number, phase in phases.items()}
    return bare, {number: phase["outputs"] for number, phase in phases.items() if phase.get("outputs") is not None}


def differing(checkpoint: Checkpoint, state: State) -> dict[str, dict[str, Any]]:
    """The phases that stand otherwise now, each as it was; one that was not there has never run."""
    then, now = checkpoint.phases(), documents(state)
    numbers = sorted({*then, *now}, key=number_of)
    return {number: then.get(number, {}) for number in numbers if _plain(then, number) != _plain(now, number)}


def _plain(phases: Mapping[str, dict[str, Any]], number: str) -> dict[str, Any]:
    """Attempts are numbered through all runs: that they were more since is no difference."""
    return {key: value for key, value in phases.get(number, {}).items() if key != "attempt"}


# ---- what has to be done with files


class Changes(Value):
    put: tuple[Entry, ...] = ()  # back, in place of whatever is there
    remove: tuple[str, ...] = ()
    make: tuple[str, ...] = ()  # folders, the outer ones first
    empty: tuple[str, ...] = ()  # folders that go if nothing is left in them, the inner ones first
    blocked: str = ""  # why it cannot be done

    @property
    def is_empty(self) -> bool:
        return not (self.put or self.remove or self.make)

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.put)


def changes(
    checkpoint: Checkpoint, now: Mapping[str, Entry], folders: Iterable[str], strange: Mapping[str, str]
) -> Changes:
    """`now`, `folders`: what the same patterns find now; `strange`: path -> what stands there that nobody declares."""
    then, there = checkpoint.entries, {*folders}
    put = tuple(entry for path, entry in sorted(then.items()) if not entry.same_as(now.get(path)))
    remove = tuple(sorted(path for path in now if path not in then))
    wanted = checkpoint.all_folders
    for path in sorted({*wanted, *(entry.path for entry in put)}):
        if path in strange:
            return Changes(blocked=f"{path} is {strange[path]}, and no phase declares it: move it away")
    make = tuple(sorted(wanted - there, key=_depth))
    empty = tuple(sorted(there - wanted, key=_depth, reverse=True))
    return Changes(put, remove, make, empty)


def ancestors(path: str) -> list[str]:
    """The folders that it is in, below the project's root."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def _depth(path: str) -> tuple[int, str]:
    return path.count("/"), path


# ---- which are kept


def expired(kept: Mapping[str, str], needed: Iterable[str], most: int, max_age: float, now: float) -> list[str]:
    """`kept`: id -> timestamp. The oldest beyond that number and that age, but none that is still needed."""
    newest_first = sorted(kept, key=lambda one: (kept[one], one), reverse=True)
    spared = {*needed}
    return [
        one for place, one in enumerate(newest_first)
        if one not in spared and (place >= most or now - epoch(kept[one]) > max_age)
    ]  # fmt: skip


def needed_by(state: State) -> set[str]:
    """What a phase that is not done may still have to go back to."""
    return {
        one for phase in state.phases.values() if not phase.is_done or phase.restore
        for one in (phase.checkpoint, phase.restore) if one
    }  # fmt: skip
