"""The world with what stands in it: the pipeline and its scripts, processes, sockets, whoever asks, and all that fails."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import look, process
from orchestrator.config import Settings
from orchestrator.core import observations as obs
from orchestrator.core.gate import Approval
from orchestrator.core.item import Item
from orchestrator.core.names import AttemptId, Identity
from orchestrator.core.plan import Plan
from orchestrator.core.retry import default_rules
from orchestrator.core.spec import Foreach, RetryRule, Spec
from orchestrator.engine import Engine
from orchestrator.errors import StateUnwritable
from orchestrator.store.asks import Petition
from tests.crash.sim_agents import End, Script, SimAgent
from tests.crash.sim_rules import Rules
from tests.crash.sim_world import HOST, World

# What a phase says of checkpoints, in one story of eight: they cost time.
CHECKPOINTS: tuple[dict[str, Any], ...] = ({}, {"checkpoint": True}, {"checkpoint": True, "on_critical": "rollback"})
NONE: tuple[dict[str, Any], ...] = ({},)


def _approval(draw: random.Random) -> Approval:
    deadline = draw.choice((None, 5.0, 60.0))
    default = draw.choice(("deny", "approve", "approve")) if deadline else "deny"
    return Approval(
        draw.choice(("before", "after")), deadline, default, draw.choice(((), (), ("ann",), ("ann", "bob")))
    )


class Sim(World):
    """The world, with what stands in it: agents, processes, sockets, scripts, the person."""

    def __init__(self, seed: int, folder: str) -> None:
        super().__init__(seed, folder)
        self.root = Path(folder)
        self.system = self.root / "system"
        self.agents: dict[str, SimAgent] = {}
        self.orphans: list[tuple[str, Any]] = []
        self.ends: dict[int, End] = {}
        self.me = Identity(0, 0, "", "")
        self.signals: Any = None
        self.asked: list[Petition] = []
        self.engine: Engine | None = None
        self._fds = 10_000
        self._draw_pipeline()
        self.rules = Rules(self, self.plan, self.system)

    # ---- what is to be done, and what may happen: all drawn

    def _draw_pipeline(self) -> None:
        draw, share = self.random, random.Random(f"pools {self.seed}")
        self.fanned = list[bool | None]()
        kept = random.Random(f"checkpoints {self.seed}")
        numbers = sorted(draw.sample(range(-3, 20), draw.randint(3, 10)))
        retry = {
            code: RetryRule(
                draw.choice((0, 1, 2, 3)), draw.choice((0.0, 0.5, 3.0, 20.0)), draw.choice((1.0, 2.0)), 60.0, 0.1
            )
            for code in ("TRANSIENT", "FAILED", "TIMEOUT", "RESOURCE")
        }
        retry["INTERRUPTED"] = RetryRule(draw.choice((1, 2, 3)), draw.choice((0.0, 1.0, 5.0)), 1.0, 60.0, 0.1)
        self.settings = Settings(
            jobs=draw.randint(1, 4), timeout=draw.choice((15.0, 60.0, 60.0)), kill_grace=draw.choice((0.5, 5.0)),
            stale_after=draw.choice((15.0, 15.0, 90.0)), beat_interval=4.0, heartbeat_timeout=draw.choice((20.0, 40.0)), load_timeout=30.0,
            logs_phase_bytes=1000, logs_keep=3, logs_structured_bytes=10**6, logs_max_age=1e6, trust=True, checkpoints_keep=3, checkpoints_max_age=1e6,
            retry={**default_rules(), **retry}, pools=share.choice(({}, {}, {"one": 1}, {"one": 1, "two": 2})), params={}, secrets={}, notify={}, origins={},
        )  # fmt: skip
        gates = random.Random(f"gates {self.seed}")
        asks = gates.choice((0.0, 0.0, 0.25, 0.5))
        specs = []
        for place, number in enumerate(numbers):
            needs = tuple(sorted(draw.sample(numbers[:place], min(place, draw.choice((0, 0, 1, 1, 2))))))
            retries = draw.choice((None, None, None, 0, 2))
            tokens = {
                pool: share.randint(1, many) for pool, many in self.settings.pools.items() if share.random() < 0.4
            }
            told = kept.choice(CHECKPOINTS if self.seed % 8 == 5 else NONE)
            fans = self._draw_fan(share) if not told else {}
            asked = _approval(gates) if not fans and gates.random() < asks else None
            keys = {"retries": retries, "pools": tokens, "approval": asked, **fans, **told}
            specs.append(Spec(number, f"p{number}", "phases/all.toml", 1, run="true", needs=needs, **keys))
        self.scripts = {
            number: [self._draw_script() for _ in range(draw.choice((0, 1, 1, 2, 4)))] for number in numbers
        }
        self.never = {number for number in numbers if draw.random() < 0.04}  # always fail
        self.plan = Plan(
            [spec.replace(foreach=None, max_parallel=None, fail_fast=False, fail_after=None) if spec.number in self.never else spec for spec in specs],
            look.rules_of(self.settings), "digest",
        )  # fmt: skip

    def _draw_fan(self, draw: random.Random) -> dict[str, Any]:
        if draw.random() > 0.2:
            return {}
        fails = draw.choice(({}, {"fail_fast": True}, {"fail_after": 0.5}, {"fail_after": 1.0}))
        foreach = Foreach(tuple(f"item {one}" for one in range(draw.choice((0, 1, 3, 5)))))
        cache = random.Random(f"items {self.seed} {len(self.fanned)}").choice((None, True))
        self.fanned.append(cache)
        return {"foreach": foreach, "max_parallel": draw.choice((None, 1, 2)), "cache": cache, **fails}

    def _draw_script(self) -> Script:
        draw, seconds = self.random, self.random.choice((0.05, 1.0, 4.0, 12.0, 14.9))
        code = draw.choice(("", "", "TRANSIENT", "TRANSIENT", "FAILED", "RESOURCE", "VALIDATION", "DEPENDENCY"))
        kind = draw.random()
        if kind < 0.12:
            return Script(10_000.0, stubborn=draw.random() < 0.5)
        return Script(seconds, code, stubborn=kind < 0.3, stuck=kind > 0.96)

    def script(self, attempt: AttemptId) -> Script:
        if isinstance(attempt.phase, Item) and attempt.phase not in self.scripts:
            self.scripts[attempt.phase] = [self._draw_script() for _ in range(self.random.choice((0, 0, 1, 2)))]
        waiting = self.scripts.get(attempt.phase)
        if waiting and not self.calm:
            return waiting.pop(0)
        return Script(self.random.uniform(0.1, 6.0), "VALIDATION" if attempt.phase in self.never else "")

    def latency(self) -> float:
        return self.random.uniform(0.1, 3.0) if self.time < self.late_until else self.random.uniform(0.0002, 0.004)

    # ---- processes

    def is_alive(self, who: Identity) -> str:
        if not who.boot or who.host != HOST:
            return process.UNKNOWABLE
        if who.boot != f"boot-{self.boots}":
            return process.DEAD
        if who.pid == 1:
            return process.ALIVE
        if who == self.me:
            return process.DEAD if self.dead else process.ALIVE
        agent = self.agent_of(who)
        if agent is not None and agent.is_unknowable and (self.dead or agent.founder != self.me):
            return process.UNKNOWABLE
        if agent is None or not agent.alive:
            return process.DEAD
        return process.STOPPED if agent.paused else process.ALIVE

    def myself(self) -> Identity:
        """The orchestrator, or else whoever asks: a shell that lives as long as the machine does."""
        return self.me if self.acting == "orch" else Identity(1, 1, f"boot-{self.boots}", HOST)

    def agent_of(self, who: Identity) -> SimAgent | None:
        return next((agent for agent in self.agents.values() if agent.identity == who), None)

    def identity(self, pid: int) -> Identity | None:
        return next(
            (agent.identity for agent in self.agents.values() if agent.identity.pid == pid and agent.alive), None
        )

    def spawn(self, argv: list[str], **_: Any) -> int:
        self.point("spawn")
        theirs, self._theirs = self._theirs, None
        name = argv[argv.index("--agent") + 1]
        assert theirs is not None
        agent = self.agents[name] = SimAgent(self, name, self.system / "agents" / name, theirs)
        self.tell(f"agent {name} is spawned, pid {agent.identity.pid}")
        return agent.identity.pid

    def end(self, who: Identity, grace: float) -> bool:
        self.point("end an agent")
        agent = self.agent_of(who)
        if agent is not None and not self.dead:
            agent.die("ended by identity")
        return True

    def end_orphans(self, root: Path, dead: list[str], attempts: list[Identity], grace: float = 0.0) -> list[str]:
        self.point("sweep")
        found = [trial.key for agent, trial in self.orphans if agent in dead]
        if not self.dead:
            self.orphans = [(agent, trial) for agent, trial in self.orphans if agent not in dead]
        return found

    # ---- sockets

    _theirs: End | None = None
    frozen_for = 0.0

    def socketpair(self) -> tuple[End, End]:
        ours, theirs = self._new_end(), self._new_end()
        ours.peer, theirs.peer = theirs, ours
        self.ends[ours.fileno()] = ours
        self._theirs = theirs
        return ours, theirs

    def connect(self, folder: Path) -> End:
        self.point("connect")
        agent = self.agents.get(folder.name)
        if agent is None or not agent.alive or not agent.up or not folder.exists():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        ours, theirs = self.socketpair()
        agent.do(lambda: agent.welcome_in(theirs))
        return ours

    def connect_or_none(self, folder: Path) -> End:
        try:
            return self.connect(folder)
        except OSError:
            ours, theirs = self.socketpair()
            theirs.peer, ours.is_over = ours, True
            return ours

    def _new_end(self) -> End:
        self._fds += 1
        return End(self, self._fds)

    # ---- faults that come by themselves

    def plan_faults(self) -> None:
        draw = self.random
        for kind, act, most in (
            ("kill", self._kill, 2), ("power", self._power, 1), ("agent", self._kill_agent, 2), ("stop", self._stop_agent, 2),
            ("cut", self._cut_connection, 2), ("late", self._late, 1), ("slow", self._slow, 1), ("full", self._full, 1),
            ("disk", self._disk, 2), ("clock", self._clock, 1), ("hide", self._hide_agent, 2), ("freeze", self._stop_orchestrator, 2), ("ask", self._ask, 3), ("signal", self._signal, 2),
        ):  # fmt: skip
            share = draw.choice((0.0, 0.5, 1.0)) if kind != "ask" else 1.0
            if kind == "ask" and self.chance(0.15):
                most = 25  # many shells at once
            for _ in range(draw.randint(0, most) if draw.random() < share else 0):
                self.after(draw.choice((10.0, 60.0, 250.0)) * draw.random(), self._unless_calm(act))

    def _unless_calm(self, act: Callable[[], None]) -> Callable[[], None]:
        return lambda: None if self.calm else act()

    def _kill(self) -> None:
        if not self.dead:
            self.doomed = "orchestrator killed"

    def _power(self) -> None:
        if not self.dead:
            self.doomed = "power cut"

    def _busy(self) -> list[SimAgent]:
        return [agent for agent in self.agents.values() if agent.alive and agent.up]

    def _kill_agent(self) -> None:
        for agent in self._busy()[:1]:
            self.fault("agent killed", agent.name)
            agent.die("kill -9", orphans=self.chance(0.5))

    def _stop_agent(self) -> None:
        for agent in self._busy()[:1]:
            self.fault("agent stopped", agent.name)
            agent.pause()
            self.after(self.random.choice((1.0, 10.0, 100.0)), agent.go_on)

    def _hide_agent(self) -> None:
        """For longer than is borne nobody can say from here whether it lives; orchestrators come and go meanwhile."""
        agents = [one for one in self._busy() if any(trial.order.timeout > 50 for trial in one.trials.values())]
        if not agents and self.time < 200:
            self.after(3.0, self._unless_calm(self._hide_agent))
        for agent in agents[:1]:
            agent.delay()
            self.fault("agent hidden", agent.name)
            agent.is_unknowable = True
            hidden_for = self.settings.stale_after + 8.0
            for seconds in (0.0, self.settings.stale_after, hidden_for):
                self.after(seconds + 0.1, self._kill)
            self.after(hidden_for, agent.show)

    def _stop_orchestrator(self) -> None:
        """SIGSTOP, and SIGCONT after a while; what is said meanwhile is heard then, all at once."""
        if not self.dead:
            self.fault("orchestrator stopped")
            self.frozen_for = self.random.choice((5.0, 60.0, 120.0))

    def _cut_connection(self) -> None:
        for end in [one for one in self.ends.values() if not one.is_closed][:1]:
            self.fault("connection cut")
            end.cut()

    def _late(self) -> None:
        self.fault("messages late")
        self.late_until = self.time + self.random.uniform(1, 20)

    def _slow(self) -> None:
        self.slow_until = self.time + self.random.uniform(1, 20)

    def _full(self) -> None:
        self.full_until = self.time + self.random.uniform(0.5, 20)

    def _disk(self) -> None:
        self.disk_faults.append((self.random.choice((0, 1, 2, 3, 8)), self.random.choice((errno.EIO, errno.ENOSPC))))

    def _clock(self) -> None:
        shift = self.random.choice((-1, 1)) * self.random.choice((30.0, 3600.0, 86400.0, 5 * 86400.0))
        self.wall_shift += shift
        self.fault("clock jump", f"{shift:+.0f} s")

    def _signal(self) -> None:
        if self.signals is not None and not self.dead:
            self.fault("signal")
            self.signals.put(obs.Interrupt("SIGTERM", 143))
            self.wakes = True

    def _ask(self) -> None:
        verb = self.random.choice(
            ("cancel", "cancel", "cancel", "retry", "retry", "pause", "resume", "skip", "skip", "reset", "reset")
        )
        if self.asked and self.chance(0.1):
            self._ask_again()
            return
        number = self.random.choice([*self.plan.specs, *self.plan.specs, *self.rules.plan.items, 99])
        if verb in ("pause", "resume") or (verb in ("cancel", "reset") and self.chance(0.2)):
            number = None
        options = ()
        if verb == "reset":
            options = self.random.choice(((), ("lost",), ("with-dependents",) if number is not None else ()))
        self.ask(verb, number, *options)

    def ask(self, verb: str, number: int | None = None, *options: str, by: str = "ann") -> None:
        why = "so" if verb in ("skip", "reject") else ""
        asked = obs.Asked(f"ask-{len(self.asked)}", verb, by, number, why, options)
        try:
            self.asked.append(Petition(self.system, asked, self.now()))
        except StateUnwritable:
            return
        told = [one for one in options if not one.startswith("gate=")]
        self.operations[" ".join(["ask", verb, *(["N"] if number is not None else []), *told])] += 1
        self.tell(f"{asked.told()} (ask-{len(self.asked) - 1})")

    def _ask_again(self) -> None:
        """The same ask once more, as after a crash of whoever asked: it is not done twice."""
        old = self.random.choice(self.asked).ask
        try:
            Petition(self.system, old, self.now())
        except StateUnwritable:
            return
        self.operations["asked twice"] += 1

    def somebody_decides(self, number: int) -> None:
        """By hand or by nobody, where a deadline does; sometimes by two at once."""
        gate = self.rules.state.phase(number).gate
        if self.calm or gate is None or gate.due_at is None or self.chance(0.6):
            self.after(self.random.choice((0.5, 5.0, 30.0)), lambda: self._decide(number))

    def _decide(self, number: int) -> None:
        phase, draw = self.rules.state.phase(number), self.random
        if phase.status != "awaiting_approval" or phase.gate is None:
            return
        who = [*phase.gate.who] or ["ann", "bob"]
        verbs = ["approve"] if self.calm else draw.choices(("approve", "reject"), (3, 1), k=draw.choice((1, 1, 2)))
        for verb in verbs:
            by = draw.choice(who) if self.calm else draw.choice([*who, "ann", "bob"])
            meant = phase.gate.id if self.calm or draw.random() < 0.9 else "deadbeef"
            self.ask(verb, number, f"gate={meant}", by=by)
        self.after(15.0, lambda: self._decide(number))

    def somebody_resumes_it(self) -> None:
        """However often that takes: asks are lost with the power, and with whoever was to answer."""
        self.after(self.random.choice((0.5, 5.0, 30.0)), self._resume)

    def _resume(self) -> None:
        if self.rules.state.run.paused is not None:
            self.ask("resume")
            self.after(20.0, self._resume)
