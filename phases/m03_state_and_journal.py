"""Phase -3: whether the state survives here what it must survive: kill -9, a torn last line, a flipped bit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator import ConfigurationFault, Context, Resource, phase, process
from orchestrator.core import events as ev
from orchestrator.core.draft import Decision
from orchestrator.core.events import Event, Scope
from orchestrator.errors import StateDamaged, StateUnwritable
from orchestrator.store.lock import RUN, StateLock
from orchestrator.store.reading import read_state
from orchestrator.store.store import JournalStore
from phases._ground import Say, child, milliseconds, scratch, spread

DECISIONS, LEAST, AT_MOST_SECONDS = 300, 10, 3.0
PHASES = 24
KILLED_AFTER = (25, 60, 110)  # so many decisions were acknowledged when the writer was killed
FLIPS = 12
SLOW_MS = 100.0


@phase(-3, needs=[-8], timeout="60s", retries=0)
def state_and_journal(ctx: Context) -> dict[str, Any]:
    """Write a journal; kill its writer; damage it."""
    figures: dict[str, Any] = {}
    with scratch(ctx) as folder:
        try:
            for trial in ctx.track((committed, killed, torn, flipped), text="trials of the journal"):
                figures |= trial(new_system(folder / trial.__name__))
        except StateUnwritable as error:
            raise Resource(f"{error.message}; {error.remedy}") from error
        except StateDamaged as error:
            raise lost(folder, f"it was found damaged: {error.message}") from error
    return {"verdict": verdict(figures), "figures": figures, "warnings": list(warnings(figures))}


def verdict(figures: dict[str, Any]) -> str:
    return (
        f"a decision is safe after {figures['commit_median_ms']:.2f} ms; "
        f"{figures['kills']} killed writers lost nothing that was acknowledged; "
        f"{figures['flips_detected']} of {figures['flips']} flipped bits were detected"
    )


def warnings(figures: dict[str, Any]) -> Iterator[str]:
    for name, what in (("commit", "to be safe on the disk"), ("snapshot", "to stand in state.json")):
        if figures[f"{name}_p95_ms"] > SLOW_MS:
            yield f"a decision takes up to {figures[f'{name}_p95_ms']:.0f} ms {what}: many short phases will be slow"


# A journal as a run writes it


def new_system(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def opened(system: Path) -> JournalStore:
    return JournalStore(system, still_mine=lambda: None)


def decisions() -> Iterator[Decision]:
    """What a run decides: it begins, then intends, starts and completes one phase after the other, for ever."""
    opening = ev.RunStarted("trial", Scope(), process.myself(), "orch run", 4, 120.0, 7200.0, "")
    adopted = ev.PlanAdopted("digest", {str(number): [f"phase{number}", ""] for number in range(PHASES)})
    yield decided(opening, adopted)
    attempt = 0
    while True:
        attempt += 1
        for number in range(PHASES):
            yield decided(ev.AttemptIntended(number, attempt, "agent", "key"))
            yield decided(ev.AttemptStarted(number, attempt, 1, 1))
            yield decided(ev.PhaseCompleted(number, attempt, 0.1), ev.PhaseReset(number, "again"))


def decided(*events: Event) -> Decision:
    return Decision(events, (), ("",) * len(events))


def write(store: JournalStore, count: int) -> tuple[list[float], list[float]]:
    """How long each commit took, and each writing of state.json after it."""
    commits: list[float] = []
    snapshots: list[float] = []
    until = time.perf_counter() + AT_MOST_SECONDS
    for _, decision in zip(range(count), decisions(), strict=False):
        began = time.perf_counter()
        if began > until and len(commits) >= LEAST:  # a slow disk is measured less often
            break
        store.commit(decision, time.time())
        safe = time.perf_counter()
        store.settle(time.time())
        commits.append(safe - began)
        snapshots.append(time.perf_counter() - safe)
    return commits, snapshots


def journal_of(system: Path) -> Path:
    """The segment that is being written."""
    return max((system / "journal").glob("*.jsonl"))


# The trials


def committed(system: Path) -> dict[str, Any]:
    store = opened(system)
    commits, snapshots = write(store, DECISIONS)
    store.close()
    began = time.perf_counter()
    again = opened(system)
    reopened = time.perf_counter() - began
    found, size = again.position.seq, journal_of(system).stat().st_size
    again.close()
    if found != len(commits):
        raise lost(system, f"{len(commits)} decisions were written, {found} are there after opening it again")
    return {
        **spread("commit", commits),
        **spread("snapshot", snapshots),
        "decisions": found,
        "journal_bytes_per_decision": round(size / found),
        "reopen_ms": milliseconds(reopened),
    }


def killed(system: Path) -> dict[str, Any]:
    """Whatever a writer said was safe is there after kill -9, and the lock is free."""
    unfinished = 0
    for count in KILLED_AFTER:
        acknowledged = kill_a_writer(system, count)
        lock = StateLock(system)
        if not lock.acquire(RUN, process.myself(), "trial", time.time()):
            raise lost(system, "the lock is still held although its holder was killed")
        store = opened(system)
        found = store.position.seq
        store.close()
        lock.release()
        if found < acknowledged:
            raise lost(system, f"its writer acknowledged {acknowledged} decisions and was killed, {found} are there")
        unfinished += found - acknowledged
    return {"kills": len(KILLED_AFTER), "kept_beyond_acknowledged": unfinished}


def kill_a_writer(system: Path, count: int) -> int:
    """Kill -9 in the middle of writing; returns the last decision that was acknowledged."""

    def keep_writing(say: Say) -> None:
        lock = StateLock(system)
        lock.acquire(RUN, process.myself(), "trial", time.time())
        store = opened(system)
        for decision in decisions():
            store.commit(decision, time.time())
            say(store.position.seq)
            store.settle(time.time())

    acknowledged = 0
    with child(keep_writing) as writer:
        for _ in range(count):
            said = writer.hear()
            if said is None:
                raise lost(system, f"its writer ended by itself after decision {acknowledged}")
            acknowledged = said
        os.kill(writer.pid, 9)
        while (said := writer.hear()) is not None:  # what it had said before it died
            acknowledged = said
    return acknowledged


def torn(system: Path) -> dict[str, Any]:
    """An unfinished last line is a decision not taken, at whatever byte it was cut."""
    store = opened(system)
    written = len(write(store, 30)[0])
    store.close()
    line = journal_of(system).read_bytes().splitlines(keepends=True)[-1]
    cuts = [1, len(line) // 3, len(line) - 1]
    for cut in cuts:
        with open(journal_of(system), "ab") as file:
            file.write(line[:cut])
        again = opened(system)
        found = again.position.seq
        again.close()
        if found != written:
            raise lost(system, f"a last line that was cut after {cut} bytes left {found} decisions of {written}")
    return {"torn_lines_tolerated": len(cuts)}


def flipped(system: Path) -> dict[str, Any]:
    """One bit at a time, in the only copy there is: each must be noticed, none may change the state."""
    store = opened(system)
    write(store, 60)
    store.close()
    (system / "state.json").unlink()
    path = journal_of(system)
    whole = path.read_bytes()
    detected = 0
    for flip in range(FLIPS):
        damaged = bytearray(whole)
        damaged[(flip * 2 + 1) * len(whole) // (2 * FLIPS)] ^= 1 << flip % 8
        path.write_bytes(damaged)
        detected += is_detected(system)
    path.write_bytes(whole)
    if detected < FLIPS or is_detected(system):
        raise lost(system, f"of {FLIPS} flipped bits only {detected} were detected")
    return {"flips": FLIPS, "flips_detected": detected}


def is_detected(system: Path) -> bool:
    try:
        read_state(system)
    except StateDamaged:
        return True
    return False


def lost(folder: Path, what: str) -> ConfigurationFault:
    return ConfigurationFault(
        f"a journal on this disk ({folder}) cannot be trusted: {what}. "
        "Phase -6 says which file system this is: put the project on a local disk, and try again"
    )
