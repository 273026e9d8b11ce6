"""The loop: take in what happened, decide, write it down, act on it, tell whoever watches."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core.agenda import Agenda, begins_anew, renewed
from orchestrator.core.decide import decide, is_over, next_wake
from orchestrator.core.draft import Decision, Mode
from orchestrator.core.names import Moment
from orchestrator.core.observations import Observation, Tick
from orchestrator.core.plan import Plan
from orchestrator.ports import Clock, Executor, Heart, Inbox, Store, Watcher


class Engine:
    """One holder of the lock, going round. `mode.starts` tells a run from a turn."""

    def __init__(
        self, plan: Plan, store: Store, inbox: Inbox, hands: Executor, heart: Heart, watchers: Sequence[Watcher],
        clock: Clock, mode: Mode,
    ) -> None:  # fmt: skip
        self.store, self.inbox, self.hands, self.heart = store, inbox, hands, heart
        self.watchers, self.clock, self.mode = list(watchers), clock, mode
        self.plan = plan.spread(store.state)
        self.agenda = Agenda(self.plan, store.state, clock.moment())

    def run(self) -> None:
        """Until nothing more will happen by itself, and nothing that has happened is left unread."""
        while not (is_over(self.store.state, self.mode) and self.inbox.is_empty):
            batch = self.inbox.get(self._patience())
            if batch or self._next_wake(self.clock.moment()) <= 0:  # else whatever woke us is nothing to decide on
                self.step(batch)

    def step(self, batch: list[Observation]) -> Decision:
        moment = self.clock.moment()
        self._look_who_works()
        self.agenda.hear(batch)
        decision = decide(self.plan, self.store.state, self.agenda, batch or [Tick()], moment, self.mode)
        if decision.events:
            self._commit(decision)
        for number in decision.pressed:
            if number in self.agenda.watches:
                self.agenda.press(number, moment.tick)
        self.agenda.ask(decision.actions)
        for watcher in self.watchers:
            watcher.tell(batch, decision, self.store.state, self.agenda, self.plan, moment)
        self.hands.perform(decision.actions)
        return decision

    def _commit(self, decision: Decision) -> None:
        moment = self.clock.moment()
        moves = self.store.commit(decision, moment.now)
        if begins_anew(self.plan, decision.events):
            self.plan = self.plan.spread(self.store.state)
            self.agenda = renewed(self.agenda, self.plan, self.store.state, decision.events, moment)
            self.inbox.put(Tick())
        else:
            for number, before, after in moves:
                self.agenda.follow(number, before, after, self.store.state, moment)
        may_start = self.mode.starts and self.store.state.run.paused is None
        if may_start and (self.agenda.count_ready or self.agenda.waiting):
            self.hands.prepare()

    def _patience(self) -> float:
        moment = self.clock.moment()
        return min(
            self._next_wake(moment), self.store.settle(moment.now), self.heart.beat(self.store.state, moment)
        )  # fmt: skip

    def _next_wake(self, moment: Moment) -> float:
        self._look_who_works()
        return next_wake(self.store.state, self.agenda, self.mode, moment)

    def _look_who_works(self) -> None:
        if self.mode.agent != self.hands.agent:
            self.mode = self.mode.replace(agent=self.hands.agent)
