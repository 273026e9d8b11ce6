"""One seed, one story: the whole of orch (app, engine, core, store, bridge) in a world where all that can fail does.

Real: everything that an orchestrator is made of, down to the calls of `os`. Simulated: the clock, processes, sockets,
the disk where it fails, the agents, and the person who asks. `simulate(seed)` is a function of the seed.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from orchestrator import app, look
from orchestrator.core.events import Scope
from orchestrator.core.gate import ITS_DEADLINE
from orchestrator.errors import OrchError, RunActive, StateUnwritable
from tests.crash import sim_truth as rule
from tests.crash.sim_faults import Sim
from tests.crash.sim_stage import installed
from tests.crash.sim_world import Broken, Cut

MINUTES = 10  # of simulated time, until the world is calm
LIVES = 11  # of orchestrators, at most, until then
CUTS = ("orchestrator killed", "orchestrator killed", "power cut", "power cut", "all killed")
MEMORY = "/dev/shm"
FAULTS = (
    "orchestrator killed", "power cut", "agent killed", "agent stopped", "connection cut", "messages late",
    "message doubled", "news told twice", "template lost", "slow disk", "disk full", "EIO", "ENOSPC", "clock jump",
    "all killed", "agent hidden", "orchestrator stopped", "signal",
)  # fmt: skip
OPERATIONS = (
    "ask cancel", "ask cancel N", "ask retry N", "ask pause", "ask resume", "ask skip N", "ask reset", "ask reset N",
    "ask reset lost", "ask reset N lost", "ask reset N with-dependents", "ask approve N", "ask reject N",
    "decided by a person", "decided by its deadline", "asked twice", "recover", "status", "run", "run --new", "turn", "items kept",
)  # fmt: skip


class Report:
    def __init__(self, seed: int, world: Sim, broken: Broken | None) -> None:
        self.seed, self.broken = seed, broken
        self.story, self.fired, self.operations = world.story, world.fired, world.operations
        self.seconds = world.time

    @property
    def rule(self) -> str:
        return str(self.broken).partition(": ")[0] if self.broken else ""

    def told(self) -> str:
        return "\n".join([f"seed {self.seed}: {self.broken or 'every rule held'}", *self.story])


class Driver:
    """What people do with it: run, look, recover, ask; again and again until all is done."""

    def __init__(self, world: Sim) -> None:
        self.world, self.rules = world, world.rules

    def play(self) -> None:
        world = self.world
        world.plan_faults()
        runs = 1 + world.chance(0.4)
        for _ in range(LIVES):
            if world.time > MINUTES * 60:
                break
            if self._is_done():
                runs -= 1
                if not runs:
                    break
            self._live_somehow(wants_new=self._is_done())
            world.advance(world.time + world.random.choice((0.01, 0.3, 3.0, 15.0)))
        self._end_calmly()

    def _is_done(self) -> bool:
        state = self.rules.state
        return bool(state.run.id) and all(state.phase(number).is_done for number in self.world.plan.specs)

    def _live_somehow(self, *, wants_new: bool) -> None:
        world, draw = self.world, self.world.random
        world.jobs = draw.choice((world.settings.jobs, world.settings.jobs, 1, 3))
        if draw.random() < 0.5:
            world.points_left = int(10 ** draw.uniform(0, 2.7))
            world.cut_kind = draw.choice(CUTS)
        if world.power_follows:
            world.points_left, world.cut_kind, world.power_follows = draw.randint(5, 80), "power cut", False
        what = draw.random()
        if what < 0.12:
            self.look()
        elif what < 0.25:
            self.recover()
        elif what < 0.35 or (world.asked and draw.random() < 0.3):
            self.turn()
        else:
            self.run(new=wants_new or draw.random() < 0.04, no_wait=draw.random() < 0.15, force=draw.random() < 0.04)

    # ---- one life of an orchestrator

    def live(self, what: str, call: Callable[[], Any]) -> Any:
        world, rules = self.world, self.rules
        world.me, world.dead, world.acting, world.doomed = world.new_identity(), False, "orch", ""
        world.failed_files.clear()
        rules.life_began, rules.taken_over = world.time, len(rules.state.live)
        world.operations[what] += 1
        world.tell(f"---- orch {what}, pid {world.me.pid}")
        told, result = "ended", None
        try:
            result = call()
        except Cut as cut:
            told = str(cut)
        except RunActive as error:
            told = f"refused: {error}"
        except StateUnwritable as error:
            told = f"exit 74: {error}"
            if world.calm:
                raise world.breaks("nothing fails in a calm world", str(error)) from error
        except Broken:
            raise
        except OrchError as error:
            raise world.breaks("no fault of orch's own (§6)", f"{type(error).__name__}: {error}") from error
        except Exception as error:
            raise world.breaks("never a traceback (§5.11)", f"{type(error).__name__}: {error}") from error
        finally:
            world.dead, world.acting, world.points_left = True, "world", 0
            self._hang_up()
            world.close_files()
        world.tell(f"---- {told}")
        if told == "power cut":
            self._lose_power()
        elif told == "all killed":
            self._kill_agents()
        if told != "ended":
            rules.check_files()
        return result

    def _hang_up(self) -> None:
        """The process is gone, and with it its ends of the sockets."""
        for end in self.world.ends.values():
            end.close()
        self.world.ends.clear()

    def _lose_power(self) -> None:
        world = self.world
        self._kill_agents()
        world.orphans.clear()
        world.full_until = world.slow_until = -1.0
        world.power.cut()
        world.operations["lost with the power"] += world.power.lost
        world.power.lost = 0
        world.boots += 1
        world.booted_at = world.time - 20.0

    def _kill_agents(self) -> None:
        for agent in self.world.agents.values():
            agent.die("all were killed at once", orphans=self.world.chance(0.5))

    def run(self, *, new: bool = False, no_wait: bool = False, force: bool = False) -> None:
        world = self.world
        settings = world.settings.replace(jobs=world.jobs)
        options = app.RunOptions(Scope(), new=new, no_wait=no_wait, force=force)
        what = "run" + (" --new" if new else "")
        result = self.live(what, lambda: app.run(world.root, settings, options, (), lambda found: None, lambda: 3600.0))
        if result is not None and result.began:
            self.rules.check_exit(result.exit_code, no_wait=no_wait)
            self.rules.check_rest(world.agents, is_run=True)

    def recover(self) -> None:
        world = self.world
        busy = any(agent.alive for agent in world.agents.values())
        if self.live("recover", lambda: app.recover(world.root, world.settings, takeover=False)) is None:
            return
        self.rules.check_rest(world.agents, is_run=False)
        if not busy:
            before = self.rules.seq
            again = self.live("recover", lambda: app.recover(world.root, world.settings, takeover=False))
            if again is None or (not again.events and self.rules.seq == before):
                return
            if not again.events or any(getattr(one, "by", "") != ITS_DEADLINE for one in again.events):  # passed since
                raise world.breaks(rule.TWICE, f"the second wrote {again.events}")

    def turn(self) -> None:
        world = self.world
        if self.live("turn", lambda: app.ask_in_turn(world.root, world.settings)):
            self.rules.check_rest(world.agents, is_run=False)
            waiting = [path.name for path in (world.system / "asks").glob("*.taken")]
            if waiting:
                raise world.breaks(rule.ASKS, f"a turn that ended left {waiting}")

    def look(self) -> None:
        """Nobody holds the lock: what is shown is what the next holder writes."""
        world = self.world
        before, disk = self.rules.seq, world.operations["disk"]
        shown = look.Look(world.root)
        world.operations["status"] += 1
        world.tell("---- orch status")
        if world.operations["disk"] != disk:
            raise world.breaks(rule.LOOK_ONLY, "something was written")
        if any(agent.alive for agent in world.agents.values()) or self.rules.in_flight or self.rules.seq != before:
            return
        found = self.live("recover", lambda: app.recover(world.root, world.settings, takeover=False))
        if found is None:
            return
        kinds = [
            [(event.kind, getattr(event, "number", None)) for event in events]
            for events in (shown.recovered, found.events)
        ]
        if kinds[0] != kinds[1]:
            raise world.breaks(rule.LOOK, f"shown: {kinds[0]}; written: {kinds[1]}")

    # ---- the end

    def _end_calmly(self) -> None:
        """No more faults: all that can be done is done, and nothing is left behind."""
        world, rules = self.world, self.rules
        world.calm, world.jobs, world.late_until = True, world.settings.jobs, -1.0
        world.tell("==== calm")
        for agent in world.agents.values():
            agent.go_on()
            agent.free()
        for number in rules.state.awaiting:
            world.somebody_decides(number)
        for _ in range(8 + 2 * sum(spec.approval is not None for spec in world.plan.specs.values())):
            self.run()
            world.advance(world.time + (35.0 if rules.state.awaiting else 0.5))
            if rules.state.awaiting:
                self.turn()
            if all(rules.state.phase(number).is_done or self._is_hopeless(number) for number in world.plan.specs):
                break
        else:
            places = {number: rules.state.phase(number).place for number in world.plan.specs}
            raise world.breaks("a calm world comes to an end (§8)", f"{places}")
        self.turn()
        while rules.state.run.paused is not None:
            world.advance(world.time + 30)
            self.turn()
        world.advance(world.time + 60)
        while any(agent.is_unknowable for agent in world.agents.values()):  # whoever was given up before they were seen
            world.advance(world.time + 30)
        self.recover()
        world.advance(world.time + 1)
        self.recover()
        self._check_nothing_left()
        self._check_asks()

    def _is_hopeless(self, number: int) -> bool:
        """It always fails, was interrupted too often, or needs such a one."""
        phase = self.rules.state.phase(number)
        if (
            number in self.world.never
            or number in self.rules.rejected
            or self.rules.interruptions[number] > self.world.settings.retry["INTERRUPTED"].tries
        ):
            return not phase.is_live
        return any(self._is_hopeless(need) for need in self.rules.plan.needs[number])

    def _check_nothing_left(self) -> None:
        world = self.world
        self.rules.check_files()
        left = [agent.name for agent in world.agents.values() if agent.alive]
        left += [f"orphan {trial.key}" for _, trial in world.orphans]
        left += [key for key, truth in self.rules.truths.items() if truth.is_alive]
        left += [str(path) for path in (world.system / "agents").glob("*/*")]
        left += [str(path) for path in world.system.rglob(".*.new")]
        left += [str(path) for path in (world.system / "asks").iterdir() if path.suffix in (".json", ".taken")]
        if left:
            raise world.breaks(rule.NOTHING_LEFT, ", ".join(left))

    def _check_asks(self) -> None:
        world = self.world
        for ask, many in self.rules.answers.items():
            if many > 1:
                raise world.breaks(rule.ASKS, f"{ask} was answered {many} times")
        for petition in self.world.asked:
            told, kept = petition.answer(), self.rules.state.answers.get(petition.ask.ask)
            if world.boots:
                continue  # what nobody synced may be gone, and so is whoever asked
            if told is None or kept is None or told != (kept["accepted"], kept["text"]):
                raise world.breaks(rule.ASKS, f"{petition.ask.ask}: answered {told}, kept {kept}")


def simulate(seed: int) -> Report:
    folder = tempfile.mkdtemp(prefix="orch-sim-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
    world = Sim(seed, folder)
    world.segment = world.random.choice((1500, 6000, 10**6))
    try:
        with installed(world), suppress(Broken):
            Driver(world).play()
    finally:
        gc.collect(0)
        shutil.rmtree(folder, ignore_errors=True)
    return Report(seed, world, world.first)


def total(reports: list[Report]) -> tuple[Counter[str], Counter[str]]:
    fired, operations = Counter[str](), Counter[str]()
    for report in reports:
        fired.update(report.fired)
        operations.update(report.operations)
    return fired, operations
