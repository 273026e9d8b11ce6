"""system/state.lock: who may write. flock through filelock; it goes with the process, whatever kills that.

The file's text (who holds it, for what, since when) is for messages only; the lock is the kernel's.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from orchestrator import disk
from orchestrator.core.formats import MALFORMED
from orchestrator.core.names import Identity, epoch, iso
from orchestrator.core.value import Value
from orchestrator.disk import unwritable
from orchestrator.errors import RunActive, StateUnwritable

RUN, TURN = "run", "turn"


class Holder(Value):
    """What the lock file says of whoever holds it."""

    identity: Identity
    purpose: str
    since: str
    command: str

    def __str__(self) -> str:
        where = self.identity.host.split("/")[0]
        return f"pid {self.identity.pid} on {where}, since {self.since}: {self.command}"


class StateLock:
    """Held from `acquire` to `release`, or to the end of the process."""

    def __init__(self, system: Path) -> None:
        from filelock import FileLock  # only who writes needs it

        self.path = system / "state.lock"
        self._lock = FileLock(self.path, mode=disk.PRIVATE_FILE, timeout=0, fallback_to_soft=False, thread_local=False)

    def acquire(self, purpose: str, identity: Identity, command: str, now: float) -> bool:
        """True if it is ours now; False if somebody else holds it."""
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise unwritable(error, self.path) from error
            raise StateUnwritable(
                f"{self.path}: this file system does not support locks", "put system/ on a local file system"
            ) from error
        self._sign(Holder(identity, purpose, iso(now), command))
        return True

    def still_mine(self) -> None:
        """Deleted or replaced while we hold it: somebody else may hold "the" lock too, so nothing more is written."""
        fd = self._fd
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            there = None
        ours = os.fstat(fd)
        if there is None or (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev):
            raise StateUnwritable(
                f"{self.path} was {'deleted' if there is None else 'replaced'} while this run held it",
                "nothing more was written; never delete the lock: it goes with its process. `orch run` goes on",
            )

    def release(self) -> None:
        self._lock.release()

    @property
    def _fd(self) -> int:
        fd = self._lock._context.lock_file_fd
        assert fd is not None, "the lock is not held"
        return int(fd)

    def _sign(self, holder: Holder) -> None:
        data = json.dumps(holder.as_dict()).encode()
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, data, 0)
        except OSError as error:
            raise unwritable(error, self.path) from error


def warnings_of(system: Path) -> list[str]:
    """A network file system may lock, and may not: said, not refused."""
    kind = disk.file_system(system)
    if kind not in _NETWORK:
        return []
    return [f"{system} is on a network file system ({kind}): locks and syncs may not mean there what they say"]


_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"}


def holder(system: Path) -> Holder | None:
    """Who says that they hold the lock; None if nobody can be read from it."""
    try:
        data: dict[str, Any] = json.loads(disk.read(system / "state.lock"))
        epoch(data["since"])
        return Holder(Identity.from_dict(data["identity"]), str(data["purpose"]), data["since"], str(data["command"]))
    except (OSError, *MALFORMED):
        return None


def active(found: Holder | None) -> RunActive:
    who = str(found) if found else "somebody who is just starting"
    return RunActive(f"another run is active ({who})", "`orch status` shows it, `orch cancel` ends it")
