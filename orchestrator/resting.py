"""A project at rest: nobody is there, nothing waits, all is whole. What a run says then, whoever only looks can say.

Most starts from cron find it so. They take no lock, so they need not open what goes with it, and sync nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator import process
from orchestrator.bridge.survey import survey
from orchestrator.config import Settings
from orchestrator.core import formats
from orchestrator.errors import OrchError
from orchestrator.look import is_settled
from orchestrator.store.lock import holder, warnings_of
from orchestrator.store.reading import Loaded, is_being_rolled_back, oldest_format, read_state, verify
from orchestrator.supervisor import SUPERVISOR


def is_sure_to_work(system: Path, *, anew: bool) -> bool:
    """Told without reading the state: all is to be done, and nobody is there who does it."""
    return (anew or not (system / "state.json").exists()) and not _is_held(system)


def look_ahead(system: Path) -> Loaded | None:
    """The state before the lock is taken; None where somebody is there, or whoever takes it is to say what is wrong."""
    if _is_held(system):
        return None
    try:
        return read_state(system)
    except OrchError:
        return None


def _is_held(system: Path) -> bool:
    busy = holder(system)
    return busy is not None and process.is_alive(busy.identity) != process.DEAD


def is_at_rest(system: Path, loaded: Loaded, settings: Settings) -> bool:
    """Would whoever takes the lock find nothing to put in order, and nobody to tell?"""
    state = loaded.state
    if not loaded.snapshot_is_exact or loaded.notices or loaded.torn or oldest_format(system) != formats.VERSION:
        return False
    if not is_settled(state, survey(system, state.agents)) or is_being_rolled_back(system):
        return False
    if SUPERVISOR.is_there or settings.notify or (system / "outbox").exists() or warnings_of(system):
        return False
    try:
        asks = [name for name in os.listdir(system / "asks") if not name.endswith(_HEARD)]
        written = [name for folder in ("", "journal", "logs", "cache") for name in os.listdir(system / folder)]
    except OSError:
        return False
    return not asks and not any(name.endswith(_DRAFT) for name in written)


def is_proven(system: Path, loaded: Loaded) -> bool:
    """Is the journal whole as far as the snapshot covers it? What that says was synced before it was written."""
    try:
        verify(system, loaded)
    except (OrchError, OSError):
        return False
    return not loaded.notices and not loaded.mend


_HEARD = ("bell", ".answer")
_DRAFT = ".new"  # of a writer that was killed
