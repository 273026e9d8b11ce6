"""What cron starts: the run for an instant that is due, or, where another run is going on, what the schedule says then.

Asked more often than anything is due, it does nothing: what counts is which instants have no record yet.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator import clock, process
from orchestrator.cli.asking import ask
from orchestrator.cli.frame import root_of, settings_of, tell
from orchestrator.cli.quick import options_of_run
from orchestrator.cli.running import perform, scheduled
from orchestrator.config import Settings, keep_what_was_checked, to_tell_by
from orchestrator.core.draft import Decision
from orchestrator.core.due import SKIPPED, Met, meet, skipped, unsettled
from orchestrator.core.events import InstantSettled
from orchestrator.core.names import cut, epoch
from orchestrator.core.observations import Observation
from orchestrator.core.schedule import QUEUE, REPLACE, SKIP, Schedule
from orchestrator.core.state import State
from orchestrator.errors import OrchError, Refused, RunActive, SettingsError, UsageError
from orchestrator.scheduling import note_next
from orchestrator.store.lock import RUN, holder
from orchestrator.store.queue import Queue
from orchestrator.store.reading import read_state
from orchestrator.store.schedules import read
from orchestrator.supervisor import SUPERVISOR

LOOK_EVERY, AT_LEAST_EVERY = 0.25, 30.0
SLOWEST = 5.0
WAITING_ALREADY = "another one is waiting for its turn already"


def fire(*, name: str, project: Path | None) -> int:
    """What the schedule of that name says is due now: the exit code."""
    root = root_of(project)
    schedule = read(root / "system", name)
    given = options_of_run(schedule.options)
    try:
        settings = settings_of(root, {"jobs": given["jobs"]})
    except SettingsError as fault:
        if (left := to_tell_by(root)) is not None:
            Firing(root, left, schedule, given).could_not_begin(fault)
        raise
    keep_what_was_checked(root)
    return Firing(root, settings, schedule, given).fire()


class Firing:
    def __init__(self, root: Path, settings: Settings, schedule: Schedule, options: dict[str, Any]) -> None:
        self.root, self.system, self.settings, self.schedule = root, root / "system", settings, schedule
        self._options, self._zone = options, clock.zone(schedule.tz)
        self._queue = Queue(self.system, schedule.name)
        self._waits: float | None = None  # the instant of ours that waits for its turn
        self._began = math.inf  # when our first run did

    def fire(self) -> int:
        """The exit code: that of the run; 0 if nothing is due."""
        code = 0
        while (met := self._meet(read_state(self.system).state)) and not met.is_nothing:
            try:
                code = max(code, self._run())
            except RunActive as busy:
                code = max(code, self._overlap(busy))
            except UsageError as fault:
                self.could_not_begin(fault)
                raise
            if not self._goes_on or self._queue.waiting() is not None:  # who waits goes on with the rest
                break
        self.notice()
        return code

    def could_not_begin(self, fault: UsageError) -> None:
        """Whatever becomes of its record, what kept it from beginning is what is said."""
        try:
            self._skip(f"it could not begin: {_in_short(fault)}", missed=True)
        except OrchError as error:
            tell(f"the instant has no record yet: {error.message}")

    @property
    def _goes_on(self) -> bool:
        """Is what has become due meanwhile ours to begin?"""
        return self.schedule.catch_up_all or self.schedule.overlap == QUEUE

    def begun(self, instants: Sequence[InstantSettled]) -> None:
        """What waited has begun: the place is the next one's."""
        if self._waits is not None and any(epoch(one.due) == self._waits for one in instants):
            self._queue.leave()
        if any(one.how != SKIPPED for one in instants):
            self._began = min(self._began, clock.now())
        self.notice()

    def notice(self) -> None:
        """Whoever watches is told by when to look again."""
        if not self._is_gone():
            note_next(self.system, self.schedule, self._zone, clock.now())

    def _is_gone(self) -> bool:
        """Removed meanwhile; also where another of that name has been added: what comes now is its own."""
        try:
            return read(self.system, self.schedule.name).since != self.schedule.since
        except UsageError:
            return True

    # ---- what is due

    def _meet(self, state: State) -> Met:
        now, schedule = clock.now(), self.schedule
        if self._is_gone():
            return Met()
        records = state.schedules.get(schedule.name, [])
        instants = unsettled(schedule, self._zone, records, now)
        if self._waits is not None:  # as many may have been settled meanwhile as anybody remembers
            instants = sorted({*instants, self._waits})
        elif (waiting := self._queue.waiting()) is not None:
            if schedule.catch_up_all:  # that one goes on with the rest, in its order
                return Met()
            instants = [instant for instant in instants if instant != waiting]
        return meet(
            schedule.name, instants, records, now, schedule.catch_up, every=schedule.catch_up_all,
            busy=lambda instant: _run_at(state, instant), waits=self._waits or self._late_one(instants),
        )  # fmt: skip

    def _late_one(self, instants: Sequence[float]) -> float | None:
        """What came during a run of our own, where nobody else is started to wait for its end: so does systemd."""
        came = [instant for instant in instants if instant > self._began]
        return came[-1] if came and self.schedule.overlap == QUEUE and not self.schedule.catch_up_all else None

    def _run(self) -> int:
        options = scheduled(self._options, new=self.schedule.anew, meets=self._meet)
        return perform(self.root, self.settings, options, quiet=True, more=[Noticing(self)]).exit_code

    # ---- where another run is going on

    def _overlap(self, busy: RunActive) -> int:
        if self.schedule.overlap == SKIP:
            self._skip(self._what_is_active(busy))
            return busy.exit_code
        met = self._meet(read_state(self.system).state)
        if met.chosen is None:
            self._note(met.settled)
            return busy.exit_code
        instant = epoch(met.chosen.due)
        if not self._queue.enter(instant):
            if not self.schedule.catch_up_all:  # else it has its turn after that one
                self._skip(WAITING_ALREADY)
            return busy.exit_code
        self._waits = instant
        try:
            self.notice()
            if self.schedule.overlap == REPLACE:
                self._end_the_other()
            return self._wait_and_run()
        finally:
            self._waits = None
            self._queue.leave()

    def _end_the_other(self) -> None:
        with contextlib.suppress(Refused):  # it has ended by itself
            ask(self.root, self.settings, "cancel", None)

    def _wait_and_run(self) -> int:
        """The lock is tried when its holder is gone; now and then also while it lives, for it may hang."""
        pace, tried = LOOK_EVERY, clock.ticking()
        while True:
            clock.pause(pace)
            if self._is_gone():
                return 0
            SUPERVISOR.alive(f"waits for the end of another run, to begin the one of schedule {self.schedule.name}")
            if _is_held(self.system) and clock.ticking() - tried < AT_LEAST_EVERY:
                continue
            tried = clock.ticking()
            try:
                code = self._run()
            except RunActive:
                pace = min(2 * pace, SLOWEST)
                continue
            return code

    def _skip(self, why: str, *, missed: bool = False) -> None:
        """Noted by whoever holds the lock, or by ourselves."""
        self._note(self._skippable(why, missed=missed))

    def _note(self, instants: Sequence[InstantSettled]) -> None:
        if instants:
            texts = [json.dumps(event.as_dict()) for event in instants]
            ask(self.root, self.settings, "settle", None, options=texts)
        self.notice()

    def _skippable(self, why: str, *, missed: bool) -> Sequence[InstantSettled]:
        met = self._meet(read_state(self.system).state)
        if met.chosen is None:
            return met.settled
        return [*met.settled, skipped(self.schedule.name, [epoch(met.chosen.due)], why, missed=missed)]

    def _what_is_active(self, busy: RunActive) -> str:
        run = read_state(self.system).state.run
        found = holder(self.system)
        if run.id and (found is None or found.purpose == RUN):
            return f"run {run.id} was still going on"
        return busy.message


class Noticing:
    """A watcher: as soon as an instant has its record, whoever waits or watches for it knows."""

    def __init__(self, firing: Firing) -> None:
        self._firing = firing

    def tell(self, batch: Sequence[Observation], decision: Decision, *_: object) -> None:
        if settled := [event for event in decision.events if isinstance(event, InstantSettled)]:
            self._firing.begun(settled)


def _in_short(fault: UsageError) -> str:
    """The first fault with what is said above it."""
    return cut(": ".join(line.strip() for line in fault.message.splitlines()[:2]), 300)


def _run_at(state: State, instant: float) -> str:
    """Which run was going on then, as far as that can be told by its last call."""
    run = state.run
    begun = run.continued_at or run.started_at
    if not begun or not run.finished_at:
        return ""
    return run.id if epoch(begun) <= instant <= epoch(run.finished_at) else ""


def _is_held(system: Path) -> bool:
    """By somebody else: a turn of our own has left our name there."""
    found = holder(system)
    if found is None or found.identity == process.myself():
        return False
    return process.is_alive(found.identity) != process.DEAD
