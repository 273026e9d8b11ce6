"""system/backup/checkpoints: how all stood before a phase; each in a folder that needs no other to be read.

`phase_<n>_<time>/checkpoint.json` says it, `files/` holds what was in the files, each under its own digest. What two
checkpoints have in common is one file with two names: nothing ever writes into it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path

from orchestrator import disk
from orchestrator.core import checkpoint as values
from orchestrator.core.checkpoint import FILE, LINK, Checkpoint, Entry
from orchestrator.core.flaw import Drop, Flaw
from orchestrator.core.formats import MALFORMED
from orchestrator.core.names import iso, nearest
from orchestrator.core.state import State
from orchestrator.errors import Conflict, StateDamaged, UsageError
from orchestrator.files.patterns import expand
from orchestrator.store import sealed
from orchestrator.store.reading import CHECKPOINTS as FOLDER
from orchestrator.store.shape import check_checkpoint

NAME, FILES = "checkpoint.json", "files"
REMEDY = "nothing was changed; `orch checkpoint list` shows the others, `orch fsck` what is damaged"
_READ_AGAIN = 3  # times that a file may change while it is copied
_COMPARED = 3  # earlier checkpoints whose files may be the same

Patterns = Mapping[int, Iterable[str]]


class Vault:
    """Whoever makes or removes holds the lock; anybody may read."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "system" / FOLDER

    def ids(self) -> list[str]:
        """The newest first."""
        names = [path.name for path in self.folder.glob("phase_*") if path.is_dir()]
        return sorted(names, key=lambda name: (name.split("_", 2)[2:], name), reverse=True)

    def read(self, name: str) -> Checkpoint:
        """UsageError where there is none of that name, StateDamaged where it is not what was written."""
        path = self.folder / name / NAME
        if name not in self.ids():
            raise self._unknown(name)
        try:
            body = sealed.opened(path, REMEDY)
            found = Checkpoint.from_dict(body)
            check_checkpoint(found)
        except FileNotFoundError:
            raise StateDamaged(f"{path} is missing", REMEDY) from None
        except MALFORMED as error:
            raise StateDamaged(f"{path} is damaged: {error}", REMEDY) from error
        if found.id != name:
            raise StateDamaged(f"{path} is damaged: it calls itself {found.id}", REMEDY)
        return found

    def readable(self) -> list[Checkpoint]:
        found = []
        for name in self.ids():
            try:
                found.append(self.read(name))
            except (StateDamaged, UsageError):
                continue
        return found

    def blob(self, name: str, digest: str) -> Path:
        return self.folder / name / FILES / digest

    def _unknown(self, name: str) -> UsageError:
        known = self.ids()
        if not known:
            return UsageError(f"there is no checkpoint {name}: none was made yet", "`orch checkpoint create` makes one")
        near = nearest(name, known) or known[0]
        return UsageError(f"there is no checkpoint {name}", f"the nearest is {near}; `orch checkpoint list` shows all")

    # ---- making one

    def make(
        self, number: int, why: str, state: State, patterns: Patterns, now: float
    ) -> Generator[None, None, Checkpoint]:
        """In pieces; the state is taken at once. OSError, or Conflict where a file does not keep still."""
        phases, results = values.split(values.documents(state))
        left_out = tuple(one for one in sorted(state.live) if one != number and patterns.get(one))
        declared = {one: list(listed) for one, listed in sorted(patterns.items()) if listed and one not in left_out}
        made = Checkpoint(
            self._free_name(values.name_for(number, now)), number, iso(now), why,
            {"run": values.run_document(state.run), "phases": phases}, {"results": results}, {}, {},
            {str(one): listed for one, listed in declared.items()}, left_out,
        )  # fmt: skip
        disk.make_folder(self.folder)
        draft = self.folder / f".{made.id}.{os.getpid()}.new"
        try:
            disk.make_folder(draft / FILES)
            made = yield from self._filled(made, declared, draft, state)
            disk.replace(draft / NAME, sealed.seal(made.as_dict()), durable=True)
            disk.sync_folder(draft / FILES)
            os.rename(draft, self.folder / made.id)
        except BaseException:
            import shutil

            shutil.rmtree(draft, ignore_errors=True)
            raise
        disk.sync_folder(self.folder)
        return made

    def _free_name(self, wanted: str) -> str:
        names = (wanted, *(f"{wanted}_{again}" for again in range(2, 10_000)))
        return next(name for name in names if not os.path.lexists(self.folder / name))

    def _filled(
        self, made: Checkpoint, declared: dict[int, list[str]], draft: Path, state: State
    ) -> Generator[None, None, Checkpoint]:
        """`state` goes on meanwhile: what a phase that has begun since has written is not how it was."""
        attempts = {number: state.phase(number).attempt for number in declared}
        earlier = self.readable()[:_COMPARED]
        files, folders = dict[str, tuple[Entry, ...]](), dict[str, tuple[str, ...]]()
        for number, listed in declared.items():
            entries = list[Entry]()
            paths, folders_now = yield from expand(self.root, listed)
            try:
                for path in paths:
                    entries.append((yield from self._taken(path, earlier, draft)))
            except (Conflict, FileNotFoundError):
                if state.phase(number).attempt == attempts[number]:
                    raise
            files[str(number)] = tuple(entries)
            folders[str(number)] = tuple(sorted(folders_now))
        begun = [number for number in declared if state.phase(number).attempt != attempts[number]]
        patterns = dict(made.patterns)
        for number in begun:
            for told in (files, folders, patterns):
                told.pop(str(number))
        left_out = tuple(sorted({*made.left_out, *begun}))
        return made.replace(files=files, folders=folders, patterns=patterns, left_out=left_out)

    def _taken(self, path: str, earlier: list[Checkpoint], draft: Path) -> Generator[None, None, Entry]:
        for _ in range(_READ_AGAIN):
            entry = entry_of(self.root, path)
            if not entry.is_file:
                return entry
            if (known := _as_before(entry, earlier)) is not None and self._shared(known.digest, entry, earlier, draft):
                return known
            new = draft / FILES / ".copy"
            new.unlink(missing_ok=True)
            digest = yield from disk.copy(self.root / path, new)
            if entry_of(self.root, path) == entry:
                self._put(new, digest, entry, earlier, draft)
                return entry.replace(digest=digest)
        raise Conflict(f"{path} changes while it is copied: which phase writes to it?")

    def _put(self, new: Path, digest: str, entry: Entry, earlier: list[Checkpoint], draft: Path) -> None:
        if self._shared(digest, entry, earlier, draft):
            new.unlink()
        else:
            os.rename(new, draft / FILES / digest)

    def _shared(self, digest: str, entry: Entry, earlier: list[Checkpoint], draft: Path) -> bool:
        """Another name for what an earlier one has, where the file system knows such names."""
        target = draft / FILES / digest
        if target.exists():
            return True
        for one in earlier:
            try:
                if self.blob(one.id, digest).stat().st_size == entry.size:
                    os.link(self.blob(one.id, digest), target)
                    return True
            except OSError:
                continue
        return False

    # ---- doing away with them

    def retire(self, needed: Iterable[str], most: int, max_age: float, now: float) -> list[str]:
        """Those that are too many or too old; what cannot be read is left to fsck, and to people."""
        import shutil

        kept = {one.id: one.timestamp for one in self.readable()}
        gone = values.expired(kept, needed, most, max_age, now)
        for name in gone:
            draft = self.folder / f".{name}.{os.getpid()}.new"
            os.rename(self.folder / name, draft)
            shutil.rmtree(draft)
        if gone:
            disk.sync_folder(self.folder)
        return gone

    def clear_drafts(self) -> None:
        """What whoever was killed has not finished, or not done away with: for whoever has just taken the lock."""
        for draft in self.folder.glob(".*.new"):
            disk.drop(draft)

    # ---- fsck

    def flaws(self) -> list[Flaw]:
        read = dict[tuple[int, int], str]()  # what several have in common is read once
        return [flaw for name in self.ids() for flaw in self._flaws_of(name, read)]

    def _flaws_of(self, name: str, read: dict[tuple[int, int], str]) -> list[Flaw]:
        inner, why = f"{FOLDER}/{name}", "nobody can go back to it any more"
        aside = (Drop(inner),)
        try:
            found = self.read(name)
        except StateDamaged as error:
            return [Flaw(f"system/{inner}", error.message, why, "move it into the backup", steps=aside)]
        except UsageError:
            return []  # removed meanwhile
        for entry in found.entries.values():
            if entry.is_file and (what := self.fault_of(name, entry, read)):
                return [Flaw(f"system/{inner}", what, why, "move it into the backup", steps=aside)]
        return []

    def fault_of(self, name: str, entry: Entry, read: dict[tuple[int, int], str] | None = None) -> str:
        """What is wrong with the copy of a file; empty if nothing is."""
        known, blob = {} if read is None else read, self.blob(name, entry.digest)
        try:
            same = blob.stat()
            file = (same.st_dev, same.st_ino)
            found = known[file] = known.get(file) or _end_of(disk.digest(blob))
        except FileNotFoundError:
            return f"its copy of {entry.path} is missing"
        except OSError as error:
            return f"its copy of {entry.path} cannot be read: {error.strerror}"
        return "" if found == entry.digest else f"its copy of {entry.path} is damaged"


def _end_of(pieces: Generator[None, None, str]) -> str:
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return str(end.value)


def entry_of(root: Path, path: str) -> Entry:
    """As it is now, without the digest."""
    found = os.lstat(root / path)
    if stat.S_ISLNK(found.st_mode):
        return Entry(path, LINK, leads=os.readlink(root / path))
    return Entry(
        path, FILE, found.st_size, stat.S_IMODE(found.st_mode), found.st_mtime_ns, "", "", found.st_ino,
        found.st_ctime_ns,
    )  # fmt: skip


def _as_before(entry: Entry, earlier: list[Checkpoint]) -> Entry | None:
    for one in earlier:
        known = one.entries.get(entry.path)
        if known is not None and known.digest and known.replace(digest="") == entry:
            return known
    return None
