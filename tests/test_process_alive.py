"""Identity to the letter: what is compared, how old somebody is, yes and no as such, and no descriptor kept."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from orchestrator import clock, process
from orchestrator.core.names import Identity
from orchestrator.process import alive, table


def child(*argv: str) -> Identity:
    """A child of ours that nobody has reaped yet."""
    found = process.identity(process.spawn_child(list(argv), keep_fds=(), env=None, cwd="/"))
    assert found is not None
    return found


def reaped() -> Identity:
    who = child("true")
    os.waitpid(who.pid, 0)
    return who


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def serials(monkeypatch: pytest.MonkeyPatch, serial: int) -> None:
    """As a kernel would number every process."""
    monkeypatch.setattr(alive, "_serial", lambda fd: serial)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def pidfd_open(pid: int, flags: int = 0) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)


def test_a_serial_that_is_known_twice_must_be_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    serials(monkeypatch, 5)
    me = process.myself()
    assert me.serial == 5 and process.is_alive(me) == process.ALIVE and process.send(me, 0)
    serials(monkeypatch, 6)
    assert process.is_alive(me) == process.DEAD and not process.send(me, 0)


def test_a_serial_that_is_known_once_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a kernel that numbers processes and one that does not, the ticks decide."""
    serials(monkeypatch, 5)
    me = process.myself()
    serials(monkeypatch, 0)
    assert process.is_alive(me) == process.ALIVE and process.send(me, 0)
    before = process.myself()
    serials(monkeypatch, 5)
    assert process.is_alive(before) == process.ALIVE and process.send(before, 0)


@pytest.mark.parametrize("numbered", [False, True])
def test_a_pidfd_numbers_its_process_only_where_it_is_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbered: bool
) -> None:
    """Before pidfs all of them were one inode, which none may execute: taken for a number, all would be one process."""
    pidfd = tmp_path / "pidfd"
    pidfd.touch()
    pidfd.chmod(0o700 if numbered else 0o600)
    monkeypatch.setattr(os, "pidfd_open", lambda pid, flags=0: os.open(pidfd, os.O_RDONLY))
    assert process.myself().serial == (pidfd.stat().st_ino if numbered else 0)


def test_a_pid_that_cannot_be_opened_has_the_serial_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, errno.EMFILE)
    assert process.myself().serial == 0


def test_who_may_not_be_opened_is_there_and_who_has_no_pid_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    me = process.myself()
    monkeypatch.setattr(table, "entry_of", lambda pid: None)
    assert process.is_alive(me) == process.UNKNOWABLE, "it can be opened"
    for number, life in ((errno.EPERM, process.UNKNOWABLE), (errno.ESRCH, process.DEAD), (errno.EINVAL, process.DEAD)):
        refuse(monkeypatch, number)
        assert process.is_alive(me) == life


def test_one_that_shows_itself_while_it_is_looked_for_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry was missing, and is there when its pid was opened: what was meant is gone, the pid is used again."""
    me, entries = process.myself(), [None, table.entry_of(os.getpid())]
    monkeypatch.setattr(table, "entry_of", lambda pid: entries.pop(0))
    assert process.is_alive(me) == process.DEAD


def test_a_new_process_is_not_old(monkeypatch: pytest.MonkeyPatch) -> None:
    who = child("sleep", "1000.75")
    try:
        lifetime = process.lifetime(who)
        assert -1 < lifetime < 60
        monkeypatch.setattr(clock, "shift", lambda name: 100.0 if name == "boottime" else 0.0)
        assert process.lifetime(who) == pytest.approx(lifetime - 100, abs=30), "a time namespace ages nobody"
    finally:
        os.kill(who.pid, signal.SIGKILL)
        os.waitpid(who.pid, 0)


# ── yes and no ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_signal_was_sent_or_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    me = process.myself()
    assert process.send(me, 0) is True
    assert process.send(me.replace(ticks=me.ticks + 1), 0) is False
    assert process.send(reaped(), 0) is False

    def ended(fd: int, number: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(signal, "pidfd_send_signal", ended)
    assert process.send(me, 0) is False


def test_an_end_has_come_or_has_not() -> None:
    me, gone = process.myself(), reaped()
    assert process.await_end(gone, 0) is True
    assert process.await_end(me.replace(ticks=me.ticks + 1), 0) is True
    assert process.await_end(me, 0.01) is False
    brief = child("sleep", "0.05")
    assert process.await_end(brief, 20.0) is True
    os.waitpid(brief.pid, 0)


def test_of_one_far_away_the_end_is_never_known() -> None:
    far = reaped().replace(host="far/1")
    assert process.await_end(far, 0) is False and process.end_by_identity(far, 0) is False


def test_one_that_nobody_can_end_is_said_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    who, sent = child("sleep", "1000.75"), list[tuple[int, ...]]()
    try:
        monkeypatch.setattr(alive, "send", lambda who, *signals: sent.append(signals) or True)
        monkeypatch.setattr(alive, "await_end", lambda who, patience: False)
        assert process.end_by_identity(who, 0.1) is False
        assert sent == [(signal.SIGTERM, signal.SIGCONT), (signal.SIGKILL,)]
    finally:
        os.kill(who.pid, signal.SIGKILL)
        os.waitpid(who.pid, 0)


def test_who_looks_and_signals_keeps_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    me, before = process.myself(), descriptors()
    process.identity(me.pid)
    process.is_alive(me)
    process.send(me, 0)
    process.await_end(me, 0)
    monkeypatch.setattr(table, "entry_of", lambda pid: None)
    process.is_alive(me)
    process.send(me, 0)
    process.await_end(me, 0)
    assert descriptors() == before
