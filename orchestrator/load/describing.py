"""Supervises the process that imports phase files: a hang, a crash or a thread is laid to the file that caused it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator import clock, process
from orchestrator.core.names import span
from orchestrator.errors import InternalFault

_PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from orchestrator.phasefile import main; main()"
_ABOVE = str(Path(__file__).resolve().parents[2])  # the folder that holds our package
_START = 30.0  # seconds for Python itself to start on a busy machine
_LAST_OF_TREE = 5.0  # seconds for a tree that keeps forking, then others have to look after it
_LAST_WORDS = 1.0  # seconds between the end of the connection and the end of the process

Answer = dict[str, Any]
"""As orchestrator.phasefile says it; or {"broken": sentence}."""


def describe(
    root: Path, files: list[str], load_timeout: float, environ: dict[str, str] | None = None
) -> dict[str, Answer]:
    """Every file gets an answer. After a hang, a crash or a thread the rest goes on in a new process."""
    answers: dict[str, Answer] = {}
    while waiting := [file for file in files if file not in answers]:
        with _started(root, waiting, environ) as describer:
            for file in waiting:
                answers[file] = answer = describer.answer_for(file, load_timeout)
                if "broken" in answer or answer["threads"]:
                    break
    return answers


@contextmanager
def _started(root: Path, files: list[str], environ: dict[str, str] | None) -> Iterator[_Describer]:
    ours, theirs = socket.socketpair()
    argv = (sys.executable, "-P", "-c", _PROGRAM, _ABOVE, str(theirs.fileno()))
    keep = (theirs.fileno(),)
    process.become_subreaper()
    before = _children()
    with ours:
        with theirs:
            pid = process.start(process.Launch(argv, environ, str(root), keep_fds=keep))
        try:
            yield _Describer(pid, ours, json.dumps({"root": str(root), "files": files}).encode() + b"\n")
        finally:
            _end_all_but(before)


class _Describer:
    def __init__(self, pid: int, channel: socket.socket, request: bytes) -> None:
        self._pid = pid
        self._channel = channel
        self._unsent = memoryview(request)
        self._buffer = bytearray()
        self._channel.setblocking(False)

    def answer_for(self, file: str, patience: float) -> Answer:
        """The deadline begins with the import itself: the start of Python is not the file's fault."""
        deadline, begun = clock.ticking() + max(patience, _START), False
        while True:
            line = self._next_line(deadline)
            if line is None and begun:
                hint = "move what waits into the phase's function, or raise load_timeout"
                return {"broken": f"{file}: its import did not finish within {_short(patience)}: {hint}"}
            message = _message(line or b"")
            if not message and begun:
                return {"broken": f"{file}: its import {self._last_words()}"}
            if not message:
                said = "the process that reads phase files could not start"
                raise InternalFault(said, f"see what `{sys.executable} -P -c 'import orchestrator'` says")
            if message.get("importing") == file:
                deadline, begun = clock.ticking() + patience, True
            elif message.get("imported", message.get("failed")) == file:
                return message

    def _next_line(self, deadline: float) -> bytes | None:
        """None: nothing until the deadline. Empty: the other side is gone."""
        while (end := self._buffer.find(b"\n")) < 0:
            left = deadline - clock.ticking()
            if left <= 0 or not self._wait(left):
                return None
            self._send()
            try:
                data = self._channel.recv(1 << 20)
            except BlockingIOError:
                if self._has_ended():
                    return b""
                continue
            except ConnectionError:
                return b""
            if not data:
                return b""
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _wait(self, seconds: float) -> bool:
        """For something to read, room to write, or the end: a fork of the import may hold the connection open."""
        pidfd = os.pidfd_open(self._pid)
        try:
            poll = select.poll()
            poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(min(seconds, 3600) * 1000)) or seconds > 3600
        finally:
            os.close(pidfd)

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._channel.send(self._unsent) :]
        except (BlockingIOError, ConnectionError):
            return

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _last_words(self) -> str:
        deadline = clock.ticking() + _LAST_WORDS
        while not self._has_ended() and clock.ticking() < deadline:
            clock.pause(0.005)
        ended = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return "broke the connection to orch: leave descriptors alone that it did not open"
        if ended.si_code == os.CLD_EXITED:
            return f"ended the process with exit status {ended.si_status}: take the exit out of the file's top level"
        return f"died by {_signal(ended.si_status)}: import its modules one by one to find the one that crashes"


def _message(line: bytes) -> Answer:
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _short(seconds: float) -> str:
    return f"{seconds:g}s" if seconds < 60 else span(seconds)


def _end_all_but(before: list[int]) -> None:
    """The process and all it started: we are subreaper, so what it leaves comes to us, one generation after another."""
    deadline = clock.ticking() + _LAST_OF_TREE
    while (ours := [child for child in _children() if child not in before]) and clock.ticking() < deadline:
        for child in ours:
            process.end_group(child)


def _children() -> list[int]:
    """Ours, those that are over and wait to be reaped among them."""
    return [entry.pid for entry in process.scan().values() if entry.parent == os.getpid()]
