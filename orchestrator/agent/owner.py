"""The agent's door: connections of orchestrators, and which of them is the owner (the one with the highest epoch)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.agent.loop import READ, WRITE, Loop
from orchestrator.core.wire import ALONE_AFTER, Link, WireFault

HELLO_SECONDS = 10.0
_CHUNK = 262144
_BACKLOG = 65536


class Connection:
    """One socket; messages wait here until the pass is over, so that each pass costs one write."""

    def __init__(
        self,
        sock: socket.socket,
        loop: Loop,
        heard: Callable[[Connection, dict[str, Any]], None],
        closed: Callable[[Connection], None],
    ) -> None:
        self.link = Link()
        self.epoch: int | None = None
        self._socket = sock
        self._loop = loop
        self._heard, self._closed = heard, closed
        self._out = bytearray()
        self._is_blocked = False
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._on_ready)

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() >= 0

    @property
    def is_backed_up(self) -> bool:
        """It does not read: what can wait is not sent."""
        return len(self._out) > _BACKLOG

    def put(self, data: bytes) -> None:
        self._out += data

    def flush(self) -> None:
        """What the socket takes now; the rest when it takes more."""
        if not self.is_open:
            return
        self.put(self.link.acknowledge(ALONE_AFTER))
        if not self._out:
            return
        try:
            sent = self._socket.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            self._closed(self)
            return
        del self._out[:sent]
        if bool(self._out) != self._is_blocked:
            self._is_blocked = bool(self._out)
            self._loop.watch(self._socket.fileno(), READ | WRITE if self._out else READ, self._on_ready)

    def close(self) -> None:
        """What was not read is dropped: an order of a dead owner shall not run later."""
        if self.is_open:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()

    def _on_ready(self, mask: int) -> None:
        if mask & READ:
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            self._closed(self)
            return
        for message in self._decode(data):
            if not self.is_open:
                return
            self._loop.guard(f"message {message['kind']}", self._heard, self, message)

    def _decode(self, data: bytes) -> list[dict[str, Any]]:
        try:
            return self.link.receive(data)
        except (WireFault, KeyError, TypeError) as fault:
            self.close()
            self._closed(self)
            raise WireFault(f"connection closed: {fault}") from fault


class Door:
    """The Unix socket that successors come through."""

    def __init__(
        self, folder: Path, loop: Loop, came: Callable[[socket.socket], None], log: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._loop = loop
        self._came = came
        self._log = log
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        place = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        before = os.umask(0o177)
        try:
            # a path has 107 bytes; by way of the descriptor it always fits
            self._socket.bind(f"/proc/self/fd/{place}/sock")
        finally:
            os.umask(before)
            os.close(place)
        self._socket.listen(8)
        loop.watch(self._socket.fileno(), READ, self._accept)

    def close(self) -> None:
        (self._folder / "sock").unlink(missing_ok=True)
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()

    def _accept(self, _mask: int) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError:
            return
        _pid, uid, _gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (os.getuid(), 0):
            self._log(f"connection of user {uid} refused")
            sock.close()
            return
        self._came(sock)
