from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from orchestrator.core.observations import Interrupt
from orchestrator.inbox import Inbox
from orchestrator.signals import Signals

CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    opened = Inbox()
    yield opened
    opened.close()


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGINT, "SIGINT", 130), (signal.SIGTERM, "SIGTERM", 143)])
def test_a_signal_is_news_like_any_other(inbox, number, name, code):
    with Signals(inbox):
        os.kill(os.getpid(), number)
        assert inbox.get(30.0) == [Interrupt(name, code)]


def test_each_of_two_signals_is_told(inbox):
    with Signals(inbox):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert inbox.get(30.0) == [Interrupt("SIGINT", 130), Interrupt("SIGTERM", 143)]


def test_it_wakes_a_loop_that_sleeps(inbox):
    with Signals(inbox):
        pid = os.fork()
        if pid == 0:
            os.kill(os.getppid(), signal.SIGTERM)
            os._exit(0)
        assert inbox.get(30.0) == [Interrupt("SIGTERM", 143)]
        os.waitpid(pid, 0)


def test_a_closed_terminal_ends_nothing(inbox):
    with Signals(inbox):
        os.kill(os.getpid(), signal.SIGHUP)
        assert inbox.get(0.1) == []


def test_afterwards_everything_is_as_it_was(inbox):
    before = [signal.getsignal(number) for number in CAUGHT]
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    fds = len(os.listdir("/proc/self/fd"))
    with Signals(inbox):
        assert [signal.getsignal(number) for number in CAUGHT] != before
        assert len(os.listdir("/proc/self/fd")) == fds + 2
    assert [signal.getsignal(number) for number in CAUGHT] == before
    assert len(os.listdir("/proc/self/fd")) == fds
    after = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(after)
    assert after == wakeup and inbox.get(0.0) == []
