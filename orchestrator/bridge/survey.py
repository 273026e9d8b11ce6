"""Who is there: the agents' folders in system/agents, read without disturbing anybody."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import disk, process
from orchestrator.core.names import AttemptId, Identity
from orchestrator.core.outcome import Outcome
from orchestrator.core.reconcile import ALIVE, DEAD, UNKNOWABLE, Finding


def survey(system: Path, known: Mapping[str, Identity]) -> list[Finding]:
    """One finding for each agent that has a folder, and for each that is `known` and alive although it has none."""
    folders = sorted(path for path in (system / "agents").glob("*") if path.is_dir())
    found = [_look(folder) for folder in folders]
    names = {finding.agent for finding in found}
    strays = [(agent, who, _life(who)) for agent, who in known.items() if agent not in names]
    return [*found, *(Finding(agent, life, who) for agent, who, life in strays if life != DEAD)]


def _look(folder: Path) -> Finding:
    identity = read_identity(folder)
    life = DEAD if identity is None else _life(identity)
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
        return Identity.from_dict(json.loads((folder / "identity.json").read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def outcomes(folder: Path) -> list[tuple[AttemptId, Outcome, Path]]:
    """Outcomes that nobody has taken. One that cannot be read is left where it is: its attempt counts as lost."""
    found = []
    for path in _outcome_files(folder):
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            found.append((AttemptId.parse(data["attempt"]), Outcome.from_dict(data["outcome"]), path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def take(folder: Path, attempt: AttemptId) -> None:
    """The outcome is committed: its file may go, and with the last one a dead agent's folder."""
    disk.remove(folder / "outcomes" / f"{attempt}.json")


def clear(folder: Path) -> None:
    """A dead agent's folder whose outcomes are all taken; its log is kept only while there is something to explain."""
    if not _outcome_files(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _outcome_files(folder: Path) -> list[Path]:
    """None where an agent that leaves takes its folder along while we look."""
    place = folder / "outcomes"
    try:
        return sorted(place / name for name in os.listdir(place) if name.endswith(".json") and name[0] != ".")
    except OSError:
        return []
