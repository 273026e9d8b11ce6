"""Processes by identity: who is alive, and signals that reach nobody else."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat

from orchestrator import clock
from orchestrator.core.names import Identity
from orchestrator.process import table

ALIVE, DEAD, STOPPED, UNKNOWABLE = "alive", "dead", "stopped", "unknowable"


def host() -> str:
    """The host's name, and the namespace that its pids are counted in."""
    try:
        return f"{os.uname().nodename}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return os.uname().nodename


def boot() -> str:
    """The id of this boot; empty where it cannot be read."""
    return table.read("/proc/sys/kernel/random/boot_id").decode().strip()


def identity(pid: int) -> Identity | None:
    entry = table.entry_of(pid)
    return None if entry is None else Identity(pid, entry.ticks, boot(), host(), _serial_of(pid))


def myself() -> Identity:
    found = identity(os.getpid())
    if found is None:
        raise RuntimeError("/proc is not mounted: orch tells processes apart by what it says")
    return found


def is_alive(who: Identity) -> str:
    """alive, dead, stopped (somebody sent SIGSTOP), or unknowable from here."""
    here = boot()
    if who.host != host() or not who.boot or not here:
        return UNKNOWABLE
    if who.boot != here:
        return DEAD
    entry = table.entry_of(who.pid)
    if entry is None:
        return UNKNOWABLE if _is_hidden(who.pid) else DEAD
    if not _is(who, entry, _serial_of(who.pid) if who.serial else 0) or entry.is_over:
        return DEAD
    return STOPPED if entry.state == "T" else ALIVE


def _is(who: Identity, entry: table.Entry, serial: int) -> bool:
    """The same pid is known; that the serials are, too, is not sure."""
    return entry.ticks == who.ticks and (not (who.serial and serial) or serial == who.serial)


def _serial_of(pid: int) -> int:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return 0
    try:
        return _serial(fd)
    finally:
        os.close(fd)


def _serial(pidfd: int) -> int:
    """Each process has a number of its own since Linux 6.9 (pidfs); before, all pidfds were one inode, mode 0600."""
    found = os.fstat(pidfd)
    return found.st_ino if found.st_mode & stat.S_IXUSR else 0


def _is_hidden(pid: int) -> bool:
    """Whether /proc keeps from us (hidepid) a process that exists."""
    try:
        fd = os.pidfd_open(pid)
    except OSError as fault:
        return fault.errno not in (errno.ESRCH, errno.EINVAL)
    os.close(fd)
    return table.entry_of(pid) is None


def lifetime(who: Identity) -> float:
    """For how many seconds it has been there; only of one that is."""
    return clock.ticking() - clock.shift("boottime") - who.ticks / os.sysconf("SC_CLK_TCK")


def send(who: Identity, *signals: int) -> bool:
    """By identity, without a race: the pidfd is opened, then the ticks are compared. False: it is not there."""
    try:
        fd = os.pidfd_open(who.pid)
    except OSError:
        return False
    try:
        entry = table.entry_of(who.pid)
        if entry is None or not _is(who, entry, _serial(fd)) or entry.is_over:
            return False
        for number in signals:
            signal.pidfd_send_signal(fd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def end_by_identity(who: Identity, grace: float) -> bool:
    """Ask (one that is stopped is woken to hear it), wait `grace`, insist, wait. False: it is still there."""
    if not send(who, signal.SIGTERM, signal.SIGCONT) or await_end(who, grace):
        return is_alive(who) != UNKNOWABLE
    send(who, signal.SIGKILL)
    return await_end(who, 5.0)


def await_end(who: Identity, patience: float) -> bool:
    """Whether it ended within `patience` seconds; a child of ours counts as ended when it can be reaped."""
    try:
        fd = os.pidfd_open(who.pid)
    except OSError:
        return is_alive(who) == DEAD
    try:
        entry = table.entry_of(who.pid)
        if entry is None or not _is(who, entry, _serial(fd)) or entry.is_over:
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(patience * 1000))
    finally:
        os.close(fd)
