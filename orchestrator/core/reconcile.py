"""reconcile: what the world says about the attempts that the state believes in, as observations. All of recovery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.core import observations as obs
from orchestrator.core.names import AttemptId, Identity, epoch, owner_name, span
from orchestrator.core.outcome import Outcome
from orchestrator.core.state import State
from orchestrator.core.value import Value

ALIVE, DEAD, UNKNOWABLE = "alive", "dead", "unknowable"


class Finding(Value):
    """What was found of one agent; one that left in order leaves nothing to find.

    `roster` is None where nobody asked it (a reader) or it did not answer.
    """

    agent: str
    life: str
    identity: Identity | None = None
    roster: dict[AttemptId, tuple[int, int]] | None = None  # attempt -> pid and start ticks, 0 while starting
    outcomes: dict[AttemptId, Outcome] = {}  # noqa: RUF012  a frozen value


def reconcile(state: State, findings: Iterable[Finding], now: float) -> list[obs.Observation]:
    found = {finding.agent: finding for finding in findings}
    seen: list[obs.Observation] = []
    for finding in found.values():
        seen += [obs.Ended(attempt, outcome) for attempt, outcome in finding.outcomes.items()]
        if finding.life == ALIVE and finding.roster is not None and finding.identity is not None:
            seen.append(obs.AgentJoined(finding.agent, finding.identity, tuple(finding.roster), takes_work=False))
            seen += [obs.Started(attempt, *process) for attempt, process in finding.roster.items() if process[0]]
    for number in sorted(state.live):
        seen += _of_attempt(state, state.attempt_id(number), found, now)
    seen += _gone(state, found)
    return seen + [obs.Unrestored(number) for number in sorted(state.restoring)]


def _of_attempt(state: State, attempt: AttemptId, found: Mapping[str, Finding], now: float) -> list[obs.Observation]:
    phase = state.phase(attempt.phase)
    finding = found.get(phase.agent or "")
    if finding is not None and attempt in finding.outcomes:
        return []
    if finding is None:
        return [obs.NeverStarted(attempt)]  # it left in order, folder and all: it had nothing in hand
    since = phase.started_at or ""
    owner = owner_name(phase.agent, finding.identity or state.agents.get(phase.agent or ""))
    if finding.life == DEAD:
        return [obs.OwnerDead(attempt, owner, since, "its process is not there any more")]
    if finding.life == UNKNOWABLE:
        age = now - epoch(since) if since else 0.0
        stale = age >= state.run.stale_after
        return [obs.OwnerDead(attempt, owner, since, f"not to be reached for {span(age)}")] if stale else []
    if finding.roster is not None and attempt not in finding.roster:
        return [obs.NeverStarted(attempt)]
    return []


def _gone(state: State, found: Mapping[str, Finding]) -> list[obs.Observation]:
    return [
        obs.AgentGone(agent, "its process is not there any more" if agent in found else "it left")
        for agent in state.agents
        if agent not in found or found[agent].life == DEAD
    ]
