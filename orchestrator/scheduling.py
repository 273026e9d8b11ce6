"""Schedules are added, taken away and looked at here: file, scripts and the entry that starts them, as one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import tzinfo
from pathlib import Path
from typing import NamedTuple

from orchestrator import clock, disk
from orchestrator.config import Settings
from orchestrator.core import crontab as text_of
from orchestrator.core.covering import cron_times
from orchestrator.core.names import iso
from orchestrator.core.schedule import Schedule, faults, following
from orchestrator.cron import crontab, scripts, units
from orchestrator.cron.crontab import NoCrontab
from orchestrator.disk import unwritable
from orchestrator.errors import OrchError, UsageError
from orchestrator.store import schedules

CATCHING_UP = ("@reboot", "*/10 * * * *")  # who is started asks what is due and was not begun
WATCHING = "*/5 * * * *"
AHEAD = 32  # instants that the entry that watches knows of, if nobody tells it of later ones


class Standing(NamedTuple):
    """A schedule as it stands."""

    schedule: Schedule
    zone: str  # its name
    next: float
    fault: str  # why nothing would begin; empty: it would


def add(root: Path, settings: Settings, schedule: Schedule, environ: Mapping[str, str]) -> tuple[float, list[str]]:
    """The first instant, and what is to be said. Nothing is left behind if it cannot be done."""
    _check(root, schedule)
    zone, now = clock.zone(schedule.tz), clock.now()
    schedule = schedule.replace(since=iso(now))
    with crontab.alone():
        notes = _added(root, settings, schedule, zone, environ, now)
        now = clock.now()  # what came while it was not yet in place nobody could begin: it was not due
        schedule = schedule.replace(since=iso(now))
        schedules.write(root / "system", schedule)
        note_next(root / "system", schedule, zone, now)
    return following(schedule, zone, now), [*notes, *_what_it_will_not_have(settings, schedule)]


def _what_it_will_not_have(settings: Settings, schedule: Schedule) -> Iterator[str]:
    """Secrets that this shell has, maybe, and a start without it will not."""
    who = "systemd" if schedule.systemd else "cron"
    for name, source in settings.secrets.items():
        if source.env and source.env not in scripts.NOTED:
            yield f"{who} will not have {source.env}, which the secret {name} is taken from: keep that in a file"


def _added(
    root: Path, settings: Settings, schedule: Schedule, zone: tzinfo, environ: Mapping[str, str], now: float
) -> list[str]:
    system, name = root / "system", schedule.name
    if os.path.lexists(schedules.path_of(system, name)):
        remedy = f"`orch cron remove {name}` first, or give this one a name: --name other"
        raise UsageError(f"there is a schedule {name} already", remedy)
    if not schedule.systemd:
        crontab.read()  # before anything is written: is there a crontab, and may we?
    try:
        schedules.write(system, schedule)
        note_next(system, schedule, zone, now)
        _write_scripts(root, schedule, settings, environ)
        if schedule.systemd:
            return list(units.install(units.texts(root, schedule, settings, zone, environ, now)))
        return _enter(root, schedule, zone, now)
    except BaseException:
        if not schedule.systemd:
            with suppress(OrchError):
                _leave(root, name)  # somebody edits it at the same moment, and may have ours in it, too
        schedules.remove(system, name)
        raise


def _check(root: Path, schedule: Schedule) -> None:
    if not schedules.NAME.fullmatch(schedule.name):
        raise UsageError(f"{schedule.name!r} is not the name of a schedule", schedules.NAMES)
    if found := faults(schedule):
        raise UsageError(found[0] if len(found) == 1 else "\n  ".join([f"{len(found)} faults", *found]))
    if why := text_of.fault(str(root)):
        raise UsageError(f"no line for cron can name this folder: {why}", "move the project, or use a link to it")


def note_next(system: Path, schedule: Schedule, zone: tzinfo, now: float) -> None:
    """By when the next starts must have been noticed, for the entry that watches."""
    if not schedule.watch:
        return
    found = [following(schedule, zone, now)]
    if schedules.read_next(system, schedule.name) == found[0] + schedule.watch:
        return
    while len(found) < AHEAD:
        found.append(following(schedule, zone, found[-1]))
    schedules.write_next(system, schedule.name, *(instant + schedule.watch for instant in found))


def _write_scripts(root: Path, schedule: Schedule, settings: Settings, environ: Mapping[str, str]) -> None:
    found = {scripts.START: scripts.start_script(root, schedule, environ)}
    if schedule.watch:
        found[scripts.WATCH] = scripts.watch_script(root, schedule, environ, settings.notify.values())
    try:
        for suffix, text in found.items():
            path = scripts.script_of(root, schedule.name, suffix)
            disk.replace(path, text.encode("utf-8", "surrogateescape"), durable=True)
            os.chmod(path, disk.PRIVATE_FOLDER)
    except OSError as error:
        raise unwritable(error, root / "system") from error


def _enter(root: Path, schedule: Schedule, zone: tzinfo, now: float) -> list[str]:
    lines = lines_of(root, schedule, zone, now)
    told = list[str]()

    def entered(text: str | None) -> str:
        if (elsewhere := text_of.zone_for_all(text or "")) and elsewhere != str(clock.machine_zone()):
            told.append(f"the crontab sets CRON_TZ={elsewhere}: where cron heeds that, move it below the block of orch")
        left = text and text_of.without_block(text, schedule.name, str(root), _scripts(root, schedule.name))
        return text_of.with_block(left, schedule.name, str(root), lines)

    crontab.change(entered, schedules.folder_of(root / "system") / f".crontab.{os.getpid()}.new")
    if not crontab.is_daemon_running():
        told.append("no cron is running here, so nothing will begin by itself: start it (Debian: service cron start)")
    return told


def lines_of(root: Path, schedule: Schedule, zone: tzinfo, now: float) -> list[str]:
    command, watching = (text_of.command(script) for script in _scripts(root, schedule.name))
    times = cron_times(schedule, zone, clock.machine_zone(), now)
    times += CATCHING_UP if schedule.catch_up else ()
    return [*(f"{time} {command}" for time in times), *([f"{WATCHING} {watching}"] if schedule.watch else [])]


def _scripts(root: Path, name: str) -> list[str]:
    return [str(scripts.script_of(root, name, suffix)) for suffix in (scripts.START, scripts.WATCH)]


def remove(root: Path, name: str) -> list[str]:
    """What begins it first, then its files; also where one of them is gone already, or cannot be read."""
    if not schedules.NAME.fullmatch(name):
        raise schedules.unknown(root / "system", name)
    with crontab.alone():
        had_units, notes = units.uninstall(root, name)
        try:
            had_block = _leave(root, name)
        except NoCrontab:
            had_block = False  # then no crontab can name it
        had_files = schedules.remove(root / "system", name)
    if not (had_units or had_block or had_files):
        raise schedules.unknown(root / "system", name)
    if not (had_units or had_block):
        notes = [*notes, "nothing of it was in the crontab; lines of a project that was moved: `crontab -e`"]
    return notes


def _leave(root: Path, name: str) -> bool:
    found = list[bool]()

    def left(text: str | None) -> str | None:
        found.append(text_of.block_of(text, name, str(root)) is not None)
        return text if text is None else text_of.without_block(text, name, str(root), _scripts(root, name))

    crontab.change(left, schedules.folder_of(root / "system") / f".crontab.{os.getpid()}.new")
    return any(found)


def standing(root: Path) -> tuple[list[Standing], list[OrchError]]:
    """Every schedule, and what is wrong with those that cannot be read."""
    found, wrong = schedules.read_all(root / "system")
    text, why = _crontab_as_it_is()
    idle = "" if why or all(one.systemd for one in found) or crontab.is_daemon_running() else "no cron is running here"
    wrong += _orphans(root, text)
    rows = list[Standing]()
    for schedule in found:
        try:
            zone = clock.zone(schedule.tz)
        except OrchError as error:
            wrong.append(error)
            continue
        fault = units.fault(root, schedule) if schedule.systemd else why or _missing(root, schedule, text) or idle
        rows.append(Standing(schedule, str(zone), following(schedule, zone, clock.now()), fault))
    return rows, wrong


def _orphans(root: Path, text: str | None) -> list[OrchError]:
    """In the crontab, while system/schedules knows nothing of it: somebody has deleted system/."""
    try:
        names = {one.name for one in text_of.blocks(text or "") if one.project == str(root)}
    except text_of.Unbalanced:
        return []  # whoever changes the crontab says so
    known = set(schedules.names(root / "system"))
    return [
        UsageError(
            f"schedule {name} is in the crontab, but its file is gone", f"`orch cron remove {name}` takes it out"
        )
        for name in sorted(names - known)
    ]


def _crontab_as_it_is() -> tuple[str | None, str]:
    """What is in it, and why it cannot be read."""
    try:
        return crontab.read(), ""
    except OrchError as error:
        return None, error.message


def _missing(root: Path, schedule: Schedule, text: str | None) -> str:
    """Somebody may have edited the crontab: does each script still stand in the block, in no comment?"""
    block = crontab.block(text, schedule.name, root)
    if block is None:
        return "it is not in the crontab"
    wanted = _scripts(root, schedule.name)[: 2 if schedule.watch else 1]
    lines = [line for line in block.lines if not line.lstrip().startswith("#")]
    if not all(any(text_of.command(script) in line for line in lines) for script in wanted):
        return "lines of it are missing in the crontab"
    return ""


def instants(schedule: Schedule, count: int) -> list[float]:
    """The next ones."""
    zone, found = clock.zone(schedule.tz), list[float]()
    for _ in range(count):
        found.append(following(schedule, zone, found[-1] if found else clock.now()))
    return found
