"""fsck of all in system/ but state and journal: what is of the wrong kind, open to others, left over, or unreadable."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from orchestrator import clock, disk, process
from orchestrator.core.flaw import Close, Cut, Drop, Flaw, Own
from orchestrator.core.names import span
from orchestrator.errors import OrchError
from orchestrator.process.table import entry_of
from orchestrator.store import asks, heartbeat, lock, schedules
from orchestrator.store.keeping import FOLDER as BACKUP

COMMITTED = ("README.md", ".gitignore")  # the project's, not orch's
LONG = 3600.0  # seconds after which nobody waits for an answer any more
LOCK = "state.lock"
SET_ASIDE = (".damaged", ".unreadable", ".withdrawn")
_OTHERS, _WRITE = 0o077, 0o022
_DRAFT = re.compile(r"\..+\.(\d+)\.new")
_KINDS = {
    disk.FOLDER: (
        "journal", "asks", "agents", "agents/*", "agents/*/outcomes", "logs", "logs/phases", "logs/phases/*", "cache",
        "cache/definitions", "cache/made", "cache/made/*", "backup", "schedules",
        "logs/cron",
        "outbox", "outbox/waiting", "outbox/waiting/*", "outbox/refused", "outbox/once",
    ),
    disk.FILE: (
        "state.json", LOCK, "journal/*.jsonl", "journal/*.snapshot.json", "asks/*.json", "asks/*.taken",
        "asks/*.answer", "agents/*/identity.json", "agents/*/outcomes/*.json", "logs/*.json", "logs/*.jsonl",
        "logs/*.log", "logs/phases/*/*.log", "cache/definitions/*.json", "cache/digests",
        "cache/made/*/*.json", "schedules/*.json", "schedules/*.next", "schedules/*.sh", "schedules/*.said",
        "logs/cron/*.log",
        "outbox/*.json", "outbox/sender.lock", "outbox/waiting/*/*.json", "outbox/refused/*.json",
    ),
    disk.PIPE: ("asks/bell",),
}  # fmt: skip
_JUDGED = ("state.json", "journal/*.jsonl", "journal/*.snapshot.json")  # by what they say: another says so
_OF_PHASES = "agents/*/work/*"  # written by phases, as they please


def untidiness(system: Path, *, is_live: bool) -> list[Flaw]:
    """`is_live`: a run is active, and may be about to do away with some of it itself."""
    found = [*_kinds_and_modes(system), *_lock(system), *_heartbeat(system)]
    found += _schedules(system)
    found += [flaw for flaw in _asks(system) if not is_live or not flaw.steps]
    if not is_live:
        found += _left_over(system)
    return found


def _kinds_and_modes(system: Path) -> Iterator[Flaw]:
    whole = os.stat(system)
    if whole.st_mode & _WRITE:
        yield _closing(system, "", whole.st_mode, 0o755)
    for folder, folders, files in os.walk(system):
        here = os.path.relpath(folder, system)
        if here == ".":
            folders[:] = [name for name in folders if name != BACKUP]
        for name in sorted((*folders, *files)):
            inner = name if here == "." else f"{here}/{name}"
            if inner not in COMMITTED:
                yield from _one(system, inner, whole)


def _one(system: Path, inner: str, whole: os.stat_result) -> Iterator[Flaw]:
    try:
        found = os.stat(system / inner)
    except FileNotFoundError:
        if not os.path.lexists(system / inner):
            return  # gone meanwhile
        found = os.lstat(system / inner)
    except OSError:
        found = os.lstat(system / inner)
    kind, wanted = disk.kind_of(found.st_mode), _wanted(inner)
    if wanted is not None and kind != wanted:
        if inner == BACKUP:
            why = "no copy can be kept, so nothing can be repaired: move it away"
            yield Flaw(_name(system, inner), f"{kind} stands where {wanted} should", why, "")
        elif kind == disk.LINK or not any(fnmatchcase(inner, pattern) for pattern in _JUDGED):
            yield _flaw(system, inner, f"{kind} stands where {wanted} should", "it cannot be used", Drop(inner))
        return
    if kind == disk.LINK or fnmatchcase(inner, _OF_PHASES):
        return
    right = disk.PRIVATE_FOLDER if kind == disk.FOLDER else disk.PRIVATE_FILE
    if kind in (disk.FILE, disk.FOLDER, disk.PIPE) and (found.st_mode & _OTHERS or ~found.st_mode & right):
        yield _closing(system, inner, found.st_mode, right)
    if found.st_uid != whole.st_uid:
        yield _foreign(system, inner, found.st_uid, whole)


def _wanted(inner: str) -> str | None:
    depth = inner.count("/")
    for kind, patterns in _KINDS.items():
        if any(pattern.count("/") == depth and fnmatchcase(inner, pattern) for pattern in patterns):
            return kind
    return None


def _closing(system: Path, inner: str, mode: int, right: int) -> Flaw:
    what = f"its mode is {mode & 0o777:04o}, not {right:04o}"
    why = "others may read or change what is orch's own" if mode & _OTHERS else "orch cannot use it"
    return Flaw(_name(system, inner), what, why, f"chmod {right:04o}", steps=(Close(inner, right),))


def _foreign(system: Path, inner: str, user: int, whole: os.stat_result) -> Flaw:
    what = f"it belongs to user {user}, {system.name}/ to user {whole.st_uid}"
    if os.geteuid() != 0:
        why = f"orch may not be able to use it: as root, chown -R {whole.st_uid} {system}"
        return Flaw(_name(system, inner), what, why, "")
    step = Own(inner, whole.st_uid, whole.st_gid)
    return Flaw(_name(system, inner), what, "orch may not be able to use it", f"chown {whole.st_uid}", steps=(step,))


def _lock(system: Path) -> Iterator[Flaw]:
    path = system / LOCK
    if path.is_file() and path.stat().st_size and lock.holder(system) is None:
        why = "the lock holds all the same; only nobody can say who has it"
        yield _flaw(system, LOCK, "nobody can be read from it", why, Cut(LOCK, 0), "sign it anew")


def _heartbeat(system: Path) -> Iterator[Flaw]:
    inner = "logs/heartbeat.json"
    if (system / inner).is_file() and heartbeat.read(system, clock.now()) is None:
        yield _flaw(system, inner, "it cannot be read", "nobody can tell whether the loop goes round", Drop(inner))


def _schedules(system: Path) -> Iterator[Flaw]:
    for name in schedules.names(system):
        path = schedules.path_of(system, name)
        try:
            if path.is_file():
                schedules.read(system, name)
        except OrchError as error:
            why = f"nothing begins when it is due: {error.remedy}"
            yield Flaw(_name(system, f"{schedules.FOLDER}/{path.name}"), "it cannot be read", why, "")


def _asks(system: Path) -> Iterator[Flaw]:
    folder = system / "asks"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        inner = f"asks/{path.name}"
        if path.suffix not in (".json", ".taken") or path.name.startswith(".") or not path.is_file():
            continue
        age = clock.now() - path.lstat().st_mtime
        if path.suffix == ".taken" and path.with_suffix(".answer").exists():
            yield _flaw(system, inner, "it is answered already", "nobody needs it any more", Drop(inner))
        elif (ask := asks.parse(path)) is None:
            yield _flaw(system, inner, "it cannot be read", "nobody knows what was asked: ask again", Drop(inner))
        elif age > LONG:
            what = f"`{ask.verb}`, asked by {ask.by}, has been waiting for {span(age)}"
            why = "nobody waits for the answer, and the next run would still do it"
            yield _flaw(system, inner, what, why, Drop(inner), "withdraw it")
    answers = sorted(folder.glob("*.answer"), key=lambda path: path.lstat().st_mtime) if folder.is_dir() else []
    for path in answers[: -asks.ANSWERS_KEPT]:
        if clock.now() - path.lstat().st_mtime > LONG:
            yield _flaw(system, f"asks/{path.name}", "an old answer", "there are too many", Drop(f"asks/{path.name}"))


def _left_over(system: Path) -> Iterator[Flaw]:
    for path in sorted(system.rglob("*")):
        inner = str(path.relative_to(system))
        if inner.startswith(f"{BACKUP}/") and inner.count("/") > 1:
            continue  # a copy of what it was
        if fnmatchcase(inner, _OF_PHASES):
            continue
        if (found := _DRAFT.fullmatch(path.name)) is not None and _is_over(int(found[1])):
            yield _flaw(system, inner, "a draft that nobody finished", "it takes room, and was never used", Drop(inner))
        elif path.suffix in SET_ASIDE:
            yield _flaw(system, inner, "it was set aside", "nobody reads it", Drop(inner), "move it into the backup")
        elif fnmatchcase(inner, "journal/*.snapshot.json") and not _has_lines(path):
            yield _flaw(system, inner, "no lines follow this snapshot", "nobody reads it", Drop(inner))


def _has_lines(base: Path) -> bool:
    return base.with_name(base.name.replace(".snapshot.json", ".jsonl")).exists()


def _is_over(pid: int) -> bool:
    found = entry_of(pid) if pid < 2**31 else None
    return pid != os.getpid() and (found is None or found.is_over)


def _flaw(
    system: Path, inner: str, what: str, why: str, step: Drop | Cut, repair: str = "move it into the backup"
) -> Flaw:
    return Flaw(_name(system, inner), what, why, repair, steps=(step,))


def _name(system: Path, inner: str) -> str:
    return f"{system.name}/{inner}"


def is_held(system: Path) -> bool:
    """Whether somebody who says that they hold the lock is alive; what they write just now is no flaw."""
    found = lock.holder(system)
    return found is not None and process.is_alive(found.identity) != process.DEAD
