"""Bugs planted into the loop, one at a time and in this process only: the simulation finds each, and names the rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator import engine, holding
from orchestrator.bridge import survey
from orchestrator.core import actions as act
from orchestrator.core import decide, deciding, fanning, starting, table
from orchestrator.core import observations as obs
from orchestrator.core.draft import Decision, Draft
from orchestrator.core.judging import judge as judge_what_is_kept
from orchestrator.core.outcome import NEVER_STARTED, Failure
from orchestrator.core.state import State
from orchestrator.core.table import CANCELLED, RUNNING, STARTING
from orchestrator.engine import Engine
from orchestrator.store.store import JournalStore
from tests.crash import sim_truth as rules
from tests.crash.sim_world import SPIN
from tests.crash.simulation import simulate

SEEDS = 200
Plant = Callable[[pytest.MonkeyPatch], None]


def stopping_is_no_state(patch: pytest.MonkeyPatch) -> None:
    """Told to end counts as ended."""
    patch.setitem(table.TABLE, "StopRequested", dict.fromkeys((STARTING, RUNNING, CANCELLED), CANCELLED))


def a_line_for_every_event(patch: pytest.MonkeyPatch) -> None:
    whole = JournalStore.commit

    def commit(self: JournalStore, decision: Decision, now: float) -> Any:
        moves: list[Any] = []
        for event, reason in zip(decision.events, decision.reasons, strict=True):
            moves += whole(self, Decision((event,), (), (reason,)), now)
        return moves

    patch.setattr(JournalStore, "commit", commit)


def a_start_that_failed_costs_a_try(patch: pytest.MonkeyPatch) -> None:
    right = decide._ended

    def ended(draft: Draft, seen: obs.Ended) -> None:
        outcome = seen.outcome
        if outcome.kind == NEVER_STARTED and outcome.failure is None:
            outcome = outcome.replace(failure=Failure("TRANSIENT", "it could not be started"))
        right(draft, seen.replace(outcome=outcome))

    patch.setitem(decide._HANDLERS, obs.Ended, ended)


def an_outcome_is_removed_when_it_is_read(patch: pytest.MonkeyPatch) -> None:
    """By whoever is about to commit it."""

    def look(system: Any, known: Any) -> list[Any]:
        findings = survey.survey(system, known)
        for finding in findings:
            for attempt in finding.outcomes:
                survey.take(system / "agents" / finding.agent, attempt)
        return findings

    patch.setattr(holding, "survey", look)


def deadlines_come_first(patch: pytest.MonkeyPatch) -> None:
    """The net is cast before the news is looked at."""

    def judge(plan: Any, state: State, agenda: Any, batch: Any, moment: Any, mode: Any) -> Decision:
        draft = Draft(plan, state, agenda, moment, mode)
        decide._cast_net(draft)
        deciding.expire(draft)
        for seen in sorted(batch, key=decide._precedence):
            decide._HANDLERS[type(seen)](draft, seen)
        fanning.give_up_early(draft)
        if mode.starts and not draft.opened and not draft.is_over:
            fanning.gather(draft)
        if mode.starts and not draft.opened and not draft.stopping and not draft.is_over:
            judge_what_is_kept(draft)
            deciding.open_before(draft)
            if not draft.paused:
                fanning.fan_out(draft)
                starting.start_what_is_due(draft)
        if mode.starts and not draft.opened and not draft.ended:
            decide.end_if_over(draft)
        return draft.decision()

    patch.setattr(engine, "decide", judge)


def over_is_asked_before_the_news_is_read(patch: pytest.MonkeyPatch) -> None:
    def run(self: Engine) -> None:
        while not decide.is_over(self.store.state, self.mode):
            self.step(self.inbox.get(self._patience()))

    patch.setattr(Engine, "run", run)


def a_due_retry_without_a_slot_wakes(patch: pytest.MonkeyPatch) -> None:
    def wake(state: State, agenda: Any, mode: Any, moment: Any) -> float:
        soonest = [agenda.waiting[0][0] - moment.tick] if agenda.waiting and mode.starts else []
        return max(0.0, min([decide.next_wake(state, agenda, mode, moment), *soonest]))

    patch.setattr(engine, "next_wake", wake)


def older_attempts_are_left_alone(patch: pytest.MonkeyPatch) -> None:
    """Nobody waits for them, so nobody stops them."""
    right = Draft.do

    def do(self: Draft, action: act.Action) -> None:
        if not (isinstance(action, act.StopAttempt) and action.why.startswith("nobody waits")):
            right(self, action)

    patch.setattr(Draft, "do", do)


def the_deadline_of_a_gate_is_nobodys(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Draft, "gates_due", lambda self: [])


def a_no_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """By the next call of `orch run`."""
    right = decide.stays_failed
    patch.setattr(decide, "stays_failed", lambda plan, n, phase: "" if phase.gate else right(plan, n, phase))


def a_pause_holds_nothing_back(patch: pytest.MonkeyPatch) -> None:
    """What asks for approval first comes before what is due: there it starts anyway."""
    right = deciding.open_before

    def opens_and_starts(draft: Draft) -> None:
        right(draft)
        starting.start_what_is_due(draft)

    patch.setattr(deciding, "open_before", opens_and_starts)


PLANTED: dict[Plant, tuple[str, ...]] = {
    stopping_is_no_state: (rules.END_SEEN, rules.ONE_ALIVE),
    a_line_for_every_event: (rules.ONE_LINE, rules.ACKNOWLEDGED),
    a_start_that_failed_costs_a_try: (rules.TRIES,),
    an_outcome_is_removed_when_it_is_read: (rules.OUTCOME,),
    deadlines_come_first: (rules.KNOWN,),
    over_is_asked_before_the_news_is_read: (rules.ASKS, rules.OWNED),
    a_due_retry_without_a_slot_wakes: (SPIN,),
    older_attempts_are_left_alone: (rules.GHOSTS,),
    the_deadline_of_a_gate_is_nobodys: (SPIN, rules.GATES),
    a_no_is_forgotten: (rules.GATES,),
    a_pause_holds_nothing_back: (rules.PAUSED,),
}

# The search begins where it ended the last time: all seeds are tried if that one finds it no more.
FOUND_WITH = {
    stopping_is_no_state: 26, an_outcome_is_removed_when_it_is_read: 50, deadlines_come_first: 71,
    older_attempts_are_left_alone: 68, a_no_is_forgotten: 21, a_pause_holds_nothing_back: 76,
}  # fmt: skip


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_the_simulation_finds(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    first = FOUND_WITH.get(plant, 0)
    for seed in range(first, first + SEEDS):
        report = simulate(seed)
        if report.broken:
            break
    print(report.told()[-2000:])
    print(f"found with seed {seed}: {report.broken}")
    assert report.rule in PLANTED[plant]
