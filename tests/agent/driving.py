"""Drives a real agent over a real socket, as the bridge does; what a test leaves behind is ended by its pid."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator import process
from orchestrator.core.names import AttemptId, Identity
from orchestrator.core.outcome import Outcome
from orchestrator.core.spec import Limits
from orchestrator.core.wire import VERSION, Link, Order

MAIN = str(Path(orchestrator.__file__).parent / "agent" / "__main__.py")
PATIENCE = 20.0


def order(number: int = 1, run: Any = "true", phase: int = 3, **changes: Any) -> Order:
    fields: dict[str, Any] = {
        "attempt": AttemptId("r1", phase, number),
        "name": "index",
        "file": "phases/p03.py" if run is None else "phases/p.toml",
        "digest": "",
        "run": run,
        "isolation": "fork",
        "timeout": 20.0,
        "heartbeat_timeout": None,
        "kill_grace": 1.0,
        "cwd": ".",
        "env": {},
        "limits": Limits(),
        "due": "2026-01-02T03:04:05Z",
        "trace": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "results": {},
        "log": f"system/logs/phases/{phase}/{number}.log",
        "log_bytes": 100_000,
    }
    return Order(**{**fields, **changes})


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)
    return found


class Owner:
    """One orchestrator's end of a connection to an agent."""

    def __init__(self, sock: socket.socket, epoch: int = 1) -> None:
        self.sock = sock
        self.epoch = epoch
        self.link = Link()
        self.heard: list[dict[str, Any]] = []
        self.is_closed = False

    def put(self, kind: str, **fields: Any) -> None:
        self.sock.sendall(self.link.send(kind, **fields))

    def hello(self, *, seen: int = 0, version: int = VERSION, **settings: Any) -> None:
        settings = {"beat_interval": 0.2, "load_timeout": 10, "python": sys.executable, "phase_files": {}, **settings}
        settings.setdefault("forget_logs_after", 20)
        settings.setdefault("starts_programs", not settings["phase_files"])
        self.put("hello", v=version, epoch=self.epoch, owner=process.myself().as_dict(), seen=seen, settings=settings)

    def start(self, what: Order) -> None:
        self.put("start", order=what.as_dict())

    def stop(self, what: Order, *, insist: bool = False) -> None:
        self.put("stop", attempt=what.attempt.key, insist=insist, why="a test")

    def listen(self, seconds: float) -> bool:
        """Take in what comes within `seconds`; False once the other end is closed."""
        if self.is_closed or not select.select([self.sock], [], [], seconds)[0]:
            return not self.is_closed
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            self.is_closed = True
            return False
        self.heard += self.link.receive(data)
        try:
            self.sock.sendall(self.link.acknowledge())
        except ConnectionError:  # it has said its last word and left
            pass
        return True

    def wait(self, kind: str, what: Order | None = None, seconds: float = PATIENCE) -> dict[str, Any]:
        """The next message of that kind (about that attempt), wherever it stands among the others."""
        until = time.monotonic() + seconds
        while True:
            for message in self.heard:
                if message["kind"] == kind and (what is None or message.get("attempt") == what.attempt.key):
                    self.heard.remove(message)
                    return message
            left = until - time.monotonic()
            assert left > 0, f"no {kind} within {seconds} s, but {self.heard[-3:]}"
            assert self.listen(min(left, 0.5)), f"no {kind}: the agent has closed, after {self.heard[-3:]}"

    def outcome(self, what: Order, *, seconds: float = PATIENCE, take: bool = True) -> Outcome:
        outcome = Outcome.from_dict(self.wait("ended", what, seconds)["outcome"])
        if take:
            self.put("taken", attempt=what.attempt.key)
        return outcome

    def run(self, what: Order, *, seconds: float = PATIENCE) -> Outcome:
        self.start(what)
        return self.outcome(what, seconds=seconds)

    def close(self) -> None:
        self.sock.close()
        self.is_closed = True


class Driven:
    """An agent of a throw-away project."""

    def __init__(self, project: Path, agent: str = "a1", env: dict[str, str] | None = None) -> None:
        self.project = project
        self.agent = agent
        self.folder = project / "system" / "agents" / agent
        self.folder.mkdir(parents=True, mode=0o700)
        here, there = socket.socketpair()
        argv = [sys.executable, "-I", "-S", MAIN, "--project", str(project), "--agent", agent]
        self.pid = process.spawn_detached(
            [*argv, "--owner-fd", str(there.fileno())],
            keep_fds=[there.fileno()],
            env={**os.environ, **(env or {})},
            cwd=str(project),
            log=self.folder / "agent.log",
        )
        there.close()
        found = process.identity(self.pid)
        assert found is not None
        self.identity: Identity = found
        self.owner = Owner(here)
        self._owners = [self.owner]

    def log(self) -> str:
        return (self.folder / "agent.log").read_text() if (self.folder / "agent.log").exists() else ""

    def connect(self, epoch: int) -> Owner:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        place = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)
        sock.connect(f"/proc/self/fd/{place}/sock")
        os.close(place)
        self._owners.append(Owner(sock, epoch))
        return self._owners[-1]

    def is_gone(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
        except ChildProcessError:
            return True

    def await_end(self, seconds: float = PATIENCE) -> None:
        wait_for(self.is_gone, seconds)

    def end(self) -> None:
        for owner in self._owners:
            owner.close()
        if not self.is_gone():
            process.end_by_identity(self.identity, 5.0)
            self.is_gone()
        process.end_orphans(self.project, [self.agent], grace=0.0)
