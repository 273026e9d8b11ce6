"""What recovery decides about a state and its agents: apart, for most looks find nothing to recover."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator import clock
from orchestrator.core.agenda import Agenda
from orchestrator.core.decide import decide
from orchestrator.core.draft import Decision, Mode
from orchestrator.core.plan import Plan
from orchestrator.core.reconcile import Finding, reconcile
from orchestrator.core.state import State

TURN_MODE = Mode(starts=False)


def decided(plan: Plan, state: State, findings: Sequence[Finding]) -> Decision:
    moment = clock.System().moment()
    batch = reconcile(state, findings, moment.now)
    plan = plan.spread(state)
    return decide(plan, state, Agenda(plan, state, moment), batch, moment, TURN_MODE)
