"""The user's crontab: read and written through its own program, one change at a time, and never more than our block."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator import clock, disk, process
from orchestrator.core import crontab
from orchestrator.core.crontab import Unbalanced
from orchestrator.errors import OrchError, OutputUnwritable, UsageError

PATIENCE = 20.0  # seconds for `crontab` to answer, and for another orch to be done
_NONE = re.compile(rb"no crontab for|no such file or directory", re.IGNORECASE)
_FORBIDDEN = re.compile(rb"not allowed|permission denied|cron\.(allow|deny)", re.IGNORECASE)
_DAEMONS = ("cron", "crond", "fcron", "cronie", "dcron", "anacron", "bcron-sched")
NO_PROGRAM = "there is no crontab program here"


class NoCrontab(UsageError):
    """The program is missing, or this account may not use it."""


def read() -> str | None:
    """None: this account has none."""
    answer = _crontab("-l")
    if len(answer.out) >= process.LONGEST:
        raise UsageError("the crontab is too long to be changed here", f"more than {process.LONGEST} bytes")
    if answer.code == 0:
        return os.fsdecode(answer.out)
    if _NONE.search(answer.err + answer.out):
        return None
    raise _refused(answer)


def change(of: Callable[[str | None], str | None], draft: Path) -> None:
    """Within `alone`. What is written is read again. `draft`: a file of ours to hand it over in."""
    before = read()
    try:
        after = of(before)
    except Unbalanced as error:
        raise UsageError(
            f"the crontab is not touched: {error}", "`crontab -e`: take that line out, or put its other half back"
        ) from None
    if after != before:
        _write(after, draft)


def _write(text: str | None, draft: Path) -> None:
    if text is None:
        answer = _crontab("-r")
    else:
        answer = _install(text, draft)
        if answer.code != 0 and not text.endswith("\n"):  # some take no last line without an end
            text += "\n"
            answer = _install(text, draft)
    if answer.code != 0:
        raise _refused(answer)
    if (found := read()) != text:
        raise UsageError(
            f"the crontab is not what was written: {len(found or '')} characters instead of {len(text or '')}",
            "`crontab -l` shows it: is something else writing it?",
        )


def _install(text: str, draft: Path) -> process.Answer:
    try:
        disk.make_folder(draft.parent)
        disk.replace(draft, os.fsencode(text), durable=False)
    except OSError as error:
        raise OutputUnwritable(
            f"the crontab cannot be changed: {error.strerror}: {draft.parent}",
            "make room there; the crontab is as it was",
        ) from error
    try:
        return _crontab(draft.name, draft.parent)  # Debian's reads no more than a hundred characters of a path
    finally:
        disk.remove(draft)


def _crontab(argument: str, folder: Path = Path("/")) -> process.Answer:
    env = {**os.environ, "LC_ALL": "C", "CRONTAB_NOHEADER": "Y"}  # without what some put before what it holds
    try:
        return process.consult(("crontab", argument), PATIENCE, env, str(folder))
    except OSError as error:
        if error.errno == errno.ENOENT:
            remedy = "install cron (Debian: apt install cron), or use --systemd"
            raise NoCrontab(NO_PROGRAM, remedy) from None
        raise NoCrontab(f"crontab cannot be started: {error.strerror or error}", "check it, or use --systemd") from None


def _refused(answer: process.Answer) -> OrchError:
    if _FORBIDDEN.search(answer.err + answer.out):
        return NoCrontab(
            f"this account may not use crontab: {answer.complaint}",
            "who administrates this machine can allow it (/etc/cron.allow, /etc/cron.deny); or use --systemd",
        )
    return UsageError(f"crontab does not do it: {answer.complaint}", "the crontab is as it was; `crontab -l` shows it")


@contextmanager
def alone() -> Iterator[None]:
    """One orch of this account at a time; the lock goes with the process."""
    fd = _open_home()
    until = clock.ticking() + PATIENCE
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                    break  # a file system without locks: the crontab is read again after it was written
                if clock.ticking() > until:
                    raise UsageError("another orch is changing the crontab all the time", "try it again") from None
            clock.pause(0.05)
        yield
    finally:
        os.close(fd)


def _open_home() -> int:
    """A folder that all of this account's have in common."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        home = "/tmp"
    for folder in (home, "/tmp", "/"):
        try:
            return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
    raise UsageError(f"{home} cannot be opened", "check the home folder of this account")


def is_daemon_running() -> bool:
    return process.is_running(_DAEMONS)


def block(text: str | None, name: str, root: Path) -> crontab.Block | None:
    try:
        return crontab.block_of(text, name, str(root))
    except Unbalanced:
        return None
