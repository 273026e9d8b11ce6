"""What real processes did to the files that must survive, out of strace's record, as operations of a platter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.crash.platter import Op

CALLS = "openat,write,pwrite64,fsync,fdatasync,rename,renameat2,unlink,unlinkat,truncate,ftruncate,mkdir"
_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OPEN = re.compile(r"^\d+<((?:\\x[0-9a-f]{2})*)")
UNFINISHED = " <unfinished ...>"


def strace(record: Path) -> tuple[str, ...]:
    """In front of a command: every process below it is recorded, with each byte that it writes."""
    return (
        "strace",
        "-f",
        "-y",
        "-xx",
        "-s",
        "1000000",
        "-qq",
        "-e",
        f"trace={CALLS}",
        "-e",
        "signal=none",
        "-o",
        str(record),
    )


def operations(record: Path, system: Path) -> list[Op]:
    return list(_Reading(system).ops(record))


class _Reading:
    def __init__(self, system: Path) -> None:
        self._parent = str(system.parent) + "/"
        self._sizes: dict[str, int] = {}

    def ops(self, record: Path) -> Iterator[Op]:
        begun: dict[str, str] = {}
        for line in record.read_text("ascii").splitlines():
            found = _LINE.match(line)
            if found is None:
                continue
            pid, rest = found[1], found[2]
            if rest.endswith(UNFINISHED):
                begun[pid] = rest.removesuffix(UNFINISHED)
                continue
            if resumed := _RESUMED.match(rest):
                rest = begun.pop(pid, "") + resumed[1]
            if (call := _CALL.match(rest)) and int(call[3]) >= 0:
                yield from self._ops(call[1], call[2], int(call[3]))

    def _ops(self, name: str, told: str, result: int) -> Iterator[Op]:
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(told)]
        if name in ("write", "pwrite64", "fsync", "fdatasync", "ftruncate"):
            opened = _OPEN.match(told)
            path = self._kept(bytes.fromhex(opened[1].replace("\\x", ""))) if opened else None
            if path is not None:
                yield from self._to_open_file(name, path, told, texts, result)
        elif texts and (path := self._kept(texts[0])) is not None:
            yield from self._to_name(name, path, told, texts)
        elif name == "rename" and (path := self._kept(texts[1])) is not None:
            raise AssertionError(f"renamed into what is followed, from outside: {path}")

    def _to_open_file(self, name: str, path: str, told: str, texts: list[bytes], result: int) -> Iterator[Op]:
        if name in ("fsync", "fdatasync"):
            yield Op("sync" if path in self._sizes else "sync_folder", path)
        elif name == "ftruncate":
            yield Op("truncate", path, offset=int(told.rpartition(", ")[2]))
            self._sizes[path] = int(told.rpartition(", ")[2])
        elif result:
            at = self._sizes[path] if name == "write" else int(told.rpartition(", ")[2])
            yield Op("write", path, data=texts[0][:result], offset=at)
            self._sizes[path] = max(self._sizes[path], at + result)

    def _to_name(self, name: str, path: str, told: str, texts: list[bytes]) -> Iterator[Op]:
        if name == "openat" and "O_CREAT" in told and path not in self._sizes:
            self._sizes[path] = 0
            yield Op("create", path)
        elif name == "openat" and "O_TRUNC" in told:
            self._sizes[path] = 0
            yield Op("truncate", path)
        elif name == "rename":
            target = self._kept(texts[1]) or "system/elsewhere"
            self._sizes[target] = self._sizes.pop(path)
            yield Op("rename", path, to=target)
        elif name in ("unlink", "unlinkat"):
            self._sizes.pop(path, None)
            yield Op("unlink", path)
        elif name == "truncate":
            self._sizes[path] = int(told.rpartition(", ")[2])
            yield Op("truncate", path, offset=self._sizes[path])
        elif name == "mkdir":
            yield Op("mkdir", path)

    def _kept(self, full: bytes) -> str | None:
        """The state, the journal and outcomes; "." is the project's folder."""
        path = full.decode(errors="replace")
        if path + "/" == self._parent:
            return "."
        name = path.removeprefix(self._parent) if path.startswith(self._parent) else ""
        return name if _KEPT.fullmatch(name) else None


_KEPT = re.compile(r"system|system/\.?state\.json.*|system/journal(/.*)?|system/agents(/[^/]+(/outcomes(/.*)?)?)?")
