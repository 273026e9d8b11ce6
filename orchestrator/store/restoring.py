"""Files go back to a checkpoint: all, or nothing changes. Every step may be the last before a kill.

All that is to be put back is first laid beside the place where it belongs, and a plan is written; then files only
change their names. Whoever takes the lock and finds a plan finishes it, or takes it back where it cannot be finished.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

from orchestrator import disk
from orchestrator.core import checkpoint as values
from orchestrator.core.checkpoint import Changes, Checkpoint, Entry
from orchestrator.core.formats import MALFORMED
from orchestrator.core.value import Value
from orchestrator.errors import Refused, StateDamaged, StateUnwritable
from orchestrator.files.patterns import DRAFT, expand
from orchestrator.store import sealed
from orchestrator.store.checkpoints import Vault, entry_of
from orchestrator.store.reading import ROLLBACK as PLAN

STAGING, READY, DONE = "staging", "ready", "done"
SPARE = 1024 * 1024  # bytes that are to be free besides


class Move(Value):
    """One name. Without `fresh` what stands there goes; `aside` is where that waits until all is done."""

    target: str
    aside: str
    fresh: str = ""


class Plan(Value):
    token: str
    checkpoint: str
    stage: str
    moves: tuple[Move, ...]
    folders: tuple[str, ...]  # to be made
    empty: tuple[str, ...]  # to go, if nothing is left in them
    event: dict[str, Any] | None = None  # what the journal is to say; None: whose phase it is will say it
    files: int = 0
    removed: int = 0

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        moves = tuple(Move(**move) for move in data["moves"])
        return cls(**{**data, "moves": moves, "folders": tuple(data["folders"]), "empty": tuple(data["empty"])})

    @property
    def removals(self) -> list[Move]:
        return [move for move in self.moves if not move.fresh]

    @property
    def puts(self) -> list[Move]:
        return [move for move in self.moves if move.fresh]


# ---- what there is to do


def survey(root: Path, checkpoint: Checkpoint) -> Generator[None, None, Changes]:
    """What differs now from the checkpoint, in pieces."""
    listed = dict.fromkeys(pattern for one in checkpoint.patterns.values() for pattern in one)
    paths, folders_there = yield from expand(root, listed)
    then, now = checkpoint.entries, dict[str, Entry]()
    for path in paths:
        now[path] = yield from _as_now(root, path, then.get(path))
    return values.changes(checkpoint, now, folders_there, _strange(root, checkpoint, now, folders_there))


def _as_now(root: Path, path: str, then: Entry | None) -> Generator[None, None, Entry]:
    """Read only where everything else is the same, and it may have been written to since."""
    entry = entry_of(root, path)
    if then is None or not entry.is_file or not entry.replace(digest=then.digest).same_as(then):
        return entry
    if (entry.inode, entry.ctime_ns) == (then.inode, then.ctime_ns):
        return entry.replace(digest=then.digest)
    digest = yield from disk.digest(root / path)
    return entry.replace(digest=digest)


def _strange(root: Path, checkpoint: Checkpoint, now: Iterable[str], folders: Iterable[str]) -> dict[str, str]:
    known, found = {*now}, dict[str, str]()
    inside = {*known, *folders}
    for path in checkpoint.all_folders:
        if path not in known and os.path.lexists(root / path) and not os.path.isdir(root / path):
            found[path] = disk.kind_of(os.lstat(root / path).st_mode)
    for path in checkpoint.entries:
        place = root / path
        if path in known or not os.path.lexists(place):
            continue
        if not os.path.isdir(place) or os.path.islink(place):
            found[path] = disk.kind_of(os.lstat(place).st_mode)
        elif any(inner not in inside for inner in _below(root, path)):
            found[path] = "a folder in which other things are"
    return found


def _below(root: Path, path: str) -> Iterator[str]:
    for folder, folders, files in os.walk(root / path):
        here = os.path.relpath(folder, root)
        yield from (f"{here}/{name}" for name in (*folders, *files))


# ---- all is laid ready


def prepare(
    vault: Vault, checkpoint: Checkpoint, changes: Changes, token: str, event: dict[str, Any] | None = None
) -> Generator[None, None, Plan]:
    """Afterwards the plan is on the disk; before that nothing has changed, whatever goes wrong."""
    if changes.blocked:
        raise Refused(f"{checkpoint.id}: {changes.blocked}; nothing was changed")
    plan = _plan(vault.root, checkpoint, changes, token, event)
    entries = {entry.path: entry for entry in changes.put}
    _check_room(vault, plan, checkpoint, entries)
    disk.make_folder(vault.folder)
    try:
        _write(vault, plan)
        for move in plan.puts:
            yield from _stage(vault, checkpoint.id, entries[move.target], vault.root / move.fresh)
        for folder in {(vault.root / move.fresh).parent for move in plan.puts}:
            disk.sync_folder(folder)
        plan = plan.replace(stage=READY)
        _write(vault, plan)
    except BaseException:
        forget(vault, plan.replace(stage=STAGING))
        raise
    return plan


def _plan(root: Path, checkpoint: Checkpoint, changes: Changes, token: str, event: dict[str, Any] | None) -> Plan:
    whole = [
        entry.path for entry in changes.put if (root / entry.path).is_dir() and not (root / entry.path).is_symlink()
    ]
    remove = [path for path in changes.remove if not any(path.startswith(f"{folder}/") for folder in whole)]
    moves = [Move(path, _beside(path, token, place, "old")) for place, path in enumerate(remove)]
    for place, entry in enumerate(changes.put, len(moves)):
        fresh = _beside(_inside(root, entry.path), token, place, "new")
        moves.append(Move(entry.path, _beside(entry.path, token, place, "old"), fresh))
    empty = tuple(path for path in changes.empty if path not in whole)
    return Plan(
        token, checkpoint.id, STAGING, tuple(moves), changes.make, empty, event, len(changes.put), len(changes.remove)
    )  # fmt: skip


def _beside(path: str, token: str, place: int, what: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}{DRAFT}{token}-{place}.{what}"


def _inside(root: Path, path: str) -> str:
    """The same path, or as much of it as lies in a folder that is there already."""
    while "/" in path and not os.path.isdir(root / path.rpartition("/")[0]):
        path = path.rpartition("/")[0]
    return path


def _check_room(vault: Vault, plan: Plan, checkpoint: Checkpoint, entries: dict[str, Entry]) -> None:
    wanted = dict[int, tuple[Path, int, Path]]()  # by file system: where, how much, the largest
    for move in plan.puts:
        entry, folder = entries[move.target], (vault.root / move.fresh).parent
        if entry.is_file:
            device, blob = folder.stat().st_dev, vault.blob(checkpoint.id, entry.digest)
            _, size, example = wanted.get(device, (folder, 0, blob))
            wanted[device] = (folder, size + entry.size, example)
    for folder, size, example in wanted.values():
        room = disk.room(folder)
        if size + SPARE > room and not disk.can_clone(example, folder):
            raise StateUnwritable(
                f"no room to go back to {checkpoint.id}: it takes {size:,} bytes at {folder}, {room:,} are free",
                "nothing was changed; make room, then go back",
            )


def _stage(vault: Vault, name: str, entry: Entry, fresh: Path) -> Generator[None, None, None]:
    if not entry.is_file:
        os.symlink(entry.leads, fresh)
        return
    try:
        digest = yield from disk.copy(
            vault.blob(name, entry.digest), fresh, mode=entry.mode, mtime_ns=entry.mtime_ns
        )  # fmt: skip
    except FileNotFoundError:
        raise StateDamaged(f"checkpoint {name}: its copy of {entry.path} is missing", _DAMAGED) from None
    if digest != entry.digest:
        raise StateDamaged(f"checkpoint {name}: its copy of {entry.path} is damaged", _DAMAGED)


_DAMAGED = "nothing was changed; `orch checkpoint list` shows the others"


# ---- names are changed


def apply(vault: Vault, plan: Plan) -> None:
    """All files stand as they did; or, where one cannot be moved, all stand as before, and that OSError is raised."""
    try:
        _forward(vault.root, plan)
    except OSError:
        take_back(vault, plan)
        raise


def _forward(root: Path, plan: Plan) -> None:
    for move in plan.removals:
        if os.path.lexists(root / move.target):
            os.rename(root / move.target, root / move.aside)
    for folder in plan.folders:
        if not os.path.isdir(root / folder):
            os.mkdir(root / folder)
    for move in plan.puts:
        fresh, target, aside = root / move.fresh, root / move.target, root / move.aside
        if os.path.lexists(fresh):  # else it is where it belongs already
            if os.path.lexists(target) and not os.path.lexists(aside):
                os.rename(target, aside)
            os.rename(fresh, target)
    _sync(root, plan)


def take_back(vault: Vault, plan: Plan) -> None:
    """As if nothing had been begun; StateUnwritable where not even that can be done."""
    root = vault.root
    try:
        for move in reversed(plan.puts):
            if not os.path.lexists(root / move.fresh) and os.path.lexists(root / move.target):
                os.rename(root / move.target, root / move.fresh)
            if os.path.lexists(root / move.aside):
                os.rename(root / move.aside, root / move.target)
        for folder in reversed(plan.folders):
            _remove_if_empty(root / folder)
        for move in plan.removals:
            if os.path.lexists(root / move.aside):
                os.rename(root / move.aside, root / move.target)
        _sync(root, plan)
        _write(vault, plan.replace(stage=STAGING))
    except OSError as error:
        raise StateUnwritable(
            f"half of the files are as in {plan.checkpoint}: {error.filename}: {error.strerror}",
            "make what is named writable, then `orch recover`: it finishes this, or takes it back; nothing runs before",
        ) from error
    forget(vault, plan.replace(stage=STAGING))


def settle(vault: Vault, plan: Plan) -> None:
    """What was set aside is not needed any more."""
    if plan.event is None and plan.stage != DONE:  # no journal says so
        plan = plan.replace(stage=DONE)
        _write(vault, plan)
    for move in plan.moves:
        disk.drop(vault.root / move.aside)
    for folder in plan.empty:
        _remove_if_empty(vault.root / folder)
    disk.remove(vault.folder / PLAN)


def forget(vault: Vault, plan: Plan) -> None:
    """Of a plan that has changed nothing."""
    for move in plan.puts:
        disk.drop(vault.root / move.fresh)
    disk.remove(vault.folder / PLAN)


def _sync(root: Path, plan: Plan) -> None:
    names = [*(move.target for move in plan.moves), *(move.fresh for move in plan.puts), *plan.folders]
    for folder in sorted({(root / name).parent for name in names}):
        if folder.is_dir():
            disk.sync_folder(folder)


def _remove_if_empty(folder: Path) -> None:
    try:
        os.rmdir(folder)
    except OSError:  # somebody has put something there, or it is gone
        pass


# ---- the plan on the disk


def _write(vault: Vault, plan: Plan) -> None:
    disk.replace(vault.folder / PLAN, sealed.seal(plan.as_dict()), durable=True)


def under_way(vault: Vault) -> Plan | None:
    """StateDamaged where there is one that nobody can read: which files are as before cannot be told."""
    path = vault.folder / PLAN
    remedy = (
        f"the files that it was about may be of before or of after; what begins with {DRAFT} beside them is the rest"
    )
    try:
        return Plan.from_dict(sealed.opened(path, remedy))
    except FileNotFoundError:
        return None
    except MALFORMED as error:
        raise StateDamaged(f"{path} is damaged: {error}", remedy) from error


def finish(vault: Vault, plan: Plan, *, is_written: bool) -> str:
    """For whoever finds it: forward, else back. Says what was done; empty if it has to be written down and settled yet.

    `is_written`: the journal says that it has been.
    """
    if plan.stage == STAGING:
        forget(vault, plan)
        return f"a rollback to {plan.checkpoint} was cut off before it had changed anything"
    if is_written or plan.stage == DONE:
        settle(vault, plan)
        return f"a rollback to {plan.checkpoint} was cut off when it was as good as over; the rest is done"
    try:
        _forward(vault.root, plan)
    except OSError as error:
        take_back(vault, plan)
        return f"a rollback to {plan.checkpoint} was cut off, and taken back: {error.filename}: {error.strerror}"
    return ""
