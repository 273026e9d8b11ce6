"""fsck: all that orch keeps in system/ is looked at without the lock, and repaired with it, copies first.

A repair that is cut off loses nothing: every step is whole or not made, and the next fsck finds what is left to do.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from orchestrator import clock, disk, process
from orchestrator.bridge import remains
from orchestrator.core.flaw import Close, Cut, Drop, Flaw, Own, Put, Step
from orchestrator.disk import unwritable
from orchestrator.errors import StateUnwritable
from orchestrator.load import cached
from orchestrator.look import cache_of
from orchestrator.store import mending, untidy
from orchestrator.store.checkpoints import Vault
from orchestrator.store.keeping import keep
from orchestrator.store.lock import TURN, StateLock
from orchestrator.store.taking import Patience, take

NEVER = 3600.0 * 24 * 3650


class Report:
    """What was looked at, what is wrong with it, and after a repair where the copies are."""

    def __init__(self, flaws: list[Flaw], decisions: int, segments: int) -> None:
        self.flaws, self.decisions, self.segments = flaws, decisions, segments
        self.is_there = True
        self.kept: list[Path] = []  # the copies of what was changed
        self.left: list[Flaw] = []  # what is still wrong after the repair

    @property
    def exit_code(self) -> int:
        if self.left or any(flaw.is_hopeless for flaw in self.flaws):
            return 4
        return 1 if self.flaws else 0


def examine(root: Path, *, has_lock: bool = False) -> Report:
    """StateDamaged if something is of a newer format: then nothing else can be said either."""
    system = root / "system"
    if not os.path.lexists(system):
        report = Report([], 0, 0)
        report.is_there = False
        return report
    if not system.is_dir():
        why = "nothing can be kept here: move it away"
        return Report([Flaw("system", "it is not a folder", why, "")], 0, 0)
    is_live = not has_lock and untidy.is_held(system)
    verdict = mending.judge(system, is_live=is_live)
    flaws = untidy.untidiness(system, is_live=is_live)
    if has_lock:  # it is ours, and signed by us
        flaws = [flaw for flaw in flaws if flaw.file != f"system/{untidy.LOCK}"]
    flaws += verdict.flaws
    if not is_live:
        flaws += remains.flaws(system, verdict.state)
    flaws += Vault(root).flaws()
    flaws += [_of_cache(name) for name in cached.unreadable(cache_of(root))]
    return Report(flaws, verdict.decisions, verdict.segments)


def _of_cache(name: str) -> Flaw:
    inner = f"cache/{name}"
    why = "it is not used: the phases are read again, which takes its time"
    return Flaw(f"system/{inner}", "it is damaged", why, "move it into the backup", steps=(Drop(inner),))


def repair(root: Path) -> Report:
    """RunActive if a run is; StateUnwritable if a copy or a step cannot be written."""
    report = examine(root)
    if not any(flaw.steps for flaw in report.flaws):
        return report
    system = root / "system"
    try:
        return _with_lock(root, system, report)
    except StateUnwritable:
        raise
    except OSError as error:
        raise unwritable(error, system) from error


def _with_lock(root: Path, system: Path, seen: Report) -> Report:
    of_lock = [flaw for flaw in seen.flaws if flaw.file == f"system/{untidy.LOCK}"]
    signed = [(system / untidy.LOCK, disk.read(system / untidy.LOCK))] if (system / untidy.LOCK).is_file() else []
    kept_before = _make_way(system, of_lock)
    lock, me = StateLock(system), process.myself()
    patience = Patience(NEVER, 0.0, takeover=False, ends_hung=False)
    take(lock, system, TURN, me, shlex.join(["orch", *sys.argv[1:]]), patience)
    try:
        report = examine(root, has_lock=True)
        report.flaws = [*of_lock, *report.flaws]
        told = [step for flaw in report.flaws for step in flaw.steps]
        # What the lock holds is ours by now; whose it is, and who may read it, may still be wrong.
        steps = [step for step in told if step.path != untidy.LOCK or isinstance(step, Close | Own)]
        report.kept = kept_before
        if steps or (of_lock and not kept_before):
            paths = dict.fromkeys(step.path for step in steps if step.path)
            readme = "\n".join(words(flaw) for flaw in report.flaws) + "\n"
            copies = [(path.name, data) for path, data in signed] if of_lock else []
            report.kept = [*report.kept, keep(system, "fsck", _topmost(list(paths)), clock.now(), readme, copies)]
        for step in steps:
            lock.still_mine()
            perform(system, step)
        report.left = [flaw for flaw in examine(root, has_lock=True).flaws if not flaw.is_hopeless]
        return report
    finally:
        lock.release()


def _make_way(system: Path, of_lock: list[Flaw]) -> list[Path]:
    """What is no lock cannot be locked: it goes first."""
    steps = [step for flaw in of_lock for step in flaw.steps if isinstance(step, Drop)]
    if not steps:
        return []
    kept = keep(system, "fsck", [step.path for step in steps], clock.now())
    for step in steps:
        perform(system, step)
    return [kept]


def _topmost(paths: list[str]) -> list[str]:
    """Without those that are in a folder that is copied as a whole."""
    return [path for path in paths if not any(path != one and path.startswith(f"{one}/") for one in paths)]


def perform(system: Path, step: Step) -> None:
    path = system / step.path
    if isinstance(step, Put):
        for folder in (*reversed(path.relative_to(system).parents[:-1]),):
            if os.path.lexists(system / folder) and not (system / folder).is_dir():
                disk.drop(system / folder)
        if os.path.lexists(path) and not path.is_file():
            disk.drop(path)
        disk.make_folder(path.parent)
        disk.replace(path, step.data, durable=True)
    elif isinstance(step, Cut):
        disk.cut(path, step.size)
    elif isinstance(step, Drop):
        disk.drop(path)
    elif isinstance(step, Close) and os.path.lexists(path):
        os.chmod(path, step.mode)
    elif isinstance(step, Own) and os.path.lexists(path):
        os.chown(path, step.user, step.group)


def words(flaw: Flaw) -> str:
    repair = flaw.repair or "nothing that could be done by itself"
    return f"{flaw.place}: {flaw.what}\n  it matters: {flaw.why}\n  to repair:  {repair}"
