"""orch cron: when runs begin by themselves: what is added to the crontab, or to systemd, and taken out again."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator import clock, scheduling
from orchestrator.beginning import params_for
from orchestrator.cli.completing import schedules
from orchestrator.cli.firing import fire as fire_what_is_due
from orchestrator.cli.frame import root_of, settings_of, show, show_json, tell
from orchestrator.cli.instants import Records, record_line
from orchestrator.cli.options import Command, Group, JsonOption, ProjectOption
from orchestrator.cli.run import parsed
from orchestrator.cli.running import scheduled
from orchestrator.core.due import Met
from orchestrator.core.expression import in_words, plain
from orchestrator.core.names import iso, seconds, span
from orchestrator.core.schedule import OVERLAPS, SKIP, Schedule
from orchestrator.core.state import State
from orchestrator.errors import StateDamaged, UsageError
from orchestrator.scheduling import Standing
from orchestrator.store.reading import read_state
from orchestrator.store.schedules import read

EXAMPLE = 'Example: orch cron add --at "0 3 * * *"'
DEFAULT = "default"
NameOption = Annotated[str, typer.Option("--name", metavar="NAME", help="What it is called.")]
NameArgument = typer.Argument(metavar="NAME", help="Which schedule.", autocompletion=schedules)

app = typer.Typer(cls=Group, help="Runs that begin by themselves.", epilog=EXAMPLE, rich_markup_mode=None)


@app.command("add", cls=Command, epilog=EXAMPLE + " --tz Europe/Berlin --catch-up 6h -- --from 1 --quiet")
def add(
    at: Annotated[str, typer.Option("--at", metavar="CRON", help='Five fields: "0 3 * * *" is at three; or @daily.')],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[-- RUN OPTIONS]", help="What `orch run` is to be given.")
    ] = None,
    name: NameOption = DEFAULT,
    tz: Annotated[str, typer.Option("--tz", metavar="ZONE", help="Of --at; left out: the machine's.")] = "",
    overlap: Annotated[
        str,
        typer.Option(
            metavar="|".join(OVERLAPS),
            help="If a run is still going on: leave this one out, begin it after that one, or end that one first.",
            autocompletion=lambda: list(OVERLAPS),
        ),
    ] = SKIP,
    catch_up: Annotated[
        str, typer.Option("--catch-up", metavar="TIME", help="Begin it up to so much later, if nobody could in time.")
    ] = "",
    catch_up_all: Annotated[
        bool, typer.Option("--catch-up-all", help="Each that was missed; else only the latest.")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--new/--continue", help="Begin a new run each time, or go on with the last.")
    ] = True,
    watch: Annotated[
        bool, typer.Option("--watch", help="Say so if it was not started, even if orch is broken.")
    ] = False,
    watch_after: Annotated[
        str, typer.Option("--watch-after", metavar="TIME", help="How long after it was due; 15m. With --watch.")
    ] = "",
    systemd: Annotated[bool, typer.Option("--systemd", help="By a timer of systemd, not by cron.")] = False,
    project: ProjectOption = None,
) -> None:
    """Have a run begin whenever it is due."""
    root = root_of(project)
    settings = settings_of(root)
    _check_options(root, list(options or ()), settings.params)
    noticed = _duration("--watch-after", watch_after or "15m", least=60) if watch or watch_after else 0.0
    schedule = Schedule(
        name, " ".join(at.split()), tz=_zone(tz), overlap=overlap, catch_up=_duration("--catch-up", catch_up),
        catch_up_all=catch_up_all, anew=anew, options=tuple(options or ()), watch=noticed, systemd=systemd,
    )  # fmt: skip
    first, notes = scheduling.add(root, settings, schedule, os.environ)
    show(f"{name}: {in_words(at)} ({_where(schedule)}); first {_when(schedule, first)}")
    for note in notes:
        tell(note)


def _duration(option: str, text: str, least: float = 0.0) -> float:
    try:
        found = seconds(text) if text else 0.0
    except ValueError as error:
        raise UsageError(f"{option}: {error}", f"as in {option} 6h") from None
    if found < least:
        raise UsageError(f"{option}: {text} is less than {span(least)}", "cron looks once a minute")
    return found


def _zone(given: str) -> str:
    """$TZ holds for this shell; so that it holds wherever the schedule is read, it is kept by name."""
    name = given or os.environ.get("TZ", "").removeprefix(":")
    return str(clock.zone(name)) if name else ""


def _check_options(root: Any, words: list[str], known: Any) -> None:
    """Now, while somebody sees it, and not in the night: as `orch run` would read them."""
    for word, remedy in _NOT_HERE.items():
        if word in words:
            raise UsageError(f"{word} cannot be an option of a run that begins by itself", remedy)
    given = parsed(words)
    settings_of(root, {"jobs": given["jobs"]})
    params_for(known, State(), scheduled(given, new=True, meets=lambda state: Met()))


_BEFORE = "say it before the --"
_NOT_HERE = {
    "--new": f"{_BEFORE}; it is so unless --continue is given",
    "--continue": _BEFORE,
    "--watch": _BEFORE,
    "--dry-run": "`orch run --dry-run` shows now what it would do",
    "--json": "leave it out: nobody reads it; `orch status --json` shows how it stands",
    "--project": f"{_BEFORE}: orch cron add --project DIR",
    "--help": "`orch run --help` lists the options of a run",
}


@app.command("list", cls=Command, epilog="Example: orch cron list --json")
def list_all(as_json: JsonOption = False, project: ProjectOption = None) -> None:
    """Every schedule: when, what happens where runs meet, when next, and whether something will begin it."""
    root = root_of(project)
    found, wrong = scheduling.standing(root)
    records = _records(root / "system")
    for error in wrong:
        tell(f"{error.message}; {error.remedy}")
    if as_json:
        show_json([document(one, records.get(one.schedule.name, ())) for one in found])
    elif found:
        show("\n".join(line for one in found for line in lines(one, records.get(one.schedule.name, ()))))
    elif not wrong:
        show("no schedules yet; " + EXAMPLE[:1].lower() + EXAMPLE[1:])


def _records(system: Path) -> dict[str, list[dict[str, Any]]]:
    """Where the state is damaged, when the next is due can be said all the same."""
    try:
        return read_state(system).state.schedules
    except StateDamaged as error:
        tell(f"{error.message}; {error.remedy}")
        return {}


def document(one: Standing, records: Records) -> dict[str, Any]:
    schedule = one.schedule
    return {
        "name": schedule.name, "at": schedule.at, "words": in_words(schedule.at), "zone": one.zone,
        "overlap": schedule.overlap, "catch_up_seconds": schedule.catch_up, "catch_up_all": schedule.catch_up_all,
        "new": schedule.anew, "options": list(schedule.options), "watch_seconds": schedule.watch,
        "by": "systemd" if schedule.systemd else "cron", "since": schedule.since, "next": iso(one.next),
        "is_installed": not one.fault, "fault": one.fault or None, "last": records[-1] if records else None,
    }  # fmt: skip


def lines(one: Standing, records: Records) -> list[str]:
    schedule = one.schedule
    policy = ["a new run" if schedule.anew else "goes on with the last run", f"overlap {schedule.overlap}"]
    if schedule.catch_up:
        which = "all" if schedule.catch_up_all else "the latest"
        policy.append(f"catches up with {which} for {span(schedule.catch_up)}")
    if schedule.watch:
        policy.append(f"watched after {span(schedule.watch)}")
    policy += [f"orch run {' '.join(schedule.options)}"] if schedule.options else []
    told = [
        f"{schedule.name}: {in_words(schedule.at)} ({_where(schedule)})",
        f"    {'; '.join(policy)}",
        f"    next {_when(schedule, one.next)}",
    ]
    if records:
        told.append(f"    last {record_line(records[-1], clock.zone(schedule.tz))}")
    return [*told, f"    nothing begins it: {one.fault}"] if one.fault else told


@app.command("next", cls=Command, epilog="Example: orch cron next --count 5")
def show_next(
    name: Annotated[str | None, NameArgument] = None,
    count: Annotated[int, typer.Option("--count", metavar="N", help="How many of each.", min=1, max=10_000)] = 3,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """The next instants: in the zone of the schedule, and in UTC."""
    root = root_of(project)
    chosen = [read(root / "system", name)] if name else [one.schedule for one in scheduling.standing(root)[0]]
    found = sorted((at, one.name, one) for one in chosen for at in scheduling.instants(one, count))
    if as_json:
        show_json([{"name": each, "due": iso(at), "local": _local(one, at).isoformat()} for at, each, one in found])
        return
    width = max((len(one.name) for one in chosen), default=0)
    for at, each, one in found:
        show(f"{each:<{width}}  {_local(one, at):%a %Y-%m-%d %H:%M %Z}  {iso(at)[:16]}Z")
    if not found:
        tell("no schedules yet")


@app.command("remove", cls=Command, epilog="Example: orch cron remove night")
def remove(name: Annotated[str, NameArgument] = DEFAULT, project: ProjectOption = None) -> None:
    """Take it away; the crontab, or systemd, is as it was before."""
    for note in scheduling.remove(root_of(project), name):
        tell(note)
    show(f"{name}: removed; a run that is active goes on")


@app.command("fire", cls=Command, hidden=True, epilog="Example: orch cron fire default")
def fire(name: Annotated[str, NameArgument], project: ProjectOption = None) -> None:
    """What cron starts: begin what is due of this schedule, and note what became of each instant."""
    raise typer.Exit(fire_what_is_due(name=name, project=project))


def _where(schedule: Schedule) -> str:
    return f"{plain(schedule.at)}, {clock.zone(schedule.tz)}, {'systemd' if schedule.systemd else 'cron'}"


def _local(schedule: Schedule, at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone(clock.zone(schedule.tz))


def _when(schedule: Schedule, at: float) -> str:
    return f"{_local(schedule, at):%a %Y-%m-%d %H:%M %Z}, in {span(at - clock.now())}"
