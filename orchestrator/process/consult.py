"""Other people's programs that are asked something, and answer on their standard output: crontab, systemctl."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from orchestrator.process.launch import Launch, start

LONGEST = 1_000_000  # of an answer, in bytes


class Answer(NamedTuple):
    code: int
    out: bytes
    err: bytes

    @property
    def complaint(self) -> str:
        """One line of what it says against it."""
        said = (self.err or self.out).decode("utf-8", "replace").strip()
        return " ".join(said.split()) or f"exit status {self.code}"


def consult(
    argv: Sequence[str], seconds: float, env: Mapping[str, str] | None = None, cwd: str = "/"
) -> Answer:  # fmt: skip
    """OSError: there is no such program, or it cannot be started. One that does not answer in time is killed: -9."""
    out, err = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("out", "err"))
    try:
        pid = start(Launch(tuple(argv), None if env is None else dict(env), cwd=cwd, output=out, errors=err))
        code = _end_of(pid, seconds)
        return Answer(code, *(os.pread(fd, LONGEST, 0) for fd in (out, err)))
    finally:
        os.close(out)
        os.close(err)


def _end_of(pid: int, seconds: float) -> int:
    over = os.pidfd_open(pid)
    try:
        if not select.select([over], [], [], seconds)[0]:
            os.killpg(pid, signal.SIGKILL)  # it began a session, and is not waited for yet: the number is its own
    finally:
        os.close(over)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
