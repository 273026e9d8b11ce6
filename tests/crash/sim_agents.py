"""Scripted agents that outlive the orchestrator: real protocol, real files, no processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import disk
from orchestrator.agent.service import _clear
from orchestrator.agent.untaken import Untaken
from orchestrator.core.names import AttemptId
from orchestrator.core.outcome import EXITED, NEVER_STARTED, STOPPED, TIMED_OUT, Failure, Outcome
from orchestrator.core.wire import VERSION, Link, Order, WireFault
from tests.crash.sim_wires import End
from tests.crash.sim_world import Timer

ORDER = "messages keep their order, whatever is cut (§4)"


class Script:
    """How one execution goes: how long, how it ends, and whether it heeds being told to end."""

    def __init__(self, seconds: float, code: str = "", *, stubborn: bool = False, stuck: bool = False) -> None:
        self.seconds, self.code, self.stubborn, self.stuck = seconds, code, stubborn, stuck


class Trial:
    def __init__(self, order: Order, script: Script) -> None:
        self.order, self.script, self.key = order, script, order.attempt.key
        self.pid = 0
        self.verdict = ""
        self.began = 0.0
        self.timers: list[Timer] = []

    @property
    def attempt(self) -> AttemptId:
        return self.order.attempt


class Connection:
    def __init__(self, end: End) -> None:
        self.end, self.link, self.epoch = end, Link(), None
        self.is_open = True

    epoch: int | None

    def put(self, data: bytes) -> None:
        if self.is_open and data:
            try:
                self.end.send(data)
            except OSError:
                self.is_open = False

    def close(self) -> None:
        self.is_open = False
        self.end.close()


class Kept(Untaken):
    """The real one; the rules are told what is on the disk for good."""

    def __init__(self, agent: SimAgent) -> None:
        super().__init__(Ground(agent), lambda: None)  # type: ignore[arg-type]
        self._agent = agent

    def _write(self, key: str) -> None:
        super()._write(key)
        if key in self._written:
            self._agent.world.rules.written(AttemptId.parse(key))


class Ground:
    """What `Untaken` needs of an agent's surroundings: its timers, its folder, its log."""

    def __init__(self, agent: SimAgent) -> None:
        self.folder, self.loop, self.log = agent.folder, agent, lambda text: None


class SimAgent:
    """Takes orders, keeps attempts and outcomes, outlives its owner, leaves when all is done: as the real one does."""

    def __init__(self, world: Any, name: str, folder: Path, first: End) -> None:
        self.world, self.name, self.folder = world, name, folder
        self.identity, self.founder = world.new_identity(), world.me
        self.alive, self.up, self.paused, self.is_unknowable = True, False, False, False
        self.trials: dict[str, Trial] = {}
        self.untaken = Kept(self)
        self.connections: list[Connection] = []
        self.owner: Connection | None = None
        self.link = Link()
        self.died_at = -1.0
        self.epoch: int | None = None
        self.first_epoch: int | None = None
        self.leaving = self.beating = False
        self.beat_interval = 2.0
        self._first = first
        self._held: list[Callable[[], None]] = []
        self.after(world.random.uniform(0.02, 0.2), self._open)

    # ---- its loop

    def after(self, seconds: float, act: Callable[[], None]) -> Timer:
        return self.world.after(seconds, lambda: self.do(act))

    def do(self, act: Callable[[], None]) -> None:
        """One turn of its loop; one that is stopped does it when it goes on."""
        if not self.alive:
            return
        if self.paused:
            self._held.append(act)
            return
        act()
        if self.up:
            for connection in self.connections:
                connection.put(connection.link.acknowledge())
            self._mourn()
            self.connections = [one for one in self.connections if one.is_open]
            self._leave_if_done()

    def pause(self) -> None:
        self.paused = True

    def go_on(self) -> None:
        self.paused, held, self._held = False, self._held, []
        for act in held:
            self.do(act)

    def delay(self) -> None:
        """What runs now takes longer than it would have: to its deadline."""
        for trial in self.trials.values():
            for timer in trial.timers[1:2]:
                timer.cancel()

    def show(self) -> None:
        self.is_unknowable = False

    def _open(self) -> None:
        data = {"agent": self.name, **self.identity.as_dict(), "version": VERSION}
        try:
            disk.replace(self.folder / "identity.json", json.dumps(data).encode(), durable=False)
        except OSError:
            self.die("its identity could not be written")
            return
        self.up = True
        self.welcome_in(self._first)
        self.hear(self.connections[-1])

    def die(self, why: str, *, orphans: bool = False) -> None:
        if not self.alive:
            return
        self.alive, self.died_at = False, self.world.time
        self.world.tell(f"agent {self.name} dies: {why}")
        for trial in self.trials.values():
            self.world.rules.lost(trial.attempt)
            if orphans and trial.pid:
                self.world.orphans.append((self.name, trial))
        self.trials.clear()
        for connection in [*self.connections, *([] if self.up else [Connection(self._first)])]:
            connection.end.close()

    def _leave_if_done(self) -> None:
        if self.trials or (self.owner is not None and not self.leaving):
            return
        if self.owner is None and any(one.epoch is None for one in self.connections):
            return
        if not self.untaken.is_safe:
            return
        self.alive, self.died_at = False, self.world.time
        keep = () if self.untaken.is_empty else ("outcomes", "agent.log")
        for connection in self.connections:
            connection.close()
        if self.folder.exists():
            _clear(self.folder, keep)
            if not keep:
                try:
                    self.folder.rmdir()
                except OSError:
                    pass
        self.world.tell(f"agent {self.name} leaves" + ("" if not keep else ", its outcomes are on the disk"))

    # ---- connections

    def welcome_in(self, end: End) -> None:
        connection = Connection(end)
        self.connections.append(connection)
        end.hear = lambda: self.do(lambda: self.hear(connection))
        self.after(10.0, lambda: connection.close() if connection.epoch is None else None)

    def hear(self, connection: Connection) -> None:
        end = connection.end
        while connection.is_open and end.arrived:
            for message in self._decode(connection.link, end.recv(1 << 20)):
                if connection.is_open:
                    self._on_message(connection, message)
        if end.is_over and connection.is_open:
            connection.close()

    def _mourn(self) -> None:
        if self.owner is not None and not self.owner.is_open:
            self.owner = None
            self.untaken.write_all()

    def _decode(self, link: Link, data: bytes) -> list[dict[str, Any]]:
        try:
            return link.receive(data)
        except WireFault as fault:
            raise self.world.rules.breaks(ORDER, f"agent {self.name}: {fault}") from fault

    def _on_message(self, connection: Connection, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if connection is not self.owner:
            if kind == "hello":
                self._on_hello(connection, message)
        elif kind == "start":
            self._start(Order.from_dict(message["order"]))
        elif kind == "stop":
            self._stop(message)
        elif kind == "taken":
            self.untaken.take(message["attempt"])
        elif kind == "leave":
            self.leaving = True
        elif kind == "ping":
            connection.put(self.link.send("pong", t=message.get("t")))

    def _on_hello(self, connection: Connection, message: dict[str, Any]) -> None:
        epoch = connection.epoch = int(message["epoch"])
        if self.epoch is not None and epoch < self.epoch:
            connection.close()
            return
        is_new = self.epoch is None or epoch > self.epoch
        if self.owner is not None:
            self.owner.close()
        if is_new:
            self.link, self.leaving = connection.link, False
        else:
            self.link.reconnected()
        if self.first_epoch is None:
            self.first_epoch = epoch
        connection.link = self.link
        self.owner, self.epoch = connection, epoch
        self.beat_interval = float(message["settings"]["beat_interval"])
        if is_new:
            for key, outcome in self.untaken.items():
                self._say("ended", attempt=key, outcome=outcome.as_dict())
        connection.put(self.link.send("welcome", **self._roster()))
        if not is_new:
            connection.put(self.link.replay(int(message.get("seen", 0))))
        if not self.beating:
            self.beating = True
            self.after(self.beat_interval, self._beat)

    def _roster(self) -> dict[str, Any]:
        attempts = [
            {"attempt": one.key, "step": "", "pid": one.pid or None, "ticks": one.pid or None, "started_at": None}
            for one in self.trials.values()
        ]
        return {
            "v": VERSION, "agent": self.name, "identity": self.identity.as_dict(), "seen": self.link.seen,
            "epoch": self.epoch, "attempts": attempts,
        }  # fmt: skip

    def _say(self, kind: str, **fields: Any) -> None:
        data = self.link.send(kind, **fields)
        if self.owner is not None:
            self.owner.put(data)

    def _beat(self) -> None:
        self.beating = self.owner is not None
        if self.owner is None:
            return
        self.owner.put(self.link.send("beat", attempts={trial.key: {} for trial in self.trials.values()}))
        self.after(self.beat_interval, self._beat)

    # ---- attempts

    def _start(self, order: Order) -> None:
        key = order.attempt.key
        if key in self.trials:
            return
        outcome = self.untaken.get(key)
        if outcome is not None:
            self._say("ended", attempt=key, outcome=outcome.as_dict())
        elif self.epoch != self.first_epoch:
            self._refuse(key, "this agent takes no new work")
        else:
            trial = self.trials[key] = Trial(order, self.world.script(order.attempt))
            trial.timers.append(self.after(self.world.random.uniform(0.001, 0.1), lambda: self._begin(trial)))

    def _begin(self, trial: Trial) -> None:
        if trial.verdict or trial.key not in self.trials:
            return
        if not self.world.calm and self.world.chance(0.02):
            self.world.fault("template lost", trial.key)
            self._end(trial, Outcome(NEVER_STARTED))
            return
        self.world.rules.begins(self, trial.attempt)
        trial.pid, trial.began = self.world.new_identity().pid, self.world.time
        order, script = trial.order, trial.script
        self._say("started", attempt=trial.key, pid=trial.pid, ticks=trial.pid, at=self.world.now())
        if not self.world.calm and self.world.chance(0.05):
            self.world.fired["news told twice"] += 1
            self._say("started", attempt=trial.key, pid=trial.pid, ticks=trial.pid, at=self.world.now())
        trial.timers += [
            self.after(script.seconds, lambda: self._exits(trial)),
            self.after(order.timeout, lambda: self._judge(trial, TIMED_OUT, insist=False)),
        ]

    def _exits(self, trial: Trial) -> None:
        if trial.verdict or trial.script.stuck:
            return
        code = trial.script.code
        failure = Failure(code, f"as its script says: {code}") if code else None
        result = {"n": str(trial.attempt.phase), "of": trial.attempt.number} if not code else None
        outcome = Outcome(EXITED, int(bool(code)), failure=failure, result=result, duration_seconds=self._age(trial))
        self._end(trial, outcome)

    def _judge(self, trial: Trial, verdict: str, *, insist: bool) -> None:
        if trial.key not in self.trials:
            return
        first = not trial.verdict
        trial.verdict = trial.verdict or verdict
        if trial.script.stuck:
            return  # it cannot be ended: not even by SIGKILL
        if not trial.pid:
            self._end(trial, Outcome(trial.verdict))
        elif first or insist:
            grace = trial.order.kill_grace if trial.script.stubborn and not insist else 0.02
            outcome = Outcome(trial.verdict, duration_seconds=self._age(trial), insisted=grace > 0.1)
            trial.timers.append(self.after(grace, lambda: self._end(trial, outcome)))

    def free(self) -> None:
        """What could not be ended can be, by now."""
        for trial in list(self.trials.values()):
            trial.script = Script(trial.script.seconds)
            if trial.verdict:
                self.after(0.1, lambda trial=trial: self._end(trial, Outcome(trial.verdict)))  # type: ignore[misc]

    def _age(self, trial: Trial) -> float:
        return round(self.world.time - trial.began, 3)

    def _stop(self, message: dict[str, Any]) -> None:
        key = str(message["attempt"])
        trial, outcome = self.trials.get(key), self.untaken.get(key)
        if trial is not None:
            self._judge(trial, STOPPED, insist=bool(message.get("insist")))
        elif outcome is not None:
            self._say("ended", attempt=key, outcome=outcome.as_dict())
        else:
            self._refuse(key, "this agent does not know it")

    def _refuse(self, key: str, why: str) -> None:
        self._say("ended", attempt=key, outcome=Outcome(NEVER_STARTED, failure=Failure("INTERNAL", why)).as_dict())

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        if self.trials.pop(trial.key, None) is None:
            return
        for timer in trial.timers:
            timer.cancel()
        self.world.rules.ends(trial.attempt, outcome)
        self.untaken.add(trial.key, outcome, is_urgent=self.owner is None)
        self._say("ended", attempt=trial.key, outcome=outcome.as_dict())
        if not self.world.calm and self.world.chance(0.05):
            self.world.fired["news told twice"] += 1
            self._say("ended", attempt=trial.key, outcome=outcome.as_dict())
