"""The agent as a whole: takes orders, keeps attempts and outcomes, outlives its owner, leaves when all is done."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

from orchestrator import clock, disk, process
from orchestrator.agent.attempt import Trial, run_attempt
from orchestrator.agent.foundry import Foundry
from orchestrator.agent.loop import Loop
from orchestrator.agent.owner import HELLO_SECONDS, Connection, Door
from orchestrator.agent.site import Site
from orchestrator.agent.untaken import Untaken
from orchestrator.core.names import iso
from orchestrator.core.outcome import NEVER_STARTED, Failure, Outcome
from orchestrator.core.wire import VERSION, Link, Order

_LOG_BYTES = 1024 * 1024
_LAUNCHER_SECONDS = 1.0
_LEAVE_SECONDS = 5.0  # after SIGTERM and the grace: an outcome that cannot be written keeps the agent no longer


def main(arguments: list[str]) -> int:
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    project, first = Path(options["--project"]), socket.socket(fileno=int(options["--owner-fd"]))
    agent = options.get("--agent") or _told_name(project, first)
    if not agent:
        return 0
    service = Agent(project, agent)
    service.open(first)
    gc.freeze()
    try:
        service.run()
    finally:
        flush_log()
    return 0


def _told_name(project: Path, first: socket.socket) -> str:
    """Of an agent that was begun ahead; none if whoever began it needs no agent, or is gone."""
    process.become_subreaper()  # it takes a while to load
    name = b""
    while (byte := first.recv(1)) not in (b"\n", b""):
        name += byte
    if not byte:
        return ""
    agent = name.decode()
    log = os.open(project / "system" / "agents" / agent / "agent.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 2)
    os.close(log)
    return agent


_lines: list[str] = []


def write_log(text: str) -> None:
    """A line of the agent's log, which is its standard error; written when the pass of the loop is over."""
    _lines.append(text)


def flush_log() -> None:
    """At a megabyte it begins anew."""
    if not _lines:
        return
    now = iso(clock.now())
    data = "".join(f"{now} {text}\n" for text in _lines)
    _lines.clear()
    try:
        if os.fstat(2).st_size > _LOG_BYTES:
            os.ftruncate(2, 0)
            os.write(2, b"(older lines were dropped)\n")
        os.write(2, data.encode(errors="replace"))
    except OSError:  # a full disk, or nobody who reads: the work goes on
        pass


class Agent:
    def __init__(self, project: Path, agent: str) -> None:
        self._folder = project / "system" / "agents" / agent
        self._loop = Loop(self._write_log)
        self._site = Site(project, agent, self._folder, self._loop, write_log)
        self._foundry = Foundry(self._site)
        self._untaken = Untaken(self._site, self._loop_on)
        self._trials: dict[str, Trial] = {}
        self._connections: list[Connection] = []
        self._owner: Connection | None = None
        self._link = Link()
        self._epoch: int | None = None
        self._first_epoch: int | None = None
        self._identity = process.myself()
        self._door: Door | None = None
        self._is_leaving = False
        self._is_told_to_end = self._is_overdue = False
        self._is_beating = False

    def _write_log(self, text: str) -> None:
        self._site.log(text)

    # ── its life ───────────────────────────────────────────────────────────────────────────────────────────────

    def open(self, first: socket.socket) -> None:
        process.become_subreaper()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        self._loop.catch_signals(signal.SIGTERM)
        self._loop.on_signal[signal.SIGTERM] = self._on_sigterm
        self._loop.before_reaping = self._read_pending  # who has ended has said its pid before
        self._loop.on_exit = self._on_exit
        self._site.census.before_look = self._read_pending
        self._site.census.on_stranger = self._wake_ending
        first.set_inheritable(False)
        self._welcome_in(first)
        self._door = Door(self._folder, self._loop, self._welcome_in, write_log)
        data = {"agent": self._site.agent, **self._identity.as_dict(), "version": VERSION}
        disk.replace(self._folder / "identity.json", json.dumps(data).encode(), durable=False)
        write_log(f"agent {self._site.agent} is up, pid {self._identity.pid}")

    def run(self) -> None:
        while not self._may_go():
            self._loop.turn()
            flush_log()  # before others are told
            for connection in self._connections:
                connection.flush()
            self._connections = [each for each in self._connections if each.is_open]
        self._close()

    def _may_go(self) -> bool:
        """Nothing in hand, nobody to wait for, and every outcome taken or durably written."""
        if self._trials:
            return False
        if self._owner is not None and not self._is_leaving and not self._is_told_to_end:
            return False
        if self._owner is None and any(each.epoch is None for each in self._connections):
            return False  # somebody is just coming in
        return self._untaken.is_safe or self._is_overdue

    def _close(self) -> None:
        self._foundry.close()
        self._site.launcher.close()
        self._loop.after(_LAUNCHER_SECONDS, self._site.launcher.end)  # somebody may have stopped it
        while not (self._foundry.is_gone and self._site.launcher.is_gone):
            self._loop.turn()
        self._site.groups.drop(None)
        for connection in self._connections:
            connection.flush()
            connection.close()
        if self._door is not None:
            self._door.close()
        write_log("agent leaves")
        keep = () if self._untaken.is_empty else ("outcomes", "agent.log")
        _clear(self._folder, keep)
        if not keep:
            try:
                os.rmdir(self._folder)
            except OSError:
                pass

    def _loop_on(self) -> None:
        """An outcome was written: `run` looks by itself whether that was the last."""

    def _on_sigterm(self) -> None:
        write_log("told to end (SIGTERM)")
        self._is_told_to_end = True
        grace = max((trial.order.kill_grace for trial in self._trials.values()), default=0.0)
        self._loop.after(grace + _LEAVE_SECONDS, self._be_overdue)
        for trial in list(self._trials.values()):
            trial.stop(insist=False, lost="its agent was told to end")

    def _be_overdue(self) -> None:
        self._is_overdue = True

    # ── processes ──────────────────────────────────────────────────────────────────────────────────────────────

    def _on_exit(self, pid: int, status: int) -> None:
        if self._foundry.on_exit(pid, status) or self._site.launcher.on_exit(pid):
            return
        if pid not in self._site.census.roots:  # it has come and gone since the look before the reaping
            self._read_pending()
        key = self._site.census.roots.get(pid)
        trial = self._trials.get(key) if key else None
        if trial is not None and trial.root.living_pid == pid:
            trial.root.on_exit(status)
        else:
            self._site.census.note_stranger()

    def _read_pending(self) -> None:
        for trial in list(self._trials.values()):
            if trial.root.is_pending:
                trial.root.read_pending()

    def _wake_ending(self) -> None:
        for trial in self._trials.values():
            if trial.step == "stopping":
                trial.wake()

    # ── connections ────────────────────────────────────────────────────────────────────────────────────────────

    def _welcome_in(self, sock: socket.socket) -> None:
        connection = Connection(sock, self._loop, self._on_message, self._on_closed)
        self._connections.append(connection)
        self._loop.after(HELLO_SECONDS, lambda: self._expect_hello(connection))

    def _expect_hello(self, connection: Connection) -> None:
        if connection.epoch is None and connection.is_open:
            write_log("connection closed: it said no hello")
            connection.close()

    def _on_closed(self, connection: Connection) -> None:
        if connection is self._owner:
            self._owner = None
            write_log(f"owner of epoch {self._epoch} is gone; {len(self._trials)} attempts in hand")
            self._untaken.write_all()

    def _on_message(self, connection: Connection, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if connection is not self._owner:
            if kind == "hello":
                self._on_hello(connection, message)
            return
        if kind == "start":
            self._start(Order.from_dict(message["order"]))
        elif kind == "stop":
            self._stop(message)
        elif kind == "taken":
            self._untaken.take(message["attempt"])
        elif kind == "leave":
            self._is_leaving = True
        elif kind == "ping":
            connection.put(self._link.send("pong", t=message.get("t")))

    def _on_hello(self, connection: Connection, message: dict[str, Any]) -> None:
        connection.epoch = epoch = int(message["epoch"])
        if message.get("v") != VERSION:
            write_log(f"owner speaks version {message.get('v')} of the protocol, this agent {VERSION}")
            connection.put(connection.link.send("welcome", v=VERSION, agent=self._site.agent))
            connection.flush()
            connection.close()
            return
        if self._epoch is not None and epoch < self._epoch:
            write_log(f"owner of epoch {epoch} came after {self._epoch}: closed")
            connection.close()
            return
        is_new = self._epoch is None or epoch > self._epoch
        self._take_owner(connection, epoch, message, is_new)

    def _take_owner(self, connection: Connection, epoch: int, message: dict[str, Any], is_new: bool) -> None:
        if self._owner is not None:
            self._owner.close()
        write_log(f"owner of epoch {epoch}, pid {message.get('owner', {}).get('pid')}")
        if is_new:
            self._link = connection.link  # it has counted what came along with the hello
            self._is_leaving = False
        else:
            self._link.reconnected()
        if self._first_epoch is None:
            self._first_epoch = epoch
        connection.link = self._link
        self._owner, self._epoch = connection, epoch
        self._site.configure(message.get("settings", {}), is_heir=epoch != self._first_epoch)
        if is_new:  # before the welcome: what is neither told by then nor in the roster has never been here
            for key, outcome in self._untaken.items():
                self._say("ended", attempt=key, outcome=outcome.as_dict())
        connection.put(self._link.send("welcome", **self._roster()))
        if not is_new:
            connection.put(self._link.replay(int(message.get("seen", 0))))
        if epoch == self._first_epoch:
            self._foundry.warm()
            if is_new and self._site.starts_programs:
                self._site.launcher.warm(self._site.python, self._site.tags)
        if not self._is_beating:
            self._is_beating = True
            self._loop.after(self._site.beat_interval, self._beat)

    def _roster(self) -> dict[str, Any]:
        attempts = [
            {
                "attempt": trial.key,
                "step": trial.step,
                "pid": trial.root.pid,
                "ticks": trial.root.ticks,
                "started_at": trial.root.started_at,
            }
            for trial in self._trials.values()
        ]
        return {
            "v": VERSION,
            "agent": self._site.agent,
            "identity": self._identity.as_dict(),
            "seen": self._link.seen,
            "epoch": self._epoch,
            "attempts": attempts,
        }

    def _say(self, kind: str, **fields: Any) -> None:
        """To the owner; to the next one, or the same after a reconnect, where there is none now."""
        data = self._link.send(kind, **fields)
        if self._owner is not None:
            self._owner.put(data)

    def _beat(self) -> None:
        self._is_beating = self._owner is not None
        if self._owner is None:
            return
        attempts = {
            trial.key: {**trial.progress, "line": trial.last_line, "idle_seconds": round(trial.idle_seconds, 1)}
            for trial in self._trials.values()
        }
        if not self._owner.is_backed_up:
            self._owner.put(self._link.send("beat", attempts=attempts) + self._link.acknowledge())
        self._loop.after(self._site.beat_interval, self._beat)

    # ── attempts ───────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, order: Order) -> None:
        key = order.attempt.key
        if key in self._trials:
            return
        outcome = self._untaken.get(key)
        if outcome is not None:
            self._say("ended", attempt=key, outcome=outcome.as_dict())
            return
        if self._is_told_to_end or self._epoch != self._first_epoch:
            self._refuse(key, "this agent takes no new work")
            return
        trial = self._trials[key] = Trial(self._site, self._foundry, order, self._on_started, self._on_ended)
        trial.task = self._loop.begin(run_attempt(trial), f"attempt {key}")

    def _stop(self, message: dict[str, Any]) -> None:
        key = str(message["attempt"])
        trial, outcome = self._trials.get(key), self._untaken.get(key)
        if trial is not None:
            self._site.log(
                f"attempt {key}: stop{' at once' if message.get('insist') else ''}: {message.get('why', '')}"
            )
            trial.stop(insist=bool(message.get("insist")))
        elif outcome is not None:
            self._say("ended", attempt=key, outcome=outcome.as_dict())
        else:
            self._refuse(key, "this agent does not know it")

    def _refuse(self, key: str, why: str) -> None:
        outcome = Outcome(NEVER_STARTED, failure=Failure("INTERNAL", why))
        self._say("ended", attempt=key, outcome=outcome.as_dict())

    def _on_started(self, trial: Trial) -> None:
        self._say("started", attempt=trial.key, pid=trial.root.pid, ticks=trial.root.ticks, at=trial.root.started_at)

    def _on_ended(self, trial: Trial, outcome: Outcome) -> None:
        self._trials.pop(trial.key, None)
        self._untaken.add(trial.key, outcome, is_urgent=self._owner is None)
        self._say("ended", attempt=trial.key, outcome=outcome.as_dict())


def _clear(folder: Path, keep: tuple[str, ...]) -> None:
    """Remove what is in `folder`, except `keep`; what cannot be removed stays."""
    for name in os.listdir(folder):
        if name in keep:
            continue
        path = folder / name
        try:
            if path.is_dir() and not path.is_symlink():
                _clear(path, ())
                os.rmdir(path)
            else:
                os.unlink(path)
        except OSError:
            pass
