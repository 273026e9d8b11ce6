"""One connection to one agent: a socket and the protocol, and nothing that decides."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from typing import Any

from orchestrator import clock
from orchestrator.core.names import AttemptId, Identity
from orchestrator.core.wire import ALONE_AFTER, VERSION, Link, WireFault

CHUNK = 256 * 1024
NOTHING_TO_TEND = 10.0


class Backoff:
    """When to try again to reach somebody: at once, then after a second, doubling to thirty."""

    def __init__(self) -> None:
        self.tries = 0
        self._due = clock.ticking()

    def is_due(self) -> bool:
        return clock.ticking() >= self._due

    def due_in(self) -> float:
        return max(0.0, self._due - clock.ticking())

    def failed(self) -> None:
        from tenacity import RetryCallState, wait_exponential_jitter  # seventy milliseconds that only a fault costs

        self.tries += 1
        call: Any = RetryCallState(None, None, (), {})  # type: ignore[arg-type]
        call.attempt_number = self.tries
        self._due = clock.ticking() + wait_exponential_jitter(multiplier=1, max=30, jitter=0.5)(call)


class Conversation:
    """Sends what is told, returns what is heard; `closed` once the other side is gone."""

    def __init__(self, sock: socket.socket, agent: str, process: Identity | None) -> None:
        self.agent = agent
        self.process = process  # as we know it before it has said anything
        self.identity: Identity | None = None  # as it says
        self.roster: dict[AttemptId, tuple[int, int]] | None = None
        self.closed = ""
        self.heard_at = clock.ticking()
        self.latency: float | None = None
        self.sent = self.received = 0
        self.is_watched = False
        self.backoff = Backoff()
        self._link = Link()
        self._is_resuming = False  # what is numbered waits for the welcome: it must not overtake what was lost
        self._out = bytearray()
        self._adopt(sock)

    def _adopt(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def unacknowledged(self) -> int:
        return self._link.unacknowledged

    def wants_to_be_tended_in(self) -> float:
        """Seconds: soon where something could not be written, at its next try where it is cut off."""
        if self.closed:
            return self.backoff.due_in()
        return 0.02 if self._out else NOTHING_TO_TEND

    def greet(self, epoch: int, owner: Identity, settings: dict[str, Any]) -> None:
        who = owner.as_dict()
        self._send(self._link.send("hello", v=VERSION, epoch=epoch, owner=who, seen=self._link.seen, settings=settings))

    def say(self, kind: str, **fields: Any) -> None:
        """Goes out with the next `flush`."""
        data = self._link.send(kind, **fields)
        if not self._is_resuming:
            self._put(data)

    def ping(self) -> None:
        self._send(self._link.send("ping", t=clock.ticking()) + self._link.acknowledge())

    def flush(self) -> None:
        while self._out and not self.closed:
            try:
                sent = self._sock.send(self._out[:CHUNK])
            except BlockingIOError:
                return
            except OSError as error:
                self.closed = f"its socket closed ({error.strerror})"
                return
            del self._out[:sent]

    def finish(self) -> None:
        """All that was said is handed to the kernel before we turn away."""
        self._sock.settimeout(2.0)
        try:
            self._sock.sendall(self._out)
        except OSError:
            return  # it is gone: nobody is left to hear it
        self._out.clear()

    def wait(self, seconds: float) -> None:
        """Until something can be heard, or more of what was said can be sent, or that long."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._out else 0))
        poll.poll(max(0.0, seconds) * 1000)

    def hear(self) -> list[dict[str, Any]]:
        """Everything that is there by now; pongs and acknowledgements are dealt with here."""
        messages: list[dict[str, Any]] = []
        while not self.closed:
            try:
                data = self._sock.recv(CHUNK)
            except BlockingIOError:
                break
            except OSError as error:
                self.closed = f"its socket closed ({error.strerror})"
                break
            if not data:
                self.closed = "its socket closed"
                break
            messages += self._take(data)
        self._send(self._link.acknowledge(ALONE_AFTER))
        return messages

    def resume(self, sock: socket.socket) -> None:
        """A new socket to the same agent: numbers go on, what it has not seen is sent again after its welcome."""
        self._sock.close()
        self._adopt(sock)
        self._out.clear()
        self._link.reconnected()
        self.closed, self.backoff, self._is_resuming = "", Backoff(), True

    def replay(self, seen: int) -> None:
        self._is_resuming = False
        self._send(self._link.replay(seen))

    def close(self) -> None:
        self._sock.close()

    def _take(self, data: bytes) -> list[dict[str, Any]]:
        self.heard_at = clock.ticking()
        try:
            messages = self._link.receive(data)
        except WireFault as fault:
            self.closed = f"it does not speak our protocol: {fault}"
            return []
        self.received += len(messages)
        for message in messages:
            if message["kind"] == "pong":
                self.latency = max(0.0, self.heard_at - message["t"])
        return [message for message in messages if message["kind"] != "pong"]

    def _send(self, data: bytes) -> None:
        self._put(data)
        self.flush()

    def _put(self, data: bytes) -> None:
        if data and not self.closed:
            self.sent += 1
            self._out += data


def connect_or_none(folder: Path) -> socket.socket:
    """The same; where that fails, a socket at whose other end nobody is: it counts as cut off, and is tried again."""
    try:
        return connect(folder)
    except OSError:
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours


def connect(folder: Path) -> socket.socket:
    """To the agent that listens in `folder`: by directory descriptor, because the path of a socket has 107 bytes."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(f"/proc/self/fd/{fd}/sock")
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(fd)
    return sock
