"""A real server on loopback that is well or unwell as it is told, and remembers what it heard and what it said yes to."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from tests.driving import wait_for

OK = "ok"
UNWELL = ("500", "503", "429", "408", "reset", "half", "silent", "garbage", "deaf")


class Heard(NamedTuple):
    path: str
    ident: str
    body: bytes
    answered: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


class Server:
    """`script`: how it fares with one connection after the other; well after the last."""

    def __init__(self) -> None:
        self.script: list[str] = []
        self.heard: list[Heard] = []
        self.headers: dict[str, str] = {}  # that an answer of no carries
        self.on_request: Callable[[], None] = lambda: None
        self._lock, self._held, self._threads = threading.Lock(), list[socket.socket](), list[threading.Thread]()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._is_open = True
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def taken(self) -> list[Heard]:
        return [one for one in self.heard if one.answered == OK]

    def of(self, path: str) -> list[Heard]:
        return [one for one in self.taken if one.path == path]

    def down(self) -> None:
        """Nobody listens: connections are refused."""
        self._is_open = False
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def up(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self._is_open = True
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def until(self, many: int, seconds: float = 30.0) -> list[Heard]:
        wait_for(lambda: len(self.taken) >= many, seconds, f"{self.heard}")
        return self.taken

    def close(self) -> None:
        if self._is_open:
            self.down()
        for one in [*self._held]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for one in self._held:
            one.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self._held.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            how = self.script.pop(0) if self.script else OK
        try:
            self._answer(connection, how)
        except OSError:
            pass

    def _answer(self, connection: socket.socket, how: str) -> None:
        if how == "deaf":  # before it has heard anything
            self._reset(connection)
            return
        path, headers, body = _request(connection)
        if not path:
            connection.shutdown(socket.SHUT_RDWR)
            return
        self.on_request()
        with self._lock:
            self.heard.append(Heard(path, headers.get("idempotency-key", ""), body, how))
        if how == "silent":
            return
        if how == "reset":
            self._reset(connection)
            return
        more = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items()) if how != OK else ""
        status = {OK: "200 OK", "half": "200 OK"}.get(how, f"{how} Unwell")
        answer = f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n{more}\r\nno".encode()
        if how == "garbage":
            answer = b"SSH-2.0-OpenSSH_9.6\r\n"
        connection.sendall(answer[:9] if how == "half" else answer)
        connection.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _reset(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


def _request(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    with connection.makefile("rb") as file:
        first = file.readline().split()
        headers = dict[str, str]()
        while (line := file.readline().strip()) and b":" in line:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = file.read(int(headers.get("content-length", "0")))
        whole = len(body) == int(headers.get("content-length", "0"))
    return (first[1].decode("latin-1") if len(first) > 1 and whole else ""), headers, body


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()
