"""What a Python attempt says of itself, over a socket of its own: lines of JSON, read with suspicion."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

from orchestrator.agent.loop import READ, Loop

LARGEST_RESULT = 1024 * 1024
_MOST_FDS = 8
_LARGEST_LINE = 8 * LARGEST_RESULT  # escaped, a character can take six


class Channel:
    """The agent's end."""

    def __init__(self, loop: Loop, hear: Callable[[dict[str, Any]], None], closed: Callable[[], None]) -> None:
        self._loop = loop
        self._hear = hear
        self._closed = closed
        self._rest = b""
        self._fds: list[int] = []  # sockets that answers are waited for on
        self._here, self.there = socket.socketpair()
        self._here.setblocking(False)
        loop.watch(self._here.fileno(), READ, lambda _mask: self.read(1))

    def read(self, most_chunks: int = 1 << 30) -> None:
        """What is there now."""
        while self._here.fileno() >= 0 and most_chunks > 0:
            most_chunks -= 1
            try:
                data, fds, _flags, _address = socket.recv_fds(self._here, 65536, _MOST_FDS, socket.MSG_CMSG_CLOEXEC)
                self._fds += fds
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._end()
                return
            self._take(data)

    def say_go(self) -> None:
        """An attempt runs nothing of the phase before it hears this."""
        try:
            self._here.send(b"g")
        except OSError:
            pass

    def close(self) -> None:
        self.let_go()
        self._drop_fds(0)
        if self._here.fileno() >= 0:
            self._loop.unwatch(self._here.fileno())
            self._here.close()

    def let_go(self) -> None:
        """Our copy of the other end: only the attempt shall hold it."""
        self.there.close()

    def _end(self) -> None:
        self.close()
        self._closed()

    def _take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LARGEST_LINE:
            self._rest = b""
            lines.append(b'{"kind":"flood"}')
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict) and message.get("kind") == "secret":
                self._hear({**message, "answer": self._fds.pop(0) if self._fds else -1})
            elif isinstance(message, dict):
                self._hear(message)
        self._drop_fds(_MOST_FDS)

    def _drop_fds(self, most: int) -> None:
        """A phase may send what nobody has asked for."""
        while len(self._fds) > most:
            os.close(self._fds.pop())


def answer(fd: int, message: dict[str, Any]) -> None:
    """Say it and hang up; whoever does not listen, or sent something else than a socket, gets nothing."""
    if fd < 0:
        return
    try:
        with socket.socket(fileno=fd) as sock:
            sock.send(json.dumps(message, ensure_ascii=False).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        try:
            os.close(fd)
        except OSError:  # it was a socket, and is closed
            pass
