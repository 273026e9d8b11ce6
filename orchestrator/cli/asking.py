"""How a command asks: it puts an ask where a live run takes it, tries the lock meanwhile, and always gets an answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from orchestrator import app, clock, process
from orchestrator.config import Settings
from orchestrator.core.observations import Asked
from orchestrator.errors import Refused, RunActive
from orchestrator.store.asks import Petition
from orchestrator.store.lock import holder
from orchestrator.store.taking import silent_for

PATIENCE = 10.0  # unclaimed for longer, the ask is withdrawn
TRY_LOCK_EVERY = 0.1
LOOK_EVERY = 0.01


def ask(
    root: Path, settings: Settings, verb: str, number: int | None, why: str = "", options: Sequence[str] = ()
) -> str:
    """The text of the answer; Refused with the reason; RunActive if the holder does not answer."""
    asked = Asked(os.urandom(6).hex(), verb, app.who_asks(), number, why, tuple(options))
    petition = Petition(root / "system", asked, clock.now())
    try:
        accepted, text = _answered(root, settings, petition)
    except BaseException:
        petition.withdraw()  # whoever asked is told that it came to nothing: no later run may hear of it
        raise
    if not accepted:
        raise Refused(f"refused: {text}")
    return text


def _answered(root: Path, settings: Settings, petition: Petition) -> tuple[bool, str]:
    since, tried = clock.ticking(), 0.0
    while (answer := petition.answer()) is None:
        now = clock.ticking()
        if now - tried >= TRY_LOCK_EVERY:
            app.ask_in_turn(root, settings)
            tried = clock.ticking()
        elif now - since > PATIENCE and petition.withdraw():
            raise _unanswered(root / "system")
        clock.pause(LOOK_EVERY)
    return answer


def _unanswered(system: Path) -> RunActive:
    found = holder(system)
    if found is None:
        return RunActive("nobody answered, and nobody says that they hold the lock", "ask again")
    state = process.is_alive(found.identity)
    silence = silent_for(found, system)
    return RunActive(
        f"the run does not answer: {found}; it is {state}, its loop silent for {silence:.0f}s; the ask was withdrawn",
        "`orch recover --takeover` ends it if it is stopped; one that hangs is ended by the next `orch run`",
    )
