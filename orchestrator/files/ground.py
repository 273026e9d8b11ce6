"""Ground: the project's files as content: lists of them with digests, and the lists kept to name what changed."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Generator, Sequence
from functools import cached_property
from pathlib import Path

from orchestrator import disk
from orchestrator.core.formats import MALFORMED
from orchestrator.core.value import Value
from orchestrator.files.memo import Memo, mark_of
from orchestrator.files.patterns import Found, find, is_wild

INPUTS, OUTPUTS, OVER = "inputs", "outputs", "foreach"  # what a phase fans out over
_DIGITS = 32
_BLOCK = 1 << 20
_BREATH = 100  # files between two pauses


class Listing(Value):
    digest: str  # of all; empty where one could not be read
    files: dict[str, str]  # path -> the digest of its content
    fault: tuple[str, str] | None = None  # the first that could not be read, and why


Work = Generator[None, None, Listing]


class Ground:
    def __init__(self, root: Path) -> None:
        self._root, self._cache = root, root / "system" / "cache"

    @cached_property
    def memo(self) -> Memo:
        return Memo(self._cache / "digests")

    def tidy(self) -> None:
        if "memo" in self.__dict__:
            self.memo.compact()

    def listing(self, patterns: Sequence[str]) -> Work:
        """What is there, in slices. What changes while it is looked at is told as it was read."""
        self.memo.refresh()
        found = Found()
        for at, _ in enumerate(find(self._root, patterns, found)):
            if at % _BREATH == 0:
                yield
        files, fault = dict[str, str](), None
        for at, (path, status) in enumerate(sorted(found.files.items())):
            if at % _BREATH == 0:
                yield
            try:
                files[path] = (yield from self._digest(path, status)) if not isinstance(status, OSError) else ""
                problem = status if isinstance(status, OSError) else None
            except OSError as error:
                problem = error
            if problem is not None and fault is None:
                fault = path, problem.strerror or str(problem)
        self.memo.flush()
        return Listing("" if fault else digest_of(files), files, fault)

    def missing(self, patterns: Sequence[str]) -> list[str]:
        """Those that name one file or folder which is not there. A wildcard may stand for nothing."""
        return [each for each in patterns if not is_wild(each) and not os.path.lexists(self._root / each)]

    def keep(self, number: int, kind: str, listing: Listing) -> None:
        """So that the next difference can be named; the record of a success knows only the digest."""
        path = self._kept(number, kind, listing.digest)
        if not listing.digest or path.exists():
            return
        try:
            disk.make_folder(path.parent)
            disk.replace(path, json.dumps(listing.files).encode(), durable=False)
        except OSError:
            return

    def forget(self, number: int, kind: str, *digests: str) -> None:
        """All lists of this kind but these."""
        folder = self._kept(number, kind, "").parent
        kept = {self._kept(number, kind, digest).name for digest in digests}
        try:
            for name in os.listdir(folder):
                if name.startswith(f"{kind}.") and name not in kept:
                    os.unlink(folder / name)
        except OSError:
            return

    def recall(self, number: int, kind: str, digest: str) -> dict[str, str] | None:
        """None if it is not there any more, or is not what it was."""
        try:
            files = json.loads(disk.read(self._kept(number, kind, digest)))
            return files if digest_of(files) == digest else None
        except (OSError, *MALFORMED):
            return None

    def _kept(self, number: int, kind: str, digest: str) -> Path:
        return self._cache / "made" / str(number) / f"{kind}.{digest}.json"

    def _digest(self, path: str, status: os.stat_result) -> Generator[None, None, str]:
        full = os.path.join(self._root, path)
        if stat.S_ISLNK(status.st_mode):
            return _of(b"link " + os.fsencode(os.readlink(full)))
        if not stat.S_ISREG(status.st_mode):
            return _of(disk.kind_of(status.st_mode).encode())
        known = self.memo.digest(path, status)
        if known is not None:
            return known
        total = hashlib.sha256()
        with open(os.open(full, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            while block := file.read(_BLOCK):
                total.update(block)
                if len(block) == _BLOCK:
                    yield
            after = os.fstat(file.fileno())
        digest = total.hexdigest()[:_DIGITS]
        if mark_of(before) == mark_of(after):
            self.memo.note(path, before, digest)
        return digest


def digest_of(files: dict[str, str]) -> str:
    told = "".join(f"{path}\0{digest}\n" for path, digest in sorted(files.items()))
    return _of(told.encode("utf-8", "surrogateescape"))


def _of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]
