"""Identity where /proc or the kernel says little: whoever cannot be told apart is not taken for dead, and not signalled."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from orchestrator import process
from orchestrator.core.names import Identity
from orchestrator.process import alive, table


def refused(number: int) -> Any:
    def call(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


def gone() -> Identity:
    """Somebody who was here and has ended, reaped."""
    pid = process.spawn_child(["true"], keep_fds=(), env=None, cwd="/")
    who = process.identity(pid)
    os.waitpid(pid, 0)
    assert who is not None
    return who


def test_without_a_pid_namespace_to_name_the_host_is_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    name = process.host().split("/")[0]
    monkeypatch.setattr(os, "stat", refused(errno.ENOENT))
    assert process.host() == name


def test_without_proc_nothing_can_be_told_apart_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "entry_of", lambda pid: None)
    with pytest.raises(RuntimeError, match="/proc"):
        process.myself()


def test_who_is_hidden_is_unknowable_and_who_is_gone_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    me, other = process.myself(), gone()
    assert process.is_alive(other) == process.DEAD
    monkeypatch.setattr(table, "entry_of", lambda pid: None)
    assert process.is_alive(me) == process.UNKNOWABLE  # its pid can be opened
    assert process.is_alive(other) == process.DEAD
    monkeypatch.setattr(os, "pidfd_open", refused(errno.EPERM))
    assert process.is_alive(me) == process.UNKNOWABLE  # it cannot, but not because nobody has it


def test_a_kernel_that_gives_no_serials_leaves_the_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "_serial", lambda fd: 0)
    me = process.myself()
    assert me.serial == 0
    monkeypatch.undo()
    assert process.is_alive(me) == process.ALIVE
    assert process.is_alive(me.replace(ticks=me.ticks + 1)) == process.DEAD


def test_of_a_pid_that_cannot_be_opened_there_is_no_serial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pidfd_open", refused(errno.EMFILE))
    me = process.identity(os.getpid())
    assert me is not None and me.serial == 0


def test_nobody_is_sent_a_signal_who_is_not_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    me, other = process.myself(), gone()
    assert not process.send(other, 0)
    assert not process.send(me.replace(ticks=me.ticks + 1), signal.SIGKILL)
    assert process.send(me, 0)
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda fd, number: refused(errno.ESRCH)())
    assert not process.send(me, 0)  # it ended in between


def test_the_end_of_who_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    other = gone()
    assert process.await_end(other, 10.0)
    assert process.end_by_identity(other, 10.0)
    me = process.myself()
    assert process.await_end(me.replace(ticks=me.ticks + 1), 10.0)
    assert not process.await_end(me, 0.01)
