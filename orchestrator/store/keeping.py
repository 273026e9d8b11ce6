"""Copies in system/backup: whole and on the disk under their name, or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from orchestrator import disk

FOLDER = "backup"


def keep(
    system: Path, what: str, paths: Iterable[str], now: float, told: str = "", more: Iterable[tuple[str, bytes]] = ()
) -> Path:
    """`paths` as they are, in a folder of their own named after `what` and the time.

    `told` says what for; `more` is what stood in files that are changed by now.
    """
    import shutil  # hardly ever is anything kept

    folder = system / FOLDER
    disk.make_folder(folder)
    stamp = f"{what}_{datetime.fromtimestamp(now, UTC):%Y%m%d_%H%M%S}"
    draft = folder / f".{stamp}.{os.getpid()}.new"
    shutil.rmtree(draft, ignore_errors=True)
    disk.make_folder(draft)
    for path in paths:
        _copy(system / path, draft / path)
    for name, data in more:
        disk.replace(draft / name, data, durable=True)
    if told:
        disk.replace(draft / "README.txt", told.encode(), durable=True)
    kept = _free_name(folder, stamp)
    os.rename(draft, kept)
    disk.sync_folder(folder)
    return kept


def _free_name(folder: Path, stamp: str) -> Path:
    names = (stamp, *(f"{stamp}_{again}" for again in range(2, 10_000)))
    return next(folder / name for name in names if not os.path.lexists(folder / name))


def _copy(source: Path, target: Path) -> None:
    """Files with their bytes, links as links; pipes and sockets hold nothing."""
    disk.make_folder(target.parent)
    if source.is_symlink():
        os.symlink(os.readlink(source), target)
    elif source.is_dir():
        disk.make_folder(target)
        for inner in sorted(source.iterdir()):
            _copy(inner, target / inner.name)
    elif source.is_file():
        disk.replace(target, disk.read(source), durable=True)
