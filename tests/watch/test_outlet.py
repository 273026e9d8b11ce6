from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from orchestrator import clock
from orchestrator.watch import outlet
from orchestrator.watch.outlet import MOST, Outlet


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe as small as pipes get."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    yield read, write
    for end in (read, write):
        try:
            os.close(end)
        except OSError:  # the test closed it
            continue


def test_a_line_goes_out_at_once(pipe):
    out = Outlet(pipe[1])
    out.line("gestartet: é")
    assert os.read(pipe[0], 99) == "gestartet: é\n".encode() and out.is_clear and out.flush() == 3600.0


def test_a_reader_that_does_not_read_is_not_waited_for_and_gets_all_later(pipe):
    out, since = Outlet(pipe[1]), clock.ticking()
    for number in range(500):
        out.line(f"{number:09d}")
    assert clock.ticking() - since < 30 and not out.is_clear and out.flush() == 0.1
    heard = b""
    while not out.is_clear:
        heard += os.read(pipe[0], 65536)
        out.flush()
    heard += os.read(pipe[0], 65536)
    assert heard == b"".join(b"%09d\n" % number for number in range(500))


def test_what_is_kept_is_bounded_and_what_was_left_out_is_counted(pipe):
    out = Outlet(pipe[1])
    for _ in range(MOST // 1000 + 50):
        out.line("x" * 999)
    assert len(out._waiting) <= MOST
    heard = b""
    while not out.is_clear:
        heard += os.read(pipe[0], 65536)
        out.flush()
    heard += os.read(pipe[0], 65536)
    out.line("and now?")
    heard += os.read(pipe[0], 65536)
    skipped = MOST // 1000 + 50 - heard.count(b"x" * 999)
    assert skipped > 0 and heard.endswith(b"(%d lines were not shown: nobody read them)\nand now?\n" % skipped)


def test_a_closed_pipe_ends_nothing(pipe):
    out = Outlet(pipe[1])
    os.close(pipe[0])
    out.line("hello")
    out.line("again")
    assert not out.is_open and out.is_clear and out.flush() == 3600.0
    out.close()


def test_a_descriptor_that_is_gone_ends_nothing(pipe):
    out = Outlet(pipe[1])
    os.close(pipe[1])
    out.line("hello")
    assert not out.is_open


def test_at_the_end_a_slow_reader_gets_some_time_and_no_more(pipe, monkeypatch):
    monkeypatch.setattr(outlet, "LAST_WORDS", 0.1)
    out, since = Outlet(pipe[1]), clock.ticking()
    out.line("x" * 20_000)
    out.close()
    assert 0.09 <= clock.ticking() - since < 30 and not out.is_open


def test_at_the_end_a_reader_that_reads_gets_everything(pipe):
    out = Outlet(pipe[1])
    out.line("x" * 20_000)
    pid = os.fork()
    if pid == 0:
        os.close(pipe[1])
        total = 0
        while data := os.read(pipe[0], 65536):
            total += len(data)
        os._exit(0 if total == 20_001 else 1)
    out.close()
    os.close(pipe[1])
    assert os.waitpid(pid, 0)[1] == 0
