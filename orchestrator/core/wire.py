"""The protocol between orchestrator and agent, without a socket: bytes in, messages out, and back.

A message is one JSON object on a line. Those that matter are numbered; the receiver acknowledges the highest number
it has (`seen`, along with the next of its own, or alone where none follows), the sender keeps what is not acknowledged
and sends it again after a reconnect. A number seen twice is dropped.
Over a WebSocket the same objects travel as frames.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from orchestrator.core.names import AttemptId
from orchestrator.core.spec import Limits
from orchestrator.core.value import Value

VERSION = 1
LARGEST = 16 * 1024 * 1024
ALONE_AFTER = 32  # this many messages that nothing was answered to are acknowledged by themselves
UNNUMBERED = ("hello", "welcome", "ack", "beat", "ping", "pong")


_ENCODER = json.JSONEncoder(separators=(",", ":"))


class WireFault(Exception):
    """What came over the wire is not this protocol: the connection is closed and the reason kept."""


class Order(Value):
    """All that an agent needs to run one attempt; nothing else is looked up."""

    attempt: AttemptId
    name: str
    file: str
    digest: str
    run: str | tuple[str, ...] | None
    isolation: str
    timeout: float
    heartbeat_timeout: float | None
    kill_grace: float
    cwd: str
    env: dict[str, str]
    limits: Limits
    due: str
    trace: str
    results: dict[str, Any]
    log: str  # relative to the project's root
    log_bytes: int
    broken: str = ""
    item: tuple[Any] | None = None  # what it is done for, where its phase fans out
    outputs: tuple[str, ...] = ()
    params: dict[str, Any] = {}  # noqa: RUF012  a frozen value
    secrets: tuple[str, ...] | None = None  # names; the agent has the values

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Order:
        fields = dict(data)
        fields["attempt"] = AttemptId.from_dict(fields["attempt"])
        fields["limits"] = Limits(**fields["limits"])
        if fields.get("item") is not None:
            fields["item"] = tuple(fields["item"])
        if fields.get("secrets") is not None:
            fields["secrets"] = tuple(fields["secrets"])
        if isinstance(fields["run"], list):
            fields["run"] = tuple(fields["run"])
        fields["outputs"] = tuple(fields.get("outputs", ()))
        return cls(**fields)


class Link:
    """One side of the conversation: numbers, acknowledges, replays. Holds no socket and no clock."""

    def __init__(self) -> None:
        self._buffer = b""
        self._sent: deque[tuple[int, bytes]] = deque()
        self._last_sent = 0
        self.seen = 0
        self._acknowledged = 0

    def send(self, kind: str, **fields: Any) -> bytes:
        message = {"kind": kind, **fields}
        if kind in UNNUMBERED:
            return _encode(message)
        self._last_sent += 1
        self._acknowledged = self.seen
        data = _encode({**message, "n": self._last_sent, "seen": self.seen})
        self._sent.append((self._last_sent, data))
        return data

    def acknowledge(self, least: int = 1) -> bytes:
        """What tells the other side how far we are; empty where fewer than `least` are not known to it."""
        if self.seen - self._acknowledged < least:
            return b""
        self._acknowledged = self.seen
        return _encode({"kind": "ack", "seen": self.seen})

    def replay(self, seen: int) -> bytes:
        """After a reconnect: everything that the other side has not seen."""
        self._forget(seen)
        return b"".join(data for _, data in self._sent)

    def receive(self, data: bytes) -> list[dict[str, Any]]:
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > LARGEST:
            raise WireFault(f"a message of more than {LARGEST} bytes")
        return [message for line in lines if (message := self._accept(_decode(line))) is not None]

    def reconnected(self) -> None:
        """The old connection's half line is void; numbers go on."""
        self._buffer = b""
        self._acknowledged = 0

    @property
    def unacknowledged(self) -> int:
        return len(self._sent)

    def _accept(self, message: dict[str, Any]) -> dict[str, Any] | None:
        if message["kind"] == "ack":
            self._forget(message["seen"])
            return None
        number = message.get("n")
        if number is None:
            return message
        self._forget(message.get("seen") or 0)
        if number <= self.seen:
            return None
        if number != self.seen + 1:
            raise WireFault(f"message {number} came after {self.seen}")
        self.seen = number
        return message

    def _forget(self, seen: int) -> None:
        while self._sent and self._sent[0][0] <= seen:
            self._sent.popleft()


def _encode(message: dict[str, Any]) -> bytes:
    return _ENCODER.encode(message).encode() + b"\n"


def _decode(line: bytes) -> dict[str, Any]:
    if len(line) > LARGEST:
        raise WireFault(f"a message of {len(line)} bytes")
    try:
        message = json.loads(line)
    except ValueError as error:
        raise WireFault(f"not JSON: {line[:80]!r}") from error
    kind, number, seen = (
        (message.get(key) for key in ("kind", "n", "seen")) if isinstance(message, dict) else (None,) * 3
    )
    is_acknowledged = isinstance(seen, int) or (seen is None and kind != "ack")
    if not isinstance(kind, str) or not isinstance(number, int | None) or not is_acknowledged:
        raise WireFault(f"not a message: {line[:80]!r}")
    return dict(message)
