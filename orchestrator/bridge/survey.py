"""Who is there: the agents' folders in system/agents, read without disturbing anybody."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import disk, process
from orchestrator.core import formats
from orchestrator.core.names import AttemptId, Identity
from orchestrator.core.outcome import Outcome
from orchestrator.core.reconcile import ALIVE, DEAD, UNKNOWABLE, Finding
from orchestrator.core.wire import VERSION as WIRE
from orchestrator.errors import CODES


def survey(system: Path, known: Mapping[str, Identity]) -> list[Finding]:
    """One finding for each agent that has a folder, and for each that is `known` and alive although it has none."""
    folders = sorted(path for path in (system / "agents").glob("*") if path.is_dir())
    found = [_look(folder, known.get(folder.name)) for folder in folders]
    names = {finding.agent for finding in found}
    strays = [(agent, who, _life(who)) for agent, who in known.items() if agent not in names]
    return [*found, *(Finding(agent, life, who) for agent, who, life in strays if life != DEAD)]


def _look(folder: Path, known: Identity | None = None) -> Finding:
    """Alive if one of the two says so that name it; else the journal counts: a file in that folder has no seal."""
    told = [(who, _life(who)) for who in (known, read_identity(folder)) if who is not None]
    identity, life = next((one for one in told if one[1] == ALIVE), told[0] if told else (None, DEAD))
    return Finding(folder.name, life, identity, None, {attempt: outcome for attempt, outcome, _ in outcomes(folder)})


def _life(identity: Identity) -> str:
    found = process.is_alive(identity)
    if found == process.UNKNOWABLE:
        return UNKNOWABLE
    return DEAD if found == process.DEAD else ALIVE


def is_dead(folder: Path) -> bool:
    """Whoever lives keeps their folder: it is the way to them, and to what they still have in hand."""
    return _look(folder).life == DEAD


def read_identity(folder: Path) -> Identity | None:
    try:
        return Identity.from_dict(json.loads(disk.read(folder / "identity.json")))
    except (OSError, *formats.MALFORMED):
        return None


def identity_document(agent: str, who: Identity) -> bytes:
    """As the agent itself writes it."""
    return json.dumps({"agent": agent, **who.as_dict(), "version": WIRE}).encode()


def outcomes(folder: Path) -> list[tuple[AttemptId, Outcome, Path]]:
    """Outcomes that nobody has taken. One that cannot be read is left where it is: its attempt counts as lost."""
    read = [(path, read_outcome(path)) for path in outcome_files(folder)]
    return [(*found, path) for path, found in read if found is not None]


def read_outcome(path: Path) -> tuple[AttemptId, Outcome] | None:
    """None if it is no outcome; StateDamaged, by name, if it is of a newer format: then nothing is lost, but waits."""
    try:
        data: dict[str, Any] = json.loads(disk.read(path))
        version = data.get("version", formats.OLDEST)
        if formats.is_newer(version):
            raise formats.refusal(version, f"the outcome {path.name}", str(path))
        data = formats.today(formats.OUTCOME, data, version, path.name)
        attempt, outcome = AttemptId.parse(data["attempt"]), Outcome.from_dict(data["outcome"])
        return (attempt, outcome) if path.name == f"{attempt}.json" and _is_sound(outcome) else None
    except (OSError, *formats.MALFORMED):
        return None


def _is_sound(outcome: Outcome) -> bool:
    """Whether each field is what it should be: it goes into the journal as it is."""
    numbers = (outcome.duration_seconds, outcome.started_at, outcome.ended_at)
    codes, failure = (outcome.exit_status, outcome.signal), outcome.failure
    return (
        all(one is None or (type(one) in (int, float) and abs(one) < _FOREVER) for one in numbers)
        and all(one is None or (type(one) is int and abs(one) < _FOREVER) for one in codes)
        and isinstance(outcome.out_of_memory, bool | None)
        and type(outcome.log) is str
        and all(type(one) is str for one in (*outcome.leftovers, *outcome.tail))
        and (failure is None or (failure.code in CODES and type(failure.message) is str))
    )


_FOREVER = 1e12  # seconds


def take(folder: Path, attempt: AttemptId) -> None:
    """The outcome is committed: its file may go, and with the last one a dead agent's folder."""
    disk.remove(folder / "outcomes" / f"{attempt}.json")


def clear(folder: Path) -> None:
    """A dead agent's folder whose outcomes are all taken; its log is kept only while there is something to explain."""
    if not outcome_files(folder):
        import shutil  # readers clear nothing

        shutil.rmtree(folder, ignore_errors=True)


def outcome_files(folder: Path) -> list[Path]:
    """None where an agent that leaves takes its folder along while we look."""
    place = folder / "outcomes"
    try:
        return sorted(place / name for name in os.listdir(place) if name.endswith(".json") and name[0] != ".")
    except OSError:
        return []
