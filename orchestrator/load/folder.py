"""Reads the files of phases/: who may write them, which count, and whether they are text at all."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

from orchestrator.core.value import Value
from orchestrator.load.definitions import Fault

FOLDER = "phases"


class Folder(Value):
    sources: dict[str, bytes]  # file, relative to the project's root -> its bytes
    faults: tuple[Fault, ...]


def read(root: Path, *, trust: bool) -> Folder:
    try:
        everything = sorted(os.listdir(root / FOLDER))
    except (FileNotFoundError, NotADirectoryError):
        hint = "`orch init` makes one with a first phase"
        return Folder({}, (Fault(f"{FOLDER}/", None, f"there is no folder {FOLDER}/ in {root}", hint),))
    except OSError as error:
        return Folder({}, (Fault(f"{FOLDER}/", None, f"cannot be read: {error.strerror}", "check who may read it"),))
    names = [name for name in everything if _counts(name)]
    imported = [name for name in everything if name.startswith("_") and name.endswith(".py")]
    if not trust and (fault := _open_to_others(root, sorted([*names, *imported]))) is not None:
        return Folder({}, (fault,))
    sources: dict[str, bytes] = {}
    faults: list[Fault] = []
    for name in names:
        found = _bytes_of(root, f"{FOLDER}/{name}")
        if isinstance(found, Fault):
            faults.append(found)
        else:
            sources[f"{FOLDER}/{name}"] = found
    if not names:
        faults.append(Fault(f"{FOLDER}/", None, "holds no .py or .toml file", "`orch init` writes a first phase"))
    return Folder(sources, tuple(faults))


def _counts(name: str) -> bool:
    return name.endswith((".py", ".toml")) and not name.startswith((".", "_"))


def _open_to_others(root: Path, names: list[str]) -> Fault | None:
    """Whoever may change a phase may run anything as the user who runs the pipeline."""
    found = [each for each in ("", *names) if _is_open_to_others(os.path.join(root, FOLDER, each))]
    if not found:
        return None
    shown = ", ".join(f"{FOLDER}/{each}" for each in found[:3]) + (
        f" and {len(found) - 3} more" if len(found) > 3 else ""
    )
    message = f"group, others or another user may write {shown}"
    return Fault(f"{FOLDER}/", None, message, f"chmod -R go-w {FOLDER} (or chown), or set trust = true in orch.toml")


def _is_open_to_others(path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False  # reading it will say what is wrong
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and not _is_of_one(found.st_gid, found.st_uid)


def _is_of_one(gid: int, uid: int) -> bool:
    """The group that many systems give each user alone: then an umask of 002 opens nothing to anybody."""
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and {*group.gr_mem} <= {user.pw_name}


def _bytes_of(root: Path, file: str) -> bytes | Fault:
    if not file.isprintable():
        return Fault(repr(file)[1:-1], None, "its name holds characters that cannot be printed", "rename it")
    try:
        if not stat.S_ISREG(os.stat(root / file).st_mode):  # opening a pipe would wait for ever
            return Fault(file, None, "is not a file", "begin its name with _ if it is no phase")
        data = (root / file).read_bytes()
    except OSError as error:
        hint = "check the link" if os.path.islink(root / file) else "check who may read it"
        return Fault(file, None, f"cannot be read: {error.strerror}", hint)
    return _refused(file, data) or data


def _refused(file: str, data: bytes) -> Fault | None:
    if not data.strip():
        return Fault(file, None, "is empty", "define a phase in it, or remove it")
    if b"\0" in data:
        return Fault(file, _line_at(data, data.index(b"\0")), "holds a NUL byte: it is not text", "write it as UTF-8")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte 0x{data[error.start]:02x}"
        return Fault(file, _line_at(data, error.start), message, "save it as UTF-8")
    return None


def _line_at(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1
