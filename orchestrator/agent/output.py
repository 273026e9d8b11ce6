"""What an attempt prints, on its way through the agent: pipe, mask, bounded log, last lines."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from orchestrator.agent.log import BoundedLog, Lines
from orchestrator.agent.loop import READ, Loop, Timer
from orchestrator.core.masking import Masker, Stream

_CHUNK = 256 * 1024
_SETTLE_SECONDS = 0.05  # what is held back, because a secret may begin in it, is looked at again this soon
_MOST_LEFT = 64  # chunks that are read after the end: more than any pipe holds


class Output:
    def __init__(
        self, loop: Loop, path: Path, most: int, on_progress: Callable[[float, float | None, str], None],
        masker: Masker | None = None,
    ) -> None:  # fmt: skip
        self.lines = Lines(on_progress)
        self._loop = loop
        self._stream = Stream(masker) if masker is not None else None
        self._settling: Timer | None = None
        self._log = BoundedLog(path, most)
        try:
            self._end, self.pipe = os.pipe2(os.O_CLOEXEC)
        except OSError:
            self._log.close()
            raise
        os.set_blocking(self._end, False)
        try:
            fcntl.fcntl(self.pipe, fcntl.F_SETPIPE_SZ, _CHUNK)
        except OSError:  # the user's share of pipe memory is used up: a small pipe does too
            pass
        loop.watch(self._end, READ, self._on_ready)

    def let_go(self) -> None:
        """Our copy of the writing end; as long as there is one, nobody is woken by the end of the other copies."""
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1

    def finish(self) -> None:
        """Take what is still in the pipe, then close: a grandchild that holds it open is not waited for."""
        self.let_go()
        left = _MOST_LEFT
        while left and self._read():
            left -= 1
        self._close_pipe()
        if self._settling is not None:
            self._settling.cancel()
        if self._stream is not None:
            self._keep(self._stream.finish())
        self._log.close()

    def _on_ready(self, _mask: int) -> None:
        self._read()

    def _read(self) -> bool:
        if self._end < 0:
            return False
        try:
            data = os.read(self._end, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._close_pipe()
            return False
        if self._stream is None:
            self._keep(data)
            return True
        self._keep(self._stream.feed(data))
        if self._settling is None:
            self._settling = self._loop.after(_SETTLE_SECONDS, self._settle)
        return True

    def _settle(self) -> None:
        self._settling = None
        if self._stream is not None:
            self._keep(self._stream.settle())

    def _keep(self, data: bytes) -> None:
        if data:
            self._log.write(data)
            self.lines.feed(data)

    def _close_pipe(self) -> None:
        if self._end >= 0:
            self._loop.unwatch(self._end)
            os.close(self._end)
            self._end = -1
