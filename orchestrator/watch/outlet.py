"""Text to a terminal or a pipe that may be slow, closed or gone: it is never waited for, and nothing fails with it."""

from __future__ import annotations

import os
import select

from orchestrator import clock

PIECE = 4096  # what a pipe that says it is writable takes without making us wait
MOST = 1024 * 1024  # what is kept for a reader that does not read
LAST_WORDS = 2.0  # seconds that a slow reader gets at the end


class Outlet:
    def __init__(self, fd: int) -> None:
        self._own = _opened_again(fd)
        self._fd = fd if self._own is None else self._own
        self._waiting = bytearray()
        self._skipped = 0
        self.is_open = True

    @property
    def is_clear(self) -> bool:
        """Nothing waits to be read: whoever shows the newest only need not queue up."""
        return not self._waiting

    def line(self, text: str) -> None:
        if not self.is_open:
            return
        data = text.encode("utf-8", "replace") + b"\n"
        if len(self._waiting) + len(data) > MOST:
            self._skipped += 1
            return
        if self._skipped:
            self._waiting += b"(%d lines were not shown: nobody read them)\n" % self._skipped
            self._skipped = 0
        self._waiting += data
        self.flush()

    def put(self, text: str) -> None:
        """As it is. For what is drawn: whoever draws asks first whether it is clear."""
        if self.is_open:
            self._waiting += text.encode("utf-8", "replace")
            self.flush()

    def flush(self) -> float:
        """What can be written now; returns the seconds until it is worth trying again."""
        while self._waiting and self.is_open and self._is_writable(0) and self._write():
            pass
        return 0.1 if self._waiting and self.is_open else 3600.0

    def close(self) -> None:
        until = clock.ticking() + LAST_WORDS
        while self._waiting and self.is_open and clock.ticking() < until:
            if self._is_writable(100) and not self._write():
                clock.pause(0.01)
        self.is_open = False
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def _write(self) -> bool:
        try:
            sent = os.write(self._fd, self._waiting[:PIECE])
        except BlockingIOError:
            return False
        except OSError:  # closed pipe, gone terminal: the run goes on without its display
            self.is_open = False
            self._waiting.clear()
            return False
        del self._waiting[:sent]
        return sent > 0

    def _is_writable(self, milliseconds: int) -> bool:
        poll = select.poll()
        try:
            poll.register(self._fd, select.POLLOUT)
            return bool(poll.poll(milliseconds))
        except OSError:
            self.is_open = False
            return False


def _opened_again(fd: int) -> int | None:
    """A terminal of our own that does not block.

    A terminal says that it is writable and yet makes a writer wait whose text is longer than its room; and what we set
    on the descriptor that we were given would hold for the shell that shares it.
    """
    if not os.isatty(fd):
        return None
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
