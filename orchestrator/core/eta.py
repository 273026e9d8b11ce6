"""When the run will be over: what is left, tried out on the free slots with durations like those of before.

A handful of scenarios give each phase a duration from its own history, and each is played in the order that `decide`
starts phases; the ends spread as far as the future is open. Chance is a table: scenario and phase name the draw, so
an estimate moves only when something has happened. It may be asked each second: with many phases left, some
scenarios are played at each asking and the others are remembered.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from itertools import islice
from math import exp, log, sqrt
from typing import NamedTuple

from orchestrator.core.events import Scope
from orchestrator.core.names import epoch, left_until
from orchestrator.core.phase import DURATIONS_KEPT, PhaseState
from orchestrator.core.plan import Plan
from orchestrator.core.priority import median, places
from orchestrator.core.state import State
from orchestrator.core.table import APPROVED, AWAITING, CANCELLED, COMPLETED, FAILED, PENDING, RETRY_WAIT, SKIPPED
from orchestrator.core.value import Value

SCENARIOS = 17  # a prime: `(a * scenario + b) % SCENARIOS` gives each of them another stratum, whatever a and b
BUDGET = 20_000  # phases that are played at one asking
_SPREAD = 0.25  # how far one attempt lies from those before it (sigma of the logarithm) where nothing is known yet
_SPREAD_WEIGHT = 4.0
_PACE_SPREAD = 0.14  # how far a whole run lies from those before it
_PACE_WEIGHT = 8.0
_PROGRESS_SPREAD = 0.5  # of what is told from progress when hardly anything is done
_STRETCH = 1.25  # the band against the span of the scenarios: measured, so that it holds the truth
_MARGIN = 0.04  # and at least this share of what is likely
_LEAST = 0.001
_LINDY = (1.0, 0.3, 0.3, 0.15)  # what has outlived all of so many durations takes about this share of its age again

Progress = Mapping[int, tuple[float, float]]  # done and total of running phases that say so


class Eta(Value):
    """Seconds from now to the end of the run: nine times of ten not before `low`, nor after `high`."""

    low: float
    likely: float
    high: float

    def after(self, seconds: float) -> Eta:
        """The same, looked at that much later."""
        return Eta(*(max(0.0, value - seconds) for value in (self.low, self.likely, self.high)))


def estimate(
    plan: Plan, state: State, scope: Scope, jobs: int, now: float, progress: Progress | None = None, draw: float = 0.0
) -> Eta | None:
    """One asking. Whoever asks again keeps a Forecast: it remembers."""
    return Forecast(plan, places(plan, state, scope), scope, jobs, draw).eta(state, now, progress)


def _normal(share: float) -> float:
    """Tukey's lambda: within 0.01 of the quantile of the normal distribution, in one line."""
    return float(4.91 * (share**0.14 - (1 - share) ** 0.14))


# The middle first, then its two sides by turns: a few of them are no worse a picture than all.
_ORDER = (8, 4, 12, 0, 16, 6, 10, 2, 14, 7, 9, 3, 13, 5, 11, 1, 15)
_Z = [_normal((stratum + 0.5) / SCENARIOS) for stratum in range(SCENARIOS)]
_FINE = [_normal((step + 0.5) / (3 * SCENARIOS)) for step in range(3 * SCENARIOS)]


def _picks(count: int) -> list[int]:
    """For each stratum which of so many durations, the newest last, it takes: the newer ones more often."""
    return [count - 1 - int(count * ((stratum + 0.5) / SCENARIOS) ** 1.5) for stratum in range(SCENARIOS)]


_PICKS = [[0] * SCENARIOS, *(_picks(count) for count in range(1, DURATIONS_KEPT + 1))]


class _Experience:
    """What this run teaches about the next phases: its pace against the history, the spread, what is lost around."""

    def __init__(self) -> None:
        self.durations: list[float] = []  # of what has finished in this run, sorted
        self._ratios = self._count = self._overheads = 0.0
        self._weight = _SPREAD_WEIGHT
        self._squares = _SPREAD_WEIGHT * _SPREAD * _SPREAD

    def finished(self, duration: float, before: Sequence[float], overhead: float) -> None:
        insort(self.durations, duration)
        self._overheads += min(max(0.0, overhead), 5.0)
        if before:
            ratio = self.compared(duration, before)
            self._ratios += ratio
            self._count += 1

    def compared(self, duration: float, before: Sequence[float]) -> float:
        """How far it lies from those before; remembered as the spread of them all."""
        ratio = max(-1.5, min(1.5, log(max(duration, _LEAST) / max(median(before), _LEAST))))
        self._squares += ratio * ratio
        self._weight += 1
        return ratio

    @property
    def spread(self) -> float:
        return sqrt(self._squares / self._weight)

    @property
    def overhead(self) -> float:
        return self._overheads / len(self.durations) if self.durations else 0.0

    def pace(self, scenario: int) -> float:
        known = self._ratios / (self._count + _PACE_WEIGHT)
        # Runs cannot differ by more than their phases do.
        spread = min(_PACE_SPREAD, 0.7 * self.spread) * sqrt(_PACE_WEIGHT / (_PACE_WEIGHT + self._count))
        return exp(known + spread * _Z[scenario])


class _Running(NamedTuple):
    phase: int  # its index; -1: nothing follows from its end
    remaining: list[float]  # in each scenario


class Forecast:
    """Follows a run: what changed is worked in at each asking, the rest is kept."""

    def __init__(self, plan: Plan, place: Mapping[int, int], scope: Scope, jobs: int, draw: float = 0.0) -> None:
        self._plan, self._scope, self._jobs = plan, scope, max(1, jobs)
        self._numbers = sorted(plan.needs, key=place.__getitem__)  # an index is a place: the smallest starts first
        self._index = {number: index for index, number in enumerate(self._numbers)}
        self._dependents = [[self._index[one] for one in plan.dependents[number]] for number in self._numbers]
        self._follows = [
            [] if plan.asks_afterwards(number) else after
            for number, after in zip(self._numbers, self._dependents, strict=True)
        ]
        self._unmet = [len(set(plan.needs[number])) for number in self._numbers]
        self._draws = [self._draw(number, draw) for number in self._numbers]
        self._seen: list[PhaseState] = [_UNSEEN] * len(self._numbers)
        self._history: list[tuple[float, ...]] = [()] * len(self._numbers)
        self._wants = [dict(plan.wants_of(number)) for number in self._numbers]
        self._spread = plan.items_of.keys()
        self._startable = bytearray(len(self._numbers))
        self._experience = _Experience()
        self._ends: dict[int, float] = {}  # of the scenarios: seconds since 1970
        self._turn = 0

    def eta(self, state: State, now: float, progress: Progress | None = None) -> Eta | None:
        """None: nothing is known yet that it could be told from, or nobody can know: it is paused."""
        self._follow(state)
        if state.run.paused is not None:
            self._ends.clear()  # nothing of them holds when it goes on
            return None
        startable = [] if state.run.stopping else [index for index, may in enumerate(self._startable) if may]
        pool = self._pool()
        if not pool and any(not self._history[index] for index in startable):
            return None
        running = self._running(state, now, progress or {}, pool)
        if running is None:
            return None
        waiting = self._waiting(startable, now)
        for scenario in self._scenarios(len(startable) + len(running)):
            column = self._column(scenario, startable, pool)
            self._ends[scenario] = now + self._play(scenario, column, startable, running, waiting)
        return _told([max(0.0, end - now) for end in self._ends.values()])

    # ---- what is known

    def _follow(self, state: State) -> None:
        phase_of, seen = state.phase, self._seen
        for index, number in enumerate(self._numbers):
            phase = phase_of(number)
            if phase is not seen[index]:
                self._enter(index, number, seen[index], phase)
                seen[index] = phase

    def _enter(self, index: int, number: int, before: PhaseState, phase: PhaseState) -> None:
        if phase.is_done != before.is_done:
            for dependent in self._dependents[index]:
                self._unmet[dependent] += -1 if phase.is_done else 1
        has_ended = phase.status in (COMPLETED, AWAITING)
        own = has_ended and phase.durations and phase.durations[-1] == phase.duration_seconds
        history = self._history[index] = phase.durations[:-1] if own else phase.durations
        if own and phase.duration_seconds is not None:
            self._experience.finished(phase.duration_seconds, history, _overhead(phase))
        elif before is _UNSEEN:
            for last in range(len(history) - 1, max(0, len(history) - 3), -1):
                self._experience.compared(history[last], history[:last])
        waits = phase.status in (PENDING, RETRY_WAIT) and number in self._scope
        self._startable[index] = waits and not self._plan.asks_first(number, phase)  # who is asked may take for ever
        if phase.status in _TURNS or before.status in (FAILED, CANCELLED) or (before.is_done and not phase.is_done):
            self._ends.clear()  # another future than the remembered ones were played for

    def _pool(self) -> list[float]:
        """What a phase without history may take: as those that have finished, or else as those of before."""
        if self._experience.durations:
            return self._experience.durations
        return sorted(median(history) for history in islice(filter(None, self._history), 200))

    def _running(self, state: State, now: float, progress: Progress, pool: list[float]) -> list[_Running] | None:
        running = []
        for number in sorted(state.live):
            phase, index = state.phase(number), self._index.get(number, -1)
            elapsed = max(0.0, now - epoch(phase.started_at)) if phase.started_at else 0.0
            most = max(0.0, self._plan.timeout(number) - elapsed) + self._plan.rules.kill_grace
            if phase.step == "stopping":
                running.append(_Running(-1, [min(most, self._plan.rules.kill_grace / 2)] * SCENARIOS))
                continue
            totals = self._totals(index, phase, elapsed, progress.get(number), pool)
            if not totals:
                return None
            running.append(_Running(index, [min(most, max(0.0, total - elapsed)) for total in totals]))
        return running

    def _totals(
        self, index: int, phase: PhaseState, elapsed: float, progress: tuple[float, float] | None, pool: list[float]
    ) -> list[float]:
        """How long a running phase takes in all, in each scenario: longer than by now. Empty: nobody can know."""
        a, b = self._draws[index][:2] if index >= 0 else (1, 0)
        strata = [(a * scenario + b) % SCENARIOS for scenario in range(SCENARIOS)]
        fitting = _outliving(self._candidates(phase.durations, pool), elapsed, _LINDY[min(3, len(phase.durations))])
        by_past = [fitting[stratum * len(fitting) // SCENARIOS] for stratum in strata] if fitting else []
        share = min(1.0, max(0.0, progress[0] / progress[1])) if progress and progress[1] > 0 else 0.0
        if not share:
            return by_past
        by_share = [elapsed / share * exp(_PROGRESS_SPREAD * (1 - share) * _Z[stratum]) for stratum in strata]
        trust = sqrt(share)
        return [one**trust * other ** (1 - trust) for one, other in zip(by_share, by_past or by_share, strict=True)]

    def _candidates(self, history: tuple[float, ...], pool: list[float]) -> list[float]:
        """Finely, what a phase may take in all."""
        known = history or pool
        if not known:
            return []
        experience = self._experience
        spread, pace = experience.spread / sqrt(len(known) + 1), experience.pace(SCENARIOS // 2)
        chosen = [known[pick] for pick in _PICKS[len(history)]] if history else _strata(pool)
        factors = [pace * exp(spread * z) for z in _FINE]
        if len(known) == 1:
            return [known[0] * factor + experience.overhead for factor in factors]
        near = [5 * stratum % SCENARIOS for stratum in range(SCENARIOS)]  # so that old goes with long as with short
        return [
            chosen[stratum] * factors[3 * near[stratum] + step] + experience.overhead
            for stratum in range(SCENARIOS)
            for step in range(3)
        ]

    def _waiting(self, startable: list[int], now: float) -> list[tuple[float, int]]:
        """Retries that are due later: seconds from now, the latest first."""
        found = []
        for index in startable:
            phase = self._seen[index]
            if phase.status == RETRY_WAIT and phase.retry_at and not self._unmet[index]:
                found.append((left_until(phase.retry_at, phase.retry_delay_seconds, now), index))
        return sorted((one for one in found if one[0] > 0), reverse=True)

    # ---- the scenarios

    def _scenarios(self, left: int) -> list[int]:
        many = min(SCENARIOS, max(1, BUDGET // max(1, left)))
        first, self._turn = self._turn, (self._turn + many) % SCENARIOS
        return [_ORDER[(first + step) % SCENARIOS] for step in range(many)]

    def _column(self, scenario: int, startable: list[int], pool: list[float]) -> list[float]:
        """How long each phase that is still to start takes in this scenario."""
        column = [0.0] * len(self._numbers)
        experience, history, draws = self._experience, self._history, self._draws
        pace, overhead, middle = experience.pace(scenario), experience.overhead, _strata(pool)
        spreads = [experience.spread / sqrt((count or len(pool)) + 1) for count in range(DURATIONS_KEPT + 1)]
        factors = [[pace * exp(spread * z) for z in _Z] for spread in spreads]
        for index in startable:
            if self._numbers[index] in self._spread:
                continue  # its items take the time
            known = history[index]
            count = len(known)
            a, b, c, d = draws[index]
            stratum = (a * scenario + b) % SCENARIOS
            past = known[_PICKS[count][stratum]] if count else middle[stratum]
            column[index] = past * factors[count][(c * scenario + d) % SCENARIOS] + overhead
        return column

    def _play(
        self, scenario: int, column: list[float], startable: list[int], running: list[_Running],
        waiting: list[tuple[float, int]],
    ) -> float:  # fmt: skip
        """The rest of the run: seconds until the last phase ends. Long because it is the inner loop."""
        dependents, may, unmet, later = self._follows, self._startable, self._unmet.copy(), waiting.copy()
        asleep = {index for _, index in waiting}
        ready = [index for index in startable if not unmet[index] and index not in asleep]  # sorted: a heap already
        busy = sorted((one.remaining[scenario], one.phase) for one in running)
        free, time = self._jobs - len(busy), 0.0
        starts, wants, held = bool(startable), self._wants, list[int]()
        left = Counter(self._plan.rules.pools)
        for one in running:
            left.subtract(wants[one.phase] if one.phase >= 0 else ())
        while True:
            while later and later[-1][0] <= time:
                heappush(ready, later.pop()[1])
            while ready and free > 0:
                index = heappop(ready)
                if wants[index]:
                    if any(left[pool] < many for pool, many in wants[index].items()):
                        held.append(index)  # until a token is given back
                        continue
                    left.subtract(wants[index])
                heappush(busy, (time + column[index], index))
                free -= 1
            if not busy and not later:
                return time
            if not busy or (later and free > 0 and later[-1][0] < busy[0][0]):
                time = later[-1][0]
                continue
            time, index = heappop(busy)
            free += 1
            if index < 0 or not starts:
                continue
            if wants[index]:
                left.update(wants[index])
                while held:
                    heappush(ready, held.pop())
            for dependent in dependents[index]:
                unmet[dependent] -= 1
                if not unmet[dependent] and may[dependent]:
                    heappush(ready, dependent)

    @staticmethod
    def _draw(number: int, draw: float) -> tuple[int, int, int, int]:
        """Which stratum the phase gets in which scenario: two lines through all of them."""
        mixed = (number * 0x9E3779B1 + int(draw * 0xFFFFFFFF)) & 0xFFFFFFFF
        mixed = ((mixed ^ (mixed >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
        mixed ^= mixed >> 12
        b, d = mixed % SCENARIOS, (mixed >> 8) % SCENARIOS
        return 1 + (mixed >> 16) % (SCENARIOS - 1), b, 1 + (mixed >> 24) % (SCENARIOS - 1), d


_TURNS = frozenset({FAILED, CANCELLED, RETRY_WAIT, SKIPPED, AWAITING, APPROVED})
_BLANK = PhaseState()
_UNSEEN = PhaseState()  # another object than any that a state holds


def _overhead(phase: PhaseState) -> float:
    """What passed between the decision to start it and the news of its end, beside its own time."""
    if not phase.started_at or not phase.finished_at or phase.duration_seconds is None:
        return 0.0
    return epoch(phase.finished_at) - epoch(phase.started_at) - phase.duration_seconds


def _strata(pool: list[float]) -> list[float]:
    return [pool[int(len(pool) * (stratum + 0.5) / SCENARIOS)] for stratum in range(SCENARIOS)] if pool else []


def _outliving(candidates: list[float], elapsed: float, share: float) -> list[float]:
    """Those that fit an attempt of this age, sorted; one older than nearly all of them goes on for a share of it."""
    fitting = sorted(one for one in candidates if one > elapsed)
    if candidates and len(fitting) < 4:
        fitting = sorted([*fitting, *(elapsed * (1 + share * part) for part in (0.1, 0.4, 1.0, 2.3))])
    return fitting


def _told(ends: list[float]) -> Eta:
    """The middle, and a band a little beyond what the scenarios span: reality has more to it than they have."""
    ends.sort()
    likely = ends[len(ends) // 2]
    margin = likely * (_MARGIN if len(ends) > SCENARIOS // 2 else 3 * _MARGIN)
    low = likely - max(margin, _STRETCH * (likely - ends[0]))
    return Eta(max(0.0, low), likely, likely + max(margin, _STRETCH * (ends[-1] - likely)))
