"""The rules of DESIGN, looked at after every step, every life and at the end, whatever the journal says."""

from __future__ import annotations

from typing import Any

from orchestrator.core import events as ev
from orchestrator.core.agenda import begins_anew
from orchestrator.core.draft import Decision
from orchestrator.core.events import Event
from orchestrator.core.item import phase_of
from orchestrator.core.names import AttemptId, epoch
from orchestrator.core.state import State
from orchestrator.core.stuck import PRESS_EVERY
from orchestrator.core.table import DONE
from orchestrator.errors import StateDamaged
from orchestrator.store import journal
from orchestrator.store.reading import read_lines, read_state
from tests.crash import sim_truth as rule
from tests.crash.sim_truth import SLACK, Ledger
from tests.store.given import seen


class Rules(Ledger):
    # ---- what is written down

    def intends(self, decision: Decision, now: float) -> None:
        if self.in_flight is not None:
            raise self.breaks(rule.ONE_LINE, "a decision is written while another is not finished")
        self.in_flight, self.giving_up = (decision, now), []
        for event in decision.events:
            if isinstance(event, ev.PhaseRecovered | ev.PhaseMended):
                self._give_up_if_hidden(AttemptId(self.state.run.id, event.number, event.attempt))

    def acknowledged(self) -> None:
        assert self.in_flight is not None
        (decision, now), self.in_flight = self.in_flight, None
        self._take(decision, now)

    def _take(self, decision: Decision, now: float) -> None:
        self.seq += 1
        self.lines.append([event.as_dict() for event in decision.events])
        self.world.operations["commits"] += 1
        for event, reason in zip(decision.events, decision.reasons, strict=True):
            self.world.tell(f"#{self.seq} {_short(event)}   because {reason}")
            self._check(event)
            self.state.apply(event, now)
            self._remember(event)
            if begins_anew(self.plan, [event]):
                self.plan = self.plan.spread(self.state)
        for number in {event.number for event in decision.events if isinstance(event, ev.PhaseCompleted)}:
            if self.plan.asks_afterwards(number) and self.state.phase(number).status == "completed":
                raise self.breaks(rule.GATES, f"{number} is done, and nobody was asked")

    def reopened(self, state: State, seq: int) -> None:
        """Whoever opens the state finds all that was acknowledged, and of what was not, all or nothing."""
        if self.in_flight is not None and seq == self.seq + 1:
            self.world.operations["unacknowledged, and there"] += 1
            self.acknowledged()
            self.taken_over = max(self.taken_over, len(self.state.live))  # it is of the life before
        elif self.in_flight is not None:
            self.world.operations["unacknowledged, and not there"] += 1
            self.in_flight = None
            for attempt in self.giving_up:  # nobody did
                self.truth(attempt).given_up = False
        if seq > self.seq:
            raise self.breaks(rule.ONE_LINE, f"{self.seq} decisions were taken, there are {seq} lines")
        if seq != self.seq:
            raise self.breaks(rule.ACKNOWLEDGED, f"{self.seq} decisions were acknowledged, {seq} are there")
        if seen(state) != seen(self.state):
            raise self.breaks(rule.ACKNOWLEDGED, "the state is another")
        self._wait_anew()

    # ---- after every step, every life, and at the end

    def check_wait(self, engine: Any, wait: float) -> None:
        state, world = self.state, self.world
        for number in state.awaiting:
            gate, (since, shift) = state.phase(number).gate, self.gates[number]
            delay = gate.delay_seconds if gate is not None else None
            late = delay is not None and wait > SLACK and world.time + wait > since + delay + SLACK
            if engine.mode.starts and state.run.verdict is None and late and shift == world.wall_shift:
                raise self.breaks(rule.AWAKE, f"the gate of {number} closes, and the loop sleeps for {wait:.3f}")
        if not engine.mode.starts or state.run.stopping or state.run.verdict is not None or not engine.mode.agent:
            return
        if state.run.paused is not None:
            return
        if len(state.live) >= engine.mode.jobs:
            return
        for number, (_, latest, _) in self.due.items():
            is_free = number in state.run.scope and all(self._is_settled(need) for need in self.plan.needs[number])
            is_free = is_free and not self._short(number) and self._may_go_on(number)
            if is_free and not engine.mode.no_wait and wait > SLACK and world.time + wait > latest + SLACK:
                raise self.breaks(rule.AWAKE, f"{number} is due at {latest:.3f}, and the loop sleeps for {wait:.3f}")
        ready = [
            number
            for number in self.plan.needs
            if state.phase(number).status == "pending" and number in state.run.scope and not self._short(number)
            if self._may_go_on(number)
        ]
        for number in (one for one in ready if not self.plan.asks_first(one, state.phase(one))):
            if wait > 0.001 and all(self._has_ended(need, number) for need in self.plan.needs[number]):
                raise self.breaks(rule.AWAKE, f"{number} could start, and the loop sleeps for {wait:.3f}")

    def _has_ended(self, need: int, number: int) -> bool:
        """What is done; or of items that it may come to gather, what is over."""
        phase = self.state.phase(need)
        return self._is_settled(need) or (phase_of(need) == number and phase.status in ("failed", "cancelled"))

    def _is_settled(self, number: int) -> bool:
        """Done, and nothing that it was made from is about to be done again."""
        phase = self.state.phase(number)
        if not phase.is_done or phase.status == "skipped":
            return phase.is_done
        needs = self.plan.specs[number].needs if number in self.plan.specs else ()
        again = (need for need in needs if need in self.state.run.scope and not self._is_settled(need))
        return all(self.state.phase(need).status in ("failed", "cancelled") for need in again)

    def _may_go_on(self, number: int) -> bool:
        """Items are begun only while their phase waits for them."""
        return phase_of(number) == number or self.state.phase(phase_of(number)).status == "pending"

    def check_step(self, engine: Any) -> None:
        if self.mode.starts and len(self.state.live) > max(self.mode.jobs, self.taken_over):
            raise self.breaks(rule.JOBS, f"{len(self.state.live)} at once")
        if short := self._short():
            raise self.breaks(rule.JOBS, f"more tokens of {short} are held than there are")
        for attempt, since in self.stops.items():
            most = self.plan.net_seconds(attempt.phase) + 5 * PRESS_EVERY + self.plan.rules.heartbeat_timeout
            if self.world.time - max(since, self.life_began) > most and not self.truth(attempt).given_up:
                raise self.breaks(rule.STOP_ENDS, f"{attempt} was to end {self.world.time - since:.0f} s ago")

        self._check_ghosts()

    def _short(self, *more: int) -> list[str]:
        """The pools of which more would be held than there are, if these phases ran besides."""
        taken = [spec.pools for number in (*self.state.live, *more) if (spec := self.plan.spec(number)) is not None]
        pools = self.plan.rules.pools
        return [pool for pool in pools if sum(tokens.get(pool, 0) for tokens in taken) > pools[pool]]

    def _check_ghosts(self) -> None:
        """An attempt that was given up, and whose agent is there again: it is ended."""
        for agent in self.world.agents.values():
            if not agent.alive or agent.owner is None or agent.paused:
                continue
            for trial in agent.trials.values():
                truth = self.truth(trial.attempt)
                if not truth.given_up or trial.script.stuck:
                    continue
                if truth.reached is None or truth.reached < self.life_began:  # by whoever holds the lock now
                    truth.reached = self.world.time
                    self.world.operations["ghosts"] += 1
                if self.world.time - truth.reached > trial.order.kill_grace + 6.0:
                    raise self.breaks(rule.GHOSTS, f"{trial.attempt} was given up, its agent is there, and it goes on")

    def check_files(self) -> None:
        """What is on the disk: both copies say the same, and the journal has what was acknowledged."""
        try:
            loaded = read_state(self.system)
            lines = list(read_lines(self.system)) if (self.system / "journal").exists() else []
        except StateDamaged as error:
            raise self.breaks(rule.UNDAMAGED, str(error)) from error
        for line in lines:
            if line.seq <= len(self.lines) and line.events != self.lines[line.seq - 1]:
                raise self.breaks(rule.ACKNOWLEDGED, f"line {line.seq} is another")
        there = journal.segments(self.system / "journal")
        if there and there[0].first == 1:
            fold = State()
            for line in lines:
                for event in line.events:
                    fold.apply(Event.from_dict(event), epoch(line.at))
            if seen(fold) != seen(loaded.state):
                raise self.breaks(rule.FOLD, "state.json and the journal differ")
        least = self.seq + (1 if self.in_flight else 0)
        if not self.seq <= loaded.position.seq <= least:
            raise self.breaks(rule.ACKNOWLEDGED, f"{self.seq} were acknowledged, {loaded.position.seq} are there")

    def check_exit(self, code: int, *, no_wait: bool) -> None:
        run = self.state.run
        places = {self.state.phase(number).status for number in self.plan.specs if number in run.scope}
        places |= {
            self.state.phase(one).status for one in self.plan.items if one in run.scope and self._may_go_on(one)
        } & {"retry_wait"}
        if run.stopping:
            right = run.stopping_code
        elif places <= DONE:
            right = 0
        elif run.verdict == "waiting" and ("awaiting_approval" in places or (no_wait and self._is_held_up(places))):
            right = 1 if "failed" in places else 3
        else:
            right = 1
        if code != right:
            raise self.breaks(rule.EXIT, f"{code} for {sorted(places)}, stopping: {run.stopping}; it should be {right}")

    def _is_held_up(self, places: set[str]) -> bool:
        return "retry_wait" in places or self.state.run.paused is not None

    def check_rest(self, agents: dict[str, Any], *, is_run: bool) -> None:
        """A call has ended: what is still in progress has an owner, or lies on the disk for the next who looks."""
        for number in self.state.live:
            if not is_run and self.truth(self.state.attempt_id(number)).is_written:
                continue
            phase = self.state.phase(number)
            agent = agents.get(phase.agent or "")
            is_news = agent is not None and agent.died_at > self.life_began  # too late for a turn to hear of it
            if is_run or agent is None or not (agent.alive or agent.is_unknowable or is_news):
                raise self.breaks(rule.OWNED, f"{number} is {phase.place}, its agent {phase.agent} is not there")


def _short(event: Event) -> str:
    fields = {key: value for key, value in event.as_dict().items() if key in _TOLD}
    told = " ".join(f"{key}={value}" for key, value in fields.items())
    code = getattr(getattr(event, "failure", None), "code", "")
    return f"{event.kind} {told} {code}".strip()


_TOLD = (
    "number",
    "attempt",
    "agent",
    "why",
    "delay_seconds",
    "verdict",
    "exit_code",
    "verb",
    "accepted",
    "text",
    "run",
)
