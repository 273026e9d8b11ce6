"""The sockets between orchestrator and agents: bytes that come late, twice, in order, or not at all once it is cut."""

from __future__ import annotations

from collections.abc import Callable

from tests.crash.sim_world import World


class End:
    """One end of a socket. What is sent arrives later and in order, or not at all once the connection is cut."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self._number = world, number
        self.peer: End = self
        self.arrived, self.is_over, self.is_closed = bytearray(), False, False
        self.hear: Callable[[], None] = lambda: None
        self._last = 0.0
        self._connection = 0  # a cut begins a new one: what was under way is lost

    def setblocking(self, flag: bool) -> None: ...

    def settimeout(self, seconds: float) -> None: ...

    def fileno(self) -> int:
        return self._number

    def __enter__(self) -> End:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def send(self, data: bytes | bytearray) -> int:
        world = self.world
        if world.acting == "orch":
            world.point("send")
            if world.dead:
                return len(data)
        if self.is_closed or self.is_over or self.peer.is_closed:
            raise BrokenPipeError(32, "Broken pipe")
        world.operations["messages"] += 1
        copies = 1
        if not world.calm and world.chance(0.01):
            world.fired["message doubled"] += 1
            copies = 2
        for _ in range(copies):
            self._arrive_later(bytes(data))
        return len(data)

    def sendall(self, data: bytes | bytearray) -> None:
        if data:
            self.send(data)

    def recv(self, most: int) -> bytes:
        if self.arrived:
            data = bytes(self.arrived[:most])
            del self.arrived[:most]
            return data
        if self.is_over or self.is_closed:
            return b""
        raise BlockingIOError

    def close(self) -> None:
        """The other side reads what was sent before, and then the end."""
        if not self.is_closed:
            self.is_closed = True
            self._arrive_later(None)

    def cut(self) -> None:
        for end in (self, self.peer):
            end._connection += 1
            end._arrived(end._connection, None)

    @property
    def is_readable(self) -> bool:
        return bool(self.arrived) or self.is_over

    def _arrive_later(self, data: bytes | None) -> None:
        world, peer = self.world, self.peer
        at = max(peer._last, world.time + world.latency())
        peer._last = at
        connection = peer._connection
        world.after(at - world.time, lambda: peer._arrived(connection, data))

    def _arrived(self, connection: int, data: bytes | None) -> None:
        if connection != self._connection or self.is_closed or self.is_over:
            return
        if data is None:
            self.is_over = True
        else:
            self.arrived += data
        self.hear()
