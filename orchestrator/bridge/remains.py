"""fsck of system/agents: identities and outcomes that cannot be read, and what nobody will need any more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator import process
from orchestrator.bridge import survey
from orchestrator.core.flaw import Drop, Flaw, Put
from orchestrator.core.names import AttemptId, Identity
from orchestrator.core.state import State


def flaws(system: Path, state: State | None) -> list[Flaw]:
    """`state` is what is proven; without one nothing can be said of what is committed."""
    folders = sorted(path for path in (system / "agents").glob("*") if path.is_dir())
    return [flaw for folder in folders for flaw in _of_agent(system, folder, state)]


def _of_agent(system: Path, folder: Path, state: State | None) -> Iterator[Flaw]:
    inner = f"agents/{folder.name}"
    who = survey.read_identity(folder)
    has_identity = os.path.lexists(folder / "identity.json")
    known = state.agents.get(folder.name) if state is not None else None
    if who is None and has_identity:
        yield _unreadable(inner, folder, known)
    unread = [path for path in survey.outcome_files(folder) if survey.read_outcome(path) is None]
    for path in unread:
        name = f"{inner}/outcomes/{path.name}"
        why = "how that attempt ended cannot be told: it counts as lost, and `orch run` runs it again"
        yield Flaw(f"system/{name}", "it is no outcome that can be read", why, _ASIDE, steps=(Drop(name),))
    settled = [] if state is None else [one for one in survey.outcomes(folder) if _is_settled(one[0], state)]
    for attempt, _, path in settled:
        name = f"{inner}/outcomes/{path.name}"
        what = f"the outcome of attempt {attempt} is committed already, or belongs to an earlier run"
        yield Flaw(f"system/{name}", what, "nobody needs it any more", _ASIDE, steps=(Drop(name),))
    is_needed = state is None or any(state.phase(number).agent == folder.name for number in state.live)
    waiting = len(survey.outcomes(folder)) - len(settled)
    if not _lives(who or known) and not is_needed and not waiting and not (who is None and has_identity and known):
        what = "the folder of an agent that is gone, with nothing in it that anybody waits for"
        yield Flaw(f"system/{inner}", what, "it takes room", _ASIDE, steps=(Drop(inner),))


_ASIDE = "move it into the backup"


def _unreadable(inner: str, folder: Path, known: Identity | None) -> Flaw:
    name, what = f"{inner}/identity.json", "it cannot be read"
    if known is not None:
        why = "nobody could tell whether this agent lives; the journal knows who it is"
        step = Put(name, survey.identity_document(folder.name, known))
        return Flaw(f"system/{name}", what, why, "write it anew", steps=(step,))
    why = "nobody can tell whether this agent lives: it counts as gone"
    return Flaw(f"system/{name}", what, why, _ASIDE, steps=(Drop(name),))


def _lives(who: Identity | None) -> bool:
    return who is not None and process.is_alive(who) != process.DEAD


def _is_settled(attempt: AttemptId, state: State) -> bool:
    """Whether the state waits for it no more."""
    phase = state.phase(attempt.phase)
    return attempt.run != state.run.id or not phase.is_live or phase.attempt != attempt.number
