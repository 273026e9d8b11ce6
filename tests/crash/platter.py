"""What a disk may hold after the power was cut: recorded operations in, every state that they allow out.

An operation is a value. Synced is safe; of what was not synced anything may be there: nothing, a part, the right length
in zeros, garbage, or all of it; and the names of files live in their folders, which are synced apart from them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

State = dict[str, bytes]  # path -> content; folders are there as far as their files are
GARBAGE = random.Random(7).randbytes(1 << 16)
BORDERS = (512, 4096)


class Op(NamedTuple):
    kind: str  # create, write, truncate, sync, sync_folder, rename, unlink, mkdir; "ack": somebody was told that it is done
    path: str
    to: str = ""
    data: bytes = b""
    offset: int = 0


class _File:
    """An inode: what is safe of it, and what was done since."""

    def __init__(self) -> None:
        self.safe = b""
        self.was_synced = False
        self.later: list[Op] = []

    def synced(self) -> None:
        self.safe, self.was_synced, self.later = self.content(), True, []

    def content(self, ops: list[Op] | None = None) -> bytes:
        data = bytearray(self.safe)
        for op in self.later if ops is None else ops:
            if op.kind == "truncate":
                del data[op.offset :]
                data.extend(bytes(op.offset - len(data)))
            else:
                data.extend(bytes(max(0, op.offset - len(data))))
                data[op.offset : op.offset + len(op.data)] = op.data
        return bytes(data)


class _Name(NamedTuple):
    """A name that changed since its folder was synced: then it meant `file`, or nothing."""

    path: str
    file: int | None
    folder: str


class Platter:
    """Fed with operations; at any moment it can say what would be left."""

    def __init__(self, start: State | None = None) -> None:
        self._files: list[_File] = []
        self._safe_names: dict[str, int] = {}
        self._now: dict[str, int] = {}
        self._moves: list[list[_Name]] = []  # of one operation each: a rename changes two names at once
        self._loose: list[str] = []  # folders that may not be there, and then nothing in them
        for path, data in (start or {}).items():
            self.feed(Op("create", path))
            self._files[self._now[path]].safe = data
        self._safe_names, self._moves = dict(self._now), []

    def feed(self, op: Op) -> None:
        if op.kind == "create":
            if op.path not in self._now:
                self._files.append(_File())
                self._move([(op.path, len(self._files) - 1)])
        elif op.kind in ("write", "truncate"):
            self._files[self._now[op.path]].later.append(op)
        elif op.kind == "sync":
            self._files[self._now[op.path]].synced()
        elif op.kind == "sync_folder":
            self._sync_folder(op.path)
        elif op.kind == "rename":
            self._move([(op.to, self._now[op.path]), (op.path, None)])
        elif op.kind == "unlink" and op.path in self._now:
            self._move([(op.path, None)])
        elif op.kind == "mkdir":
            self._loose.append(op.path)

    def _move(self, names: list[tuple[str, int | None]]) -> None:
        self._moves.append([_Name(path, file, str(Path(path).parent)) for path, file in names])
        for path, file in names:
            self._now.pop(path, None) if file is None else self._now.__setitem__(path, file)

    def _sync_folder(self, folder: str) -> None:
        """Its names are safe now, and the other half of a rename with them."""
        kept: list[list[_Name]] = []
        for move in self._moves:
            if any(name.folder == folder for name in move):
                self._safe_names = self._with(self._safe_names, [move])
            else:
                kept.append(move)
        self._moves = kept
        self._loose = [one for one in self._loose if str(Path(one).parent) != folder]

    @staticmethod
    def _with(names: dict[str, int], moves: list[list[_Name]]) -> dict[str, int]:
        found = dict(names)
        for move in moves:
            for name in move:
                found.pop(name.path, None) if name.file is None else found.__setitem__(name.path, name.file)
        return found

    # ---- what could be left

    def states(self, every_byte: bool = True) -> Iterator[State]:
        """Each of them once, the likeliest first."""
        seen: set[int] = set()
        for state in self._states(every_byte):
            for one in (state, *(_without(state, folder) for folder in self._loose)):
                mark = hash(frozenset(one.items()))
                if mark not in seen:
                    seen.add(mark)
                    yield one

    def _states(self, every_byte: bool) -> Iterator[State]:
        dirty = [index for index, file in enumerate(self._files) if file.later]
        all_now, all_safe = self._contents(), {index: self._files[index].safe for index in dirty}
        for moves in self._subsets(self._moves):
            names = self._with(self._safe_names, moves)
            yield self._state(names, all_now)
            yield self._state(names, all_now | all_safe)
            for index in dirty:
                for data in self._torn(self._files[index], every_byte):
                    yield self._state(names, all_now | {index: data})
                    if len(dirty) > 1:
                        yield self._state(names, all_now | all_safe | {index: data})

    def _contents(self) -> dict[int, bytes]:
        return {index: file.content() for index, file in enumerate(self._files)}

    @staticmethod
    def _state(names: dict[str, int], contents: dict[int, bytes]) -> State:
        return {path: contents[index] for path, index in names.items()}

    @staticmethod
    def _subsets(ops: list[Any]) -> Iterator[list[Any]]:
        """All, none, every prefix, and all but any one or two."""
        yield ops
        for end in range(len(ops)):
            yield ops[:end]
        for one in range(len(ops)):
            yield [*ops[:one], *ops[one + 1 :]]
            for other in range(one + 1, len(ops)):
                yield [*ops[:one], *ops[one + 1 : other], *ops[other + 1 :]]

    def _torn(self, file: _File, every_byte: bool) -> Iterator[bytes]:
        whole, safe = file.content(), file.safe
        for some in self._subsets(file.later):
            yield file.content(some)
        if any(op.kind == "truncate" for op in file.later):
            return
        first = min(op.offset for op in file.later)
        keeps = max(first, len(safe))  # what is written over was there, and is old or new; what is new may be anything
        for end in range(first, len(safe)):
            yield whole[:end] + safe[end:]
        step = 1 if every_byte else max(1, (len(whole) - keeps) // 24)
        borders = {b for size in BORDERS for b in range(size, len(whole), size) if b > keeps}
        for end in sorted({*range(keeps, len(whole), step), *borders}):
            yield whole[:end]
            yield whole[:end] + bytes(len(whole) - end)
        yield whole[:keeps] + GARBAGE[: len(whole) - keeps]
        middle = (keeps + len(whole)) // 2
        yield whole[:middle] + GARBAGE[: len(whole) - middle]
        yield whole + whole[middle:]


def _without(state: State, folder: str) -> State:
    return {path: data for path, data in state.items() if not path.startswith(folder + "/")}


def lay(folder: Path, state: State, before: State | None) -> None:
    """`folder` holds this state and nothing else; `before` is what was laid there last and has not been touched since."""
    known = before or {}
    for name in known.keys() - state.keys():
        (folder / name).unlink(missing_ok=True)
    for name, data in state.items():
        if known.get(name) != data:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


# ---- recording in this process


class Recorder:
    def __init__(self, folder: Path) -> None:
        self._folder, self.ops = str(folder), list[Op]()
        self._open: dict[int, str] = {}

    def ack(self, what: str) -> None:
        self.ops.append(Op("ack", what))

    def name(self, path: object) -> str | None:
        """Within the folder, and a plain file's."""
        full = os.path.abspath(os.fspath(path))  # type: ignore[call-overload]
        return os.path.relpath(full, self._folder) if full.startswith(self._folder + "/") else None


@contextmanager
def recorded(folder: Path) -> Iterator[Recorder]:
    """Whatever `os` is told about files in the folder meanwhile."""
    seen = Recorder(folder)
    real = {name: getattr(os, name) for name in _RECORDED}

    def opened(path: Any, flags: int, *more: Any, **keys: Any) -> int:
        name = seen.name(path) if isinstance(path, str | os.PathLike) else None
        is_new = name is not None and not os.path.lexists(path)
        fd = int(real["open"](path, flags, *more, **keys))
        if str(path) == seen._folder:
            seen._open[fd] = "."
        if name is not None:
            seen._open[fd] = name
            if is_new and flags & os.O_CREAT:
                seen.ops.append(Op("create", name))
            elif flags & os.O_TRUNC:
                seen.ops.append(Op("truncate", name))
        return fd

    def written(fd: int, data: Any) -> int:
        at = os.fstat(fd).st_size if fd in seen._open else 0  # everything is appended, or written to a new file
        count = int(real["write"](fd, data))
        if fd in seen._open:
            seen.ops.append(Op("write", seen._open[fd], data=bytes(data[:count]), offset=at))
        return count

    def written_at(fd: int, data: Any, offset: int) -> int:
        count = int(real["pwrite"](fd, data, offset))
        if fd in seen._open:
            seen.ops.append(Op("write", seen._open[fd], data=bytes(data[:count]), offset=offset))
        return count

    def synced(which: str) -> Any:
        def sync(fd: int) -> None:
            real[which](fd)
            if fd in seen._open:
                name = seen._open[fd]
                is_folder = os.path.isdir(os.path.join(seen._folder, name))
                seen.ops.append(Op("sync_folder" if is_folder else "sync", name))

        return sync

    def cut(which: str) -> Any:
        def truncate(what: Any, size: int) -> None:
            real[which](what, size)
            name = seen._open.get(what) if isinstance(what, int) else seen.name(what)
            if name is not None:
                seen.ops.append(Op("truncate", name, offset=size))

        return truncate

    def renamed(source: Any, target: Any, **keys: Any) -> None:
        real["rename"](source, target, **keys)
        old, new = str(seen.name(source)), str(seen.name(target))
        seen.ops.append(Op("rename", old, to=new))
        seen._open.update({fd: new for fd, name in seen._open.items() if name == old})

    def unlinked(path: Any, **keys: Any) -> None:
        real["unlink"](path, **keys)
        seen.ops.append(Op("unlink", str(seen.name(path))))

    def made(path: Any, *more: Any, **keys: Any) -> None:
        real["mkdir"](path, *more, **keys)
        seen.ops.append(Op("mkdir", str(seen.name(path))))

    def closed(fd: int) -> None:
        seen._open.pop(fd, None)
        real["close"](fd)

    fakes = {
        "open": opened, "write": written, "pwrite": written_at, "fsync": synced("fsync"), "fdatasync": synced("fdatasync"),
        "truncate": cut("truncate"), "ftruncate": cut("ftruncate"), "rename": renamed, "unlink": unlinked, "mkdir": made, "close": closed,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, fake in fakes.items():
            patch.setattr(os, name, fake)
        yield seen


_RECORDED = (
    "open",
    "write",
    "pwrite",
    "fsync",
    "fdatasync",
    "truncate",
    "ftruncate",
    "rename",
    "unlink",
    "mkdir",
    "close",
)
