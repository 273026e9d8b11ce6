"""system/logs/orchestrator.log: what happened around the run (agents, the link to them), a line each, bounded."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator import clock, secret
from orchestrator.core.names import iso
from orchestrator.watch.archive import rotate

MOST = 1024 * 1024


class Record:
    """Never in the way: a line that cannot be written is not written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, text: str) -> None:
        line = f"{iso(clock.now())} {os.getpid()} {secret.hidden(text)}\n".encode()
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line)
                if os.fstat(fd).st_size > MOST:
                    rotate(self._path)
            finally:
                os.close(fd)
        except OSError:
            return  # the journal is the truth; this is for whoever wonders later
