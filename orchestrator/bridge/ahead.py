"""An agent's process: what it is begun with, and how one is begun ahead, while nobody knows yet what it will be called.

Until it is told its name it leaves no trace that others could see, and it is gone when we are.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from orchestrator import process
from orchestrator.errors import InternalFault

AGENT_MAIN = Path(__file__).parent.parent / "agent" / "__main__.py"


class Begun(NamedTuple):
    sock: socket.socket  # our end of what it was begun with
    pid: int


def begin(root: Path, environ: Mapping[str, str] | None, log: Path, name: str = "") -> Begun:
    ours, theirs = socket.socketpair()
    named = ("--agent", name) if name else ()
    with theirs:
        argv = [sys.executable, "-I", "-S", str(AGENT_MAIN), "--project", str(root), *named]
        try:
            pid = process.spawn_detached(
                [*argv, "--owner-fd", str(theirs.fileno())], keep_fds=(theirs.fileno(),), env=environ, cwd=str(root),
                log=log,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            raise InternalFault(f"no agent could be started: {error}", "see `ulimit -u` and free memory") from error
    return Begun(ours, pid)


class Ahead:
    """It loads what it needs meanwhile; whoever comes to need an agent gives it its name."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        self._begun: Begun | None = None
        try:
            self._begun = begin(root, environ, Path(os.devnull))
        except (InternalFault, OSError):
            pass  # said by whoever cannot do without

    def called(self, name: str) -> Begun | None:
        """Once; None if it is not there any more."""
        begun, self._begun = self._begun, None
        if begun is None:
            return None
        try:
            begun.sock.sendall(f"{name}\n".encode())
        except OSError:
            begun.sock.close()
            return None
        return begun

    def close(self) -> None:
        if self._begun is not None:
            self._begun.sock.close()
            self._begun = None
