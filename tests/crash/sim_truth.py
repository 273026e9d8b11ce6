"""What really became of every attempt, and each event checked against it; the names of all rules."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from orchestrator.core import events as ev
from orchestrator.core.draft import Decision, Mode
from orchestrator.core.events import Event
from orchestrator.core.fanout import may_fail
from orchestrator.core.gate import ITS_DEADLINE
from orchestrator.core.item import Item, item, phase_of
from orchestrator.core.names import AttemptId
from orchestrator.core.outcome import NEVER_STARTED, STOPPED, TIMED_OUT, Outcome, failure_of
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.core.stuck import WHY as NET
from orchestrator.errors import CODES
from tests.crash.sim_world import Broken, World

ONE_ALIVE = "never two live attempts of one phase (§5.6)"
END_SEEN = "no start before the end of the one before was seen (§3)"
WRITTEN_FIRST = "written down, then done (§5.1)"
ACKNOWLEDGED = "what was acknowledged is there after any crash (§5.1)"
UNDAMAGED = "a crash damages nothing (§5.3)"
FOLD = "state.json is the fold of the journal (§5.2)"
FINAL = "what is finished is not run again, unless what it needs comes out otherwise, and never made worse (§5.6)"
STARTED = "what has started is never forgotten (§5.6)"
OUTCOME = "an outcome that was written down is not lost (§5.5)"
TRUE_END = "an end is recorded as it was (§4)"
TRIES = "attempts that never started, or were lost, cost no try (§3)"
LIMIT = "no more tries than the rule allows (§6)"
IN_A_ROW = "interrupted three times in a row, it stays failed (§5.6)"
JOBS = "never more at once than jobs (§5.9)"
STOPPING = "nothing starts in a run that is being ended (§6)"
STOP_ENDS = "a stop is followed by an end (§5.7)"
OWNED = "nothing is in progress without somebody alive who owns it (§5.8)"
NOTHING_LEFT = "nothing is left when it is over (§5.7)"
PAUSED = "nothing starts in a run that is paused (§6)"
SKIPPED = "what was skipped is not run before somebody takes that back (§6)"
GATES = "a gate is decided once, in time, by who may, and nothing passes it before (§6)"
NEEDS = "needs are done before a start (§6)"
NO_START_IN_TURN = "a turn starts nothing (§5.4)"
DUE = "a retry starts when it is due, and not before (§5.14)"
AWAKE = "the loop does not sleep past what is due (§3)"
ASKS = "every ask is answered once, and always alike (§5.4)"
TWICE = "recovery twice is recovery once (§5.6)"
EXIT = "the exit code fits the state (§6)"
LOOK = "readers show what recovery would write (§5.6)"
LOOK_ONLY = "readers write nothing (§5.6)"
ONE_LINE = "a decision is one line (§5.1)"
GHOSTS = "news of an older attempt is answered with a stop (§3)"
ITEMS = "what fans out is gathered when its items have ended (O17)"
KNOWN = "deadlines are judged after the exits already known (§3)"
SLACK = 0.011  # times on disk have milliseconds, and timers fire a little late


class Truth:
    """What really became of one attempt."""

    def __init__(self) -> None:
        self.began = self.is_alive = self.is_killed = self.stop_asked = self.given_up = False
        self.outcome: Outcome | None = None
        self.is_written = False  # its outcome, durably
        self.reached: float | None = None  # when the agent that has it, though it was given up, was heard of again


class Ledger:
    """The truth of the world beside the fold of what was acknowledged."""

    def __init__(self, world: World, plan: Plan, system: Path) -> None:
        self.world, self.plan, self.system = world, plan, system
        self.state = State()  # the fold of what was acknowledged
        self.seq = 0
        self.in_flight: tuple[Decision, float] | None = None
        self.giving_up: list[AttemptId] = []  # by the decision in flight
        self.lines: list[list[dict[str, Any]]] = []  # of each acknowledged decision, its events
        self.truths: dict[str, Truth] = {}
        self.charges: Counter[int] = Counter()  # tries used up since the last reset
        self.interruptions: Counter[int] = Counter()
        self.finished: set[int] = set()  # in this run
        self.succeeded: set[tuple[int, str]] = set()  # phase, and for which of its items, in any run
        self.judged: set[int] = set()  # of these, those that something they need is run again for
        self.answers: Counter[str] = Counter()
        self.held: set[int] = set()  # somebody cancelled it, and nobody took that back
        self.skipped: set[int] = set()  # the same of a skip
        self.rejected: set[int] = set()  # the same of a no
        self.gates: dict[
            int, tuple[float, float]
        ] = {}  # who waits for a person: since when, the wall clock's shift then
        self.decided: Counter[tuple[str, int, str]] = Counter()
        self.due: dict[
            int, tuple[float, float, float]
        ] = {}  # phase -> earliest, latest, the shift of the wall clock then
        self.stops: dict[AttemptId, float] = {}
        self.mode = Mode(starts=False)
        self.taken_over = 0
        self.stand: set[int] = set()  # places in the list of what has just fanned out whose keys are as they were
        self.life_began = self.decided_at = self.decided_shift = 0.0
        self.known_ends: set[AttemptId] = set()  # told in this batch

    def truth(self, attempt: AttemptId) -> Truth:
        return self.truths.setdefault(attempt.key, Truth())

    def breaks(self, rule: str, why: str) -> Broken:
        return self.world.breaks(rule, why)

    # ---- what happens in the world

    def begins(self, agent: Any, attempt: AttemptId) -> None:
        self.world.operations["attempts begun"] += 1
        self.world.tell(f"{attempt.key} begins with agent {agent.name}")
        truth = self.truth(attempt)
        if truth.began:
            raise self.breaks(ONE_ALIVE, f"{attempt} begins twice")
        for other in self.alive_of(attempt.phase):
            if not self.truths[other].given_up:
                raise self.breaks(ONE_ALIVE, f"{attempt} begins while {other} is alive")
        phase = self.state.phase(attempt.phase)
        is_known = self.state.run.id == attempt.run and phase.is_live and phase.attempt == attempt.number
        if not is_known and not truth.given_up:
            raise self.breaks(WRITTEN_FIRST, f"{attempt} begins, and the state says {phase.place} {phase.attempt}")
        truth.began = truth.is_alive = True

    def written(self, attempt: AttemptId) -> None:
        self.truth(attempt).is_written = True

    def ends(self, attempt: AttemptId, outcome: Outcome) -> None:
        self.world.tell(f"{attempt.key} ends: {outcome.kind}" + (f" {outcome.failure.code}" if outcome.failure else ""))
        truth = self.truth(attempt)
        truth.is_alive, truth.outcome = False, outcome
        self.stops.pop(attempt, None)

    def lost(self, attempt: AttemptId) -> None:
        truth = self.truth(attempt)
        truth.is_alive, truth.is_killed = False, True
        self.stops.pop(attempt, None)

    def alive_of(self, number: int) -> list[str]:
        mine = [key for key, truth in self.truths.items() if truth.is_alive and AttemptId.parse(key).phase == number]
        orphans = [trial.key for _, trial in self.world.orphans if trial.attempt.phase == number]
        return mine + orphans

    # ---- each event against the truth

    def _check(self, event: Event) -> None:
        check = getattr(self, f"_check_{event.kind}", None)
        if check is not None:
            check(event)
        if isinstance(event, _ENDS) or (isinstance(event, ev.PhaseCancelled) and event.attempt is not None):
            self._check_end(AttemptId(self.state.run.id, event.number, event.attempt))

    def _check_end(self, attempt: AttemptId) -> None:
        truth = self.truth(attempt)
        self.stops.pop(attempt, None)
        if truth.is_alive and not truth.given_up:
            raise self.breaks(END_SEEN, f"{attempt} is recorded as ended, and is alive")
        if any(trial.attempt == attempt for _, trial in self.world.orphans) and not truth.given_up:
            raise self.breaks(END_SEEN, f"{attempt} is recorded as ended, and its processes are there")

    def _check_AttemptIntended(self, event: ev.AttemptIntended) -> None:
        number, state = event.number, self.state
        if not self.mode.starts:
            raise self.breaks(NO_START_IN_TURN, f"{number}.{event.attempt}")
        if number in self.held or phase_of(number) in self.held:
            raise self.breaks(STOPPING, f"{number}.{event.attempt} is intended, and was cancelled")
        if state.run.paused is not None:
            raise self.breaks(PAUSED, f"{number}.{event.attempt} is intended: paused {state.run.paused}")
        if self.plan.asks_first(number, state.phase(number)) or number in self.rejected:
            raise self.breaks(GATES, f"{number}.{event.attempt} is intended, and was not approved")
        if number in self.skipped:
            raise self.breaks(SKIPPED, f"{number}.{event.attempt} is intended")
        if state.run.stopping:
            raise self.breaks(STOPPING, f"{number}.{event.attempt} is intended: {state.run.stopping}")
        if any(not self.truths[key].given_up for key in self.alive_of(number) if key in self.truths):
            raise self.breaks(END_SEEN, f"{number}.{event.attempt} is intended while {self.alive_of(number)} is alive")
        missing = [need for need in self.plan.needs[number] if not state.phase(need).is_done]
        if missing:
            raise self.breaks(NEEDS, f"{number} is intended, and {missing} are not done")
        if len(state.live) + 1 > self.mode.jobs:
            raise self.breaks(JOBS, f"{number} is intended, {len(state.live)} of {self.mode.jobs} are busy")
        if number in self.finished | self.judged:
            raise self.breaks(FINAL, f"{number} is intended, and was finished in this run")
        if event.attempt != state.phase(number).attempt + 1:
            raise self.breaks(STARTED, f"attempt {number}.{event.attempt} follows {state.phase(number).attempt}")
        if self.interruptions[number] > self.plan.rules.retry["INTERRUPTED"].tries:
            raise self.breaks(IN_A_ROW, f"{number} is intended after {self.interruptions[number]} interruptions")
        self._check_due(number)

    def _check_due(self, number: int) -> None:
        due = self.due.pop(number, None)
        if due is not None and due[2] == self.world.wall_shift and self.world.time < due[0] - SLACK:
            raise self.breaks(DUE, f"{number} is intended at {self.world.time:.3f}, due at {due[0]:.3f}")

    def _check_AttemptWithdrawn(self, event: ev.AttemptWithdrawn) -> None:
        truth = self.truth(AttemptId(self.state.run.id, event.number, event.attempt))
        if truth.began and not truth.given_up:
            rule = OUTCOME if truth.is_written else STARTED
            raise self.breaks(rule, f"{event.number}.{event.attempt} is withdrawn, and had begun")

    def _check_PhaseCompleted(self, event: ev.PhaseCompleted) -> None:
        truth = self.truth(AttemptId(self.state.run.id, event.number, event.attempt))
        if truth.outcome is None or not truth.outcome.succeeded or truth.outcome.result != event.result:
            raise self.breaks(TRUE_END, f"{event.number}.{event.attempt} is recorded as completed")

    def _check_RetryScheduled(self, event: ev.RetryScheduled) -> None:
        self._check_failing(event)
        number, code = event.number, event.failure.code
        rule = self.plan.rules.retry.get(code)
        used = self.interruptions[number] if code == "INTERRUPTED" else self.charges[number]
        spec = self.plan.spec(number)
        assert spec is not None
        most = 0 if rule is None else rule.tries
        if spec.retries is not None and code != "INTERRUPTED" and CODES[code].retry is not None:
            most = spec.retries
        if used >= most:
            raise self.breaks(LIMIT, f"{number} gets another try after {used} of {most} ({code})")

    def _check_PhaseFailed(self, event: ev.PhaseFailed) -> None:
        self._check_failing(event)

    def _lacks_a_checkpoint(self, event: Any) -> bool:
        """What cannot be kept is not begun; if that cost no try, it would be tried for ever."""
        kept = self.plan.specs[event.number].checkpoint
        return kept and str(event.failure.message).startswith("its checkpoint could not be made: ")

    def _check_failing(self, event: Any) -> None:
        attempt = AttemptId(self.state.run.id, event.number, event.attempt)
        truth, code = self.truth(attempt), event.failure.code
        if code == "INTERRUPTED":
            if not truth.is_killed and truth.outcome is None and truth.began and not truth.given_up:
                raise self.breaks(TRUE_END, f"{attempt} is recorded as interrupted, and was not")
            self._check_outcome_is_gone(attempt, truth)
        elif truth.outcome is None and not self._is_net(event) and not self._lacks_a_checkpoint(event):
            raise self.breaks(TRIES, f"{attempt} costs a try ({code}: {event.failure.message}), and has not ended")
        elif truth.outcome is not None and truth.outcome.kind == NEVER_STARTED and truth.outcome.failure is None:
            raise self.breaks(TRIES, f"{attempt} costs a try, and never started")
        elif truth.outcome is not None and not self._is_net(event) and failure_of(truth.outcome).code != code:
            raise self.breaks(TRUE_END, f"{attempt} is recorded as {code}, and ended as {truth.outcome}")
        if code == "TIMEOUT" and truth.outcome is not None and truth.outcome.kind not in (TIMED_OUT, STOPPED):
            raise self.breaks(TRUE_END, f"{attempt} is recorded as timed out, and ended as {truth.outcome.kind}")

    def _is_net(self, event: Any) -> bool:
        phase = self.state.phase(event.number)
        return phase.why == NET or event.failure.message == NET

    def _check_PhaseRecovered(self, event: ev.PhaseRecovered) -> None:
        attempt = AttemptId(self.state.run.id, event.number, event.attempt)
        self._give_up_if_hidden(attempt)
        self._check_outcome_is_gone(attempt, self.truth(attempt))

    def _give_up_if_hidden(self, attempt: AttemptId) -> None:
        """Nobody could say whether it lives: it may, and two of one phase may then be alive until it is reached again."""
        agent = self.world.agents.get(self.state.phase(attempt.phase).agent or "")
        if agent is not None and agent.is_unknowable and not self.truth(attempt).given_up:
            self.truth(attempt).given_up = True
            self.giving_up.append(attempt)

    def _check_StopRequested(self, event: ev.StopRequested) -> None:
        if event.why == NET and AttemptId(self.state.run.id, event.number, event.attempt) in self.known_ends:
            raise self.breaks(KNOWN, f"{event.number}.{event.attempt} is called stuck, and its end is known")

    def _check_PhaseMended(self, event: ev.PhaseMended) -> None:
        self.world.operations["mended by the net"] += 1
        self._give_up_if_hidden(AttemptId(self.state.run.id, event.number, event.attempt))

    def _check_outcome_is_gone(self, attempt: AttemptId, truth: Truth) -> None:
        if truth.is_written and not truth.given_up:
            raise self.breaks(OUTCOME, f"{attempt} is recorded as interrupted, and it was written down how it ended")

    def _check_GateOpened(self, event: ev.GateOpened) -> None:
        spec, phase, gate = self.plan.specs[event.number], self.state.phase(event.number), event.gate
        if (
            spec.approval is None
            or spec.approval.when != gate.when
            or (gate.run, gate.plan) != (self.state.run.id, "digest")
        ):
            raise self.breaks(GATES, f"{event.number} opens {gate}")
        if (gate.when == "before") != (phase.status == "pending"):
            raise self.breaks(GATES, f"{event.number} opens {gate.when}, and is {phase.place}")

    def _check_decided(self, event: ev.GatePassed | ev.GateApproved | ev.GateRejected) -> None:
        gate = self.state.phase(event.number).gate
        since, shift = self.gates[event.number]
        if (
            gate is None
            or gate.id != event.gate
            or gate.plan != event.plan
            or self.decided[gate.run, event.number, gate.id]
        ):
            raise self.breaks(GATES, f"{event.number}: {event.kind} of {event.gate}, it was {gate}")
        self.decided[gate.run, event.number, gate.id] += 1
        is_due = gate.delay_seconds is not None and self.decided_at >= since + gate.delay_seconds
        is_near = gate.delay_seconds is not None and abs(self.decided_at - since - gate.delay_seconds) < 2 * SLACK
        by_itself = event.by == ITS_DEADLINE
        if shift == self.world.wall_shift and by_itself != is_due and not is_near:
            raise self.breaks(
                GATES, f"{event.number} is decided by {event.by} after {self.decided_at - since:.3f} s: {gate}"
            )
        if not by_itself and gate.who and event.by not in gate.who:
            raise self.breaks(GATES, f"{event.number} is decided by {event.by}, who may not: {gate}")
        if by_itself and isinstance(event, ev.GateRejected) != (gate.default == "deny"):
            raise self.breaks(GATES, f"{event.number} is {event.kind} by its deadline: {gate}")
        self.world.operations["decided by " + ("its deadline" if by_itself else "a person")] += 1

    _check_GatePassed = _check_GateApproved = _check_GateRejected = _check_decided

    def _check_PhaseReset(self, event: ev.PhaseReset) -> None:
        number, phase = event.number, self.state.phase(event.number)
        if number in self.rejected and event.why.startswith("it was"):
            raise self.breaks(GATES, f"{number} was rejected, and is run again by itself")
        if event.items is not None or event.forgotten:
            return  # a person, or the next call of what fans out
        if number not in self.finished | self.judged or event.why == "--force":
            return
        needs = {need: self.state.phase(need) for need in self.plan.needs[number]}
        if event.keeps and all(need.is_done for need in needs.values()):
            raise self.breaks(FINAL, f"{number} is to be judged, and all that it needs is done: {event.why}")
        made = phase.made.of if phase.made else {}
        done = {n: need for n, need in needs.items() if need.is_done}
        came = {n: need.made.yields if need.made and n not in self.skipped else need.status for n, need in done.items()}
        same = all(made.get(f"needs.{n}") == yields for n, yields in came.items())
        if not event.keeps and (not event.changed or same):
            raise self.breaks(FINAL, f"{number} was finished, and is reset: {event.why}")

    # ---- what fans out

    def _check_FannedOut(self, event: ev.FannedOut) -> None:
        foreach = self.plan.specs[event.number].foreach
        if foreach is None or event.items != foreach.items:
            raise self.breaks(ITEMS, f"{event.number} fans out to {event.items}")
        missing = [need for need in self.plan.specs[event.number].needs if not self.state.phase(need).is_done]
        if missing:
            raise self.breaks(NEEDS, f"{event.number} fans out, and {missing} are not done")
        old = self.state.phase(event.number).keys
        self.stand = {place for place, key in enumerate(event.keys) if key and key in old[place : place + 1]}
        if event.kept:
            self.world.operations["items kept"] += 1

    def _check_Gathered(self, event: ev.Gathered) -> None:
        phases = [self.state.phase(one) for one in self._items_of(event.number)]
        done = [phase.is_done for phase in phases]
        if [not one for one in done] != [place in event.failed for place in range(len(phases))]:
            raise self.breaks(ITEMS, f"{event.number} is gathered, failed {event.failed}: {[p.status for p in phases]}")
        if len(event.failed) > may_fail(self.plan.specs[event.number], len(phases)):
            raise self.breaks(ITEMS, f"{event.number} bears {len(event.failed)} of {len(phases)} that failed")
        if event.result != [(phase.outputs or {}).get("result") for phase in phases]:
            raise self.breaks(TRUE_END, f"{event.number} is recorded with {event.result}")
        items = self.state.phase(event.number).items or ()
        by_itself = [items[place] for place, phase in enumerate(phases) if phase.status == "completed"]
        if strange := [one for one in by_itself if (event.number, one) not in self.succeeded]:
            raise self.breaks(TRUE_END, f"{event.number} is gathered, and {strange} have never succeeded")
        if any(not phase.is_done and phase.status not in ("failed", "cancelled") for phase in phases):
            raise self.breaks(ITEMS, f"{event.number} is gathered, and not all has ended")

    def _check_GatherFailed(self, event: ev.GatherFailed) -> None:
        missed = [self.state.phase(one).status in ("failed", "cancelled") for one in self._items_of(event.number)]
        if sum(missed) <= may_fail(self.plan.specs[event.number], len(missed)):
            raise self.breaks(ITEMS, f"{event.number} has failed: {sum(missed)} of {len(missed)} did")

    def _items_of(self, number: int) -> list[Item]:
        return self.plan.items_of.get(number, [])

    def _had(self, number: int) -> list[Item]:
        """All that it ever had: where it is to fan out anew the plan knows none."""
        return [item(number, place) for place in range(self.state.fans.get(number, 0))]

    # ---- what the rules remember of it

    def _remember(self, event: Event) -> None:
        number = getattr(event, "number", None)
        if isinstance(event, ev.RunStarted):
            for kept in (
                self.charges, self.interruptions, self.finished, self.judged, self.due, self.held, self.skipped,
                self.rejected, self.gates,
            ):  # fmt: skip
                kept.clear()
        elif isinstance(event, ev.RunContinued):
            self.held.clear()
            self._wait_anew()
        elif isinstance(event, ev.AskAnswered):
            self.answers[event.ask] += 1
            if event.verb == "cancel" and event.accepted and number is not None:
                self.held.add(number)
        if isinstance(event, ev.StopRequested):
            attempt = AttemptId(self.state.run.id, event.number, event.attempt)
            self.truth(attempt).stop_asked = True
            self.stops.setdefault(attempt, self.world.time)
        elif isinstance(event, ev.PhaseCompleted | ev.Gathered):
            if isinstance(event.number, Item):
                self.succeeded.add((event.number.phase, self.plan.items[event.number].item[0]))  # type: ignore[index]
            self.finished.add(event.number)
            self.charges[event.number] = self.interruptions[event.number] = 0
        elif isinstance(event, ev.RunPaused):
            self.world.somebody_resumes_it()
        elif isinstance(event, ev.GateOpened):
            self.gates[event.number] = (self.decided_at, self.decided_shift)
            self.world.somebody_decides(event.number)
        elif isinstance(event, ev.GateRejected):
            self.rejected.add(event.number)
            self.finished.discard(event.number)
        elif isinstance(event, ev.PhaseKept):
            self.judged.discard(event.number)
            self.finished.add(event.number)
        elif isinstance(event, ev.PhaseCancelled):
            self.finished.discard(event.number)  # what had waited for a person
        elif isinstance(event, ev.PhaseSkipped):
            self.rejected.discard(event.number)
            self.skipped.add(event.number)
        elif isinstance(event, ev.FannedOut):
            for one in self._had(event.number):
                if one in self.finished and not self.state.phase(one).is_done:
                    if one.index in self.stand:
                        raise self.breaks(FINAL, f"{one} was finished, and is to be run: its key is as it was")
                    self.finished.discard(one)
        elif isinstance(event, ev.PhaseReset):
            of = self._had(event.number)
            (self.judged.add if event.keeps else self.judged.discard)(event.number)
            self.rejected.discard(event.number)
            for again in (event.number, *(one for one in of if event.items is None or one.index in event.items)):
                self.finished.discard(again)
                self.skipped.discard(again)
                self.held.discard(again)
                self.due.pop(again, None)
                self.charges[again] = self.interruptions[again] = 0
            self.interruptions[event.number] = event.interruptions
        elif isinstance(event, (ev.RetryScheduled, ev.PhaseFailed, ev.PhaseRecovered, ev.PhaseMended)):
            self._charge(event)
        if isinstance(event, ev.RetryScheduled):
            earliest, latest = self.decided_at + event.delay_seconds, self.world.time + event.delay_seconds
            self.due[event.number] = (earliest, latest, self.decided_shift)
        elif number is not None and not isinstance(event, ev.AskAnswered):
            self.due.pop(number, None)

    def _wait_anew(self) -> None:
        """Whoever works out anew what is due may take the whole delay from then: the clock may have been set back."""
        for number, (earliest, _, shift) in self.due.items():
            delay = self.state.phase(number).retry_delay_seconds or 0.0
            self.due[number] = (earliest, self.world.time + delay, shift)

    def _charge(self, event: Any) -> None:
        if event.failure.code == "INTERRUPTED":
            self.interruptions[event.number] += 1
        else:
            self.interruptions[event.number] = 0
            self.charges[event.number] += 1


_ENDS = (
    ev.AttemptWithdrawn, ev.PhaseCompleted, ev.RetryScheduled, ev.PhaseFailed, ev.PhaseRecovered, ev.PhaseMended,
)  # fmt: skip
