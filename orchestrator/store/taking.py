"""Taking the lock: at once from nobody, after a moment from a turn, by identity from a holder that hangs."""

from __future__ import annotations

import signal
from pathlib import Path

from orchestrator import clock, process
from orchestrator.core.names import Identity, epoch, span
from orchestrator.errors import RunActive
from orchestrator.store import heartbeat
from orchestrator.store.lock import TURN, Holder, StateLock, active, holder

TURN_PATIENCE = 5.0  # a turn lasts a moment
SIGNING_PATIENCE = 1.0  # between the lock and its signature lies a moment too
LOOK_EVERY = 0.05


class Patience:
    """How long a holder may be silent, and how long a process that is told to end may take."""

    def __init__(self, heartbeat_timeout: float, kill_grace: float, *, takeover: bool, ends_hung: bool) -> None:
        self.heartbeat_timeout, self.kill_grace = heartbeat_timeout, kill_grace
        self.takeover, self.ends_hung = takeover, ends_hung


def take(lock: StateLock, system: Path, purpose: str, me: Identity, command: str, patience: Patience) -> list[str]:
    """Returns what had to be done for it, for people; RunActive if another run is alive."""
    since, notes = clock.ticking(), list[str]()
    while not lock.acquire(purpose, me, command, clock.now()):
        found = holder(system)
        waited = clock.ticking() - since
        if found is None or process.is_alive(found.identity) == process.DEAD:
            allowed = SIGNING_PATIENCE  # just taken, and not signed yet
        elif found.purpose == TURN:
            allowed = TURN_PATIENCE
        else:
            notes += _deal_with(found, system, patience)
            since = clock.ticking()  # whoever was ended leaves the lock in a moment
            continue
        if waited > allowed:
            raise active(found)
        clock.pause(LOOK_EVERY)
    return notes


def silent_for(found: Holder, system: Path) -> float:
    """How long the holder has not gone round its loop; one that never has counts from when it took the lock.

    Or from when it came to be, if that is less: a clock that was set meanwhile makes nobody older.
    """
    now = clock.now()
    pulse = heartbeat.read(system, now)
    if pulse is not None and pulse.identity == found.identity:
        return pulse.age
    return max(0.0, min(now - epoch(found.since), process.lifetime(found.identity)))


def _end(who: Identity, life: str, grace: float) -> bool:
    """One that is stopped is not asked: woken by the question, it would end its work, which can go on without it."""
    if life == process.STOPPED:
        process.send(who, signal.SIGKILL)
        return process.await_end(who, grace)
    return process.end_by_identity(who, grace)


def _deal_with(found: Holder, system: Path, patience: Patience) -> list[str]:
    """A run that is alive and beats keeps the lock; one that hangs is ended; one that was stopped is named."""
    if not patience.ends_hung:
        raise active(found)
    life, silence = process.is_alive(found.identity), silent_for(found, system)
    if life == process.STOPPED and not patience.takeover:
        raise RunActive(
            f"another run is active, but somebody stopped it with a signal ({found})",
            f"`kill -CONT {found.identity.pid}` lets it go on; --takeover ends it and takes its place",
        )
    if life not in (process.STOPPED, process.ALIVE) or (life == process.ALIVE and silence < patience.heartbeat_timeout):
        raise active(found)
    if not _end(found.identity, life, patience.kill_grace):
        raise active(found)
    what = "was stopped" if life == process.STOPPED else f"hung: its loop had been silent for {span(silence)}"
    return [f"took over from pid {found.identity.pid}, which {what}; it was ended"]
