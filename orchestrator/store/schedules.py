"""system/schedules: each schedule in a file of its own, and beside it by when its next start must have been noticed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from orchestrator import disk
from orchestrator.core import formats
from orchestrator.core.names import nearest
from orchestrator.core.schedule import Schedule, faults
from orchestrator.disk import unwritable
from orchestrator.errors import OrchError, StateDamaged, UsageError

FOLDER = "schedules"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}")
NAMES = "letters, digits, _ and -, at most 41, a letter or digit first"


def folder_of(system: Path) -> Path:
    return system / FOLDER


def path_of(system: Path, name: str, suffix: str = ".json") -> Path:
    return folder_of(system) / f"{name}{suffix}"


def names(system: Path) -> list[str]:
    """All there are, also those that cannot be read."""
    try:
        found = [Path(name) for name in os.listdir(folder_of(system))]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(path.stem for path in found if path.suffix == ".json" and NAME.fullmatch(path.stem))


def read(system: Path, name: str) -> Schedule:
    """UsageError: there is none of that name. StateDamaged: there is, and it cannot be read."""
    path = path_of(system, name)
    try:
        data = json.loads(disk.read(path))
        version = data.pop("version")
        if not formats.is_newer(version):
            data = formats.today(formats.SCHEDULE, data, version, str(path))
            return _checked(Schedule.from_dict(data), name)
    except FileNotFoundError:
        raise unknown(system, name) from None
    except (OSError, *formats.MALFORMED) as error:
        raise _damaged(path, name, str(error)) from error
    raise formats.refusal(version, str(path))


def _checked(found: Schedule, name: str) -> Schedule:
    if found.name != name:
        raise ValueError(f"it says that its name is {found.name!r}")
    if said := faults(found):
        raise ValueError(said[0])
    return found


def read_all(system: Path) -> tuple[list[Schedule], list[OrchError]]:
    """Those that can be read, by name, and what is wrong with the others."""
    found, wrong = list[Schedule](), list[OrchError]()
    for name in names(system):
        try:
            found.append(read(system, name))
        except OrchError as error:
            wrong.append(error)
    return found, wrong


def write(system: Path, schedule: Schedule) -> None:
    document = {"version": formats.VERSION, **schedule.as_dict()}
    _put(path_of(system, schedule.name), json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def write_next(system: Path, name: str, *by: float) -> None:
    """The seconds by which a start must have been noticed, the soonest first: plain numbers, for a shell reads them."""
    _put(path_of(system, name, ".next"), "".join(f"{int(each)}\n" for each in by))


def read_next(system: Path, name: str) -> float | None:
    try:
        return float(int(disk.read(path_of(system, name, ".next"), most=32).split(b"\n")[0]))
    except (OSError, ValueError):
        return None


def remove(system: Path, name: str) -> bool:
    """All files of that schedule; the one that says that there is a schedule goes last. False: there were none."""
    folder, found = folder_of(system), False
    try:
        for path in sorted(folder.glob(f"{name}.*"), key=lambda path: path.name == f"{name}.json"):
            disk.remove(path)
            found = True
    except OSError as error:
        raise unwritable(error, folder) from error
    return found


def unknown(system: Path, name: str) -> UsageError:
    known = names(system)
    near = nearest(name, known)
    remedy = f"there are {', '.join(known)}" if known else '`orch cron add --at "0 3 * * *"` makes one'
    return UsageError(f"there is no schedule {name}", f"did you mean {near}?" if near else remedy)


def _put(path: Path, text: str) -> None:
    try:
        disk.make_folder(path.parent)
        disk.replace(path, text.encode("utf-8", "surrogateescape"), durable=True)
    except OSError as error:
        raise unwritable(error, path.parent) from error


def _damaged(path: Path, name: str, why: str) -> StateDamaged:
    return StateDamaged(
        f"{path} cannot be read: {why}", f"`orch cron remove {name}` does away with it; then add it again"
    )
