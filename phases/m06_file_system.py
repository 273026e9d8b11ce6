"""Phase -6: whether the file system under system/ keeps the promises that the state is built on, and at what cost."""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import ConfigurationFault, Context, disk, phase
from phases._ground import Say, child, milliseconds, sampled, scratch, spread

NETWORK = set("nfs nfs4 cifs smb3 smbfs ceph lustre afs gpfs beegfs glusterfs 9p virtiofs".split())
NETWORK_FUSE = NETWORK | set("sshfs s3fs rclone gcsfuse".split())
IN_MEMORY = {"tmpfs", "ramfs"}
LOOKING_SECONDS = 0.3
SAMPLES = 40
SLOW_COMMIT_MS = 100.0
LINES = 200

Replace = Callable[[Path, bytes], None]


@phase(-6, needs=[-8], timeout="60s", retries=0)
def file_system(ctx: Context) -> dict[str, Any]:
    """Try the file system: renames, locks, syncs, sockets."""
    with scratch(ctx) as folder:
        figures = {**of_mount(folder), **of_room(folder)}
        promises = (replaces_atomically, locks_exclude, appends_whole_lines, sockets_connect, pipes_work, syncs_cost)
        for promise in ctx.track(promises, text="promises of the file system"):
            figures |= promise(folder)
    found = list(warnings(figures))
    return {"verdict": verdict(figures), "figures": figures, "warnings": found}


def verdict(figures: dict[str, Any]) -> str:
    return (
        f"{figures['type']}: renames are atomic ({figures['looks']} looks), locks go with their process; "
        f"a durable append takes {figures['append_sync_median_ms']:.2f} ms, "
        f"a replacement {figures['replace_sync_median_ms']:.2f} ms"
    )


def warnings(figures: dict[str, Any]) -> Iterator[str]:
    kind, where = figures["type"], f"system/ lies on {figures['mount']} ({figures['type']})"
    if is_network(kind):
        yield f"{where}, a file system shared with others: locks and syncs depend on its server; a local disk is safer"
    if kind in IN_MEMORY:
        yield f"{where}, which is memory: the state is lost with the power"
    if kind in ("overlay", "aufs"):
        yield f"{where}, a container's own layer: the state is gone with the container; mount a volume there"
    if figures["inodes_free"] is not None and figures["inodes_free"] < 10_000:
        yield f"only {figures['inodes_free']} more files can be made there"
    if figures["append_sync_p95_ms"] > SLOW_COMMIT_MS:
        yield f"a durable append takes up to {figures['append_sync_p95_ms']:.0f} ms: every decision waits for one"
    if not figures["named_pipes"]:
        yield "no named pipes can be made there: phases that use mkfifo will fail"


def broken(folder: Path, what: str) -> ConfigurationFault:
    mount = of_mount(folder)
    return ConfigurationFault(
        f"{folder.parent} ({mount['type']}, mounted at {mount['mount']}): {what}. "
        "The state would not be safe there: put the project on a local disk (ext4, xfs, btrfs)"
    )


# What is mounted


def of_mount(folder: Path) -> dict[str, Any]:
    """The mount with the longest path that `folder` lies below; of several at one place the last one holds."""
    real, best, kind = os.path.realpath(folder), "", "unknown"
    for line in Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines():
        point, found = [plain(word) for word in line.split()[1:3]]
        if len(point) >= len(best) and (real + "/").startswith(point.rstrip("/") + "/"):
            best, kind = point, found
    return {"mount": best, "type": kind}


def plain(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), word)


def is_network(kind: str) -> bool:
    return kind in NETWORK or kind.removeprefix("fuse.") in NETWORK_FUSE


def of_room(folder: Path) -> dict[str, Any]:
    found = os.statvfs(folder)
    return {
        "disk_free_bytes": found.f_frsize * found.f_bavail,
        "inodes_free": found.f_favail if found.f_files else None,  # some file systems make them as they need them
    }


# A rename replaces: whoever looks sees the old bytes or the new ones, at any instant


class Looks(NamedTuple):
    looks: int
    versions: int
    bad: int


def replaces_atomically(folder: Path) -> dict[str, Any]:
    seen = look_while_replaced(folder / "replaced", lambda path, data: disk.replace(path, data, durable=False))
    if seen.bad:
        raise broken(
            folder, f"a rename does not replace atomically ({seen.bad} of {seen.looks} looks saw no whole file)"
        )
    return {"looks": seen.looks, "versions_seen": seen.versions}


def look_while_replaced(path: Path, replace: Replace) -> Looks:
    """One process replaces a file as fast as it can while this one reads it."""

    def write(say: Say) -> None:
        for version in itertools.count():
            replace(path, b"%08d" % version * 1024)
            if version == 0:
                say("begun")

    with child(write) as writer:
        writer.hear()
        until = time.monotonic() + LOOKING_SECONDS
        looks = bad = 0
        versions: set[bytes] = set()
        while time.monotonic() < until or (len(versions) < 2 and looks < 100_000):
            data = whole_or_nothing(path)
            looks += 1
            bad += data is None
            versions.add(data or b"")
    return Looks(looks, len(versions), bad)


def whole_or_nothing(path: Path) -> bytes | None:
    """The version that the file holds; None if it is missing, cut, or of two versions."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    version = data[:8]
    return version if version and data == version * 1024 else None


# A lock excludes another process, and goes with its holder, whatever kills that


def locks_exclude(folder: Path) -> dict[str, Any]:
    path = folder / "lock"
    path.touch()

    def hold(say: Say) -> None:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            say("held")
            select.select([], [], [])

    with child(hold) as holder, open(path, "rb") as file:
        if holder.hear() != "held":
            raise broken(folder, "files cannot be locked (flock)")
        if try_lock(file.fileno()):
            raise broken(folder, "a lock does not keep another process out (flock)")
        holder.kill()
        waited = wait_for_lock(file.fileno(), 2.0)
    if waited is None:
        raise broken(folder, "a lock stays although its holder was killed (flock)")
    return {"lock_freed_ms": milliseconds(waited)}


def try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(fd: int, patience: float) -> float | None:
    began = time.perf_counter()
    while not try_lock(fd):
        if time.perf_counter() - began > patience:
            return None
        time.sleep(0.001)
    return time.perf_counter() - began


# Lines that two processes append are whole, and all are there


def appends_whole_lines(folder: Path) -> dict[str, Any]:
    path = folder / "appended"
    path.touch()
    with child(lambda say: append(path, b"a", say)) as one, child(lambda say: append(path, b"b", say)) as two:
        finished = one.hear() == two.hear() == "finished"
    lines = path.read_bytes().splitlines()
    whole = {letter: sum(line == letter * 120 for line in lines) for letter in (b"a", b"b")}
    if not finished or set(whole.values()) != {LINES} or len(lines) != 2 * LINES:
        raise broken(folder, f"lines that two processes append are harmed ({whole}, {len(lines)} of {2 * LINES} lines)")
    return {"lines_appended_by_two": len(lines)}


def append(path: Path, letter: bytes, say: Say) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for _ in range(LINES):
        os.write(fd, letter * 120 + b"\n")
    say("finished")


# What processes meet at


def sockets_connect(folder: Path) -> dict[str, Any]:
    """By way of the folder's descriptor, as orch does it: a path of more than 107 bytes cannot be bound."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    address = f"/proc/self/fd/{fd}/socket"
    try:
        with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as calling:
            listening.bind(address)
            listening.listen()
            calling.settimeout(5)
            calling.connect(address)
    except OSError as error:
        raise broken(folder, f"Unix sockets cannot be used ({error.strerror or error})") from error
    finally:
        os.close(fd)
    return {"unix_sockets": True}


def pipes_work(folder: Path) -> dict[str, Any]:
    try:
        os.mkfifo(folder / "pipe")
    except OSError:
        return {"named_pipes": False}
    return {"named_pipes": True}


# What it costs to be sure


def syncs_cost(folder: Path) -> dict[str, Any]:
    line = b"x" * 400 + b"\n"
    appender = disk.Appender(folder / "synced")
    fd = os.open(folder / "rewritten", os.O_RDWR | os.O_CREAT)

    def rewrite() -> None:
        os.pwrite(fd, line, 0)
        os.fdatasync(fd)

    try:
        return {
            **spread("rewrite_sync", sampled(rewrite, SAMPLES)),
            **spread("append_sync", sampled(lambda: appender.append(line, durable=True), SAMPLES)),
            **spread("replace_sync", sampled(lambda: disk.replace(folder / "whole", line * 20, durable=True), SAMPLES)),
            **spread("folder_sync", sampled(lambda: disk.sync_folder(folder), SAMPLES)),
        }
    finally:
        appender.close()
        os.close(fd)
