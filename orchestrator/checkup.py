"""What there is to be said about the health of a project: gathered without a lock, and nothing is written."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import tzinfo
from pathlib import Path

from orchestrator import clock, process, scheduling
from orchestrator.config import Settings, settings
from orchestrator.core import events as ev
from orchestrator.core.due import LATE, SKIPPED, unsettled
from orchestrator.core.health import AGENTS, HOST, SERVICES, STATE, Finding
from orchestrator.core.item import phase_of
from orchestrator.core.names import epoch, span
from orchestrator.core.plan import NET_MARGIN, READING
from orchestrator.core.schedule import Schedule
from orchestrator.core.state import RunState
from orchestrator.core.table import CANCELLED, FAILED
from orchestrator.errors import OrchError, SettingsError, StateDamaged
from orchestrator.load.loading import glance
from orchestrator.look import Look, known_plan
from orchestrator.secret import resolve
from orchestrator.services.outbox import undelivered
from orchestrator.store.queue import Queue

LITTLE_ROOM, NO_ROOM = 0.05, 0.01  # of the disk
LITTLE_BYTES, NO_BYTES = 1_000_000_000, 50_000_000
OVERDUE = NET_MARGIN + READING  # beyond its deadline and grace: the loop's own net should have ended it
IN_A_ROW = 3  # starts that were left out
UNTOLD = 600.0  # a target that is down for a moment is no news
MOST_FILES = 20_000
NAMED = 5


def findings(root: Path, environ: Mapping[str, str]) -> Iterator[Finding]:
    system = root / "system"
    found: Settings | None = None
    try:
        found = settings(root, {}, environ)
    except SettingsError as error:
        what = f"the next run cannot begin: {error.message.splitlines()[0]}"
        yield Finding(STATE, 20, what, "`orch config check` names every fault")
    yield from _of_definitions(root, trust=found is None or found.trust)
    if found is not None:
        yield from _of_secrets(root, found, environ)
    yield from _bearing(lambda: _of_the_state(root, found))
    yield from _bearing(lambda: _of_notes(system, found))
    yield from _bearing(lambda: _of_the_host(system))


def _bearing(part: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What cannot be looked at is a finding, too."""
    try:
        yield from part()
    except StateDamaged as error:
        what = f"the state is damaged: {error.message.splitlines()[0]}"
        yield Finding(STATE, 40, what, error.remedy, critical=True)
    except (OSError, OrchError) as error:
        why = f"{error.filename or ''}: {error.strerror}" if isinstance(error, OSError) else error.message
        remedy = "run it as the account that the project belongs to, or give it back its modes"
        yield Finding(HOST, 10, f"it cannot be looked at: {why.removeprefix(': ')}", remedy, critical=True)


def _of_the_state(root: Path, found: Settings | None) -> Iterator[Finding]:
    look = Look(root)
    yield from _of_the_run(look)
    yield from _of_schedules(root, look)
    yield from _of_agents(root, look, found)


def _of_secrets(root: Path, found: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Files only: a monitor has another environment than runs, and a command may ask somebody for a password."""
    for name, source in found.secrets.items():
        if source.file:
            try:
                resolve(name, source, root, environ)
            except SettingsError as error:
                yield Finding(STATE, 20, f"the next run cannot begin: {error.message}", error.remedy)


def _of_definitions(root: Path, *, trust: bool) -> Iterator[Finding]:
    faults = glance(root, trust=trust)
    if faults:
        many = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        yield Finding(STATE, 20, f"the next run cannot begin: {faults[0]}{many}", "correct it, then `orch plan`")


def _of_the_run(look: Look) -> Iterator[Finding]:
    state, run = look.state, look.state.run
    ill = [
        number for number, phase in sorted(state.phases.items())
        if phase.planned and phase.status in (FAILED, CANCELLED) and number in run.scope
    ]  # fmt: skip
    if look.is_alive:
        if ill:
            yield Finding(STATE, 10, f"in run {run.id} {_phases(ill)} failed", "`orch status` tells why")
    elif run.verdict in ("failed", "cancelled"):
        whose = f": {_phases(ill)}" if ill else ""
        yield Finding(STATE, 20, f"the last run {run.verdict}{whose}", "`orch status` tells why, `orch run` goes on")
    elif look.run_state == "interrupted":
        yield Finding(STATE, 15, f"run {run.id} was cut off", "`orch run` goes on with it")
    elif look.run_state == "detached":
        what = f"the orchestrator of run {run.id} is gone, its agent works on: nothing is begun after that"
        yield Finding(STATE, 15, what, "`orch run` takes over")


def _of_schedules(root: Path, look: Look) -> Iterator[Finding]:
    known, wrong = scheduling.standing(root)
    for error in wrong:
        yield Finding(STATE, 20, error.message, error.remedy)
    for one in known:
        name = one.schedule.name
        if one.fault:
            again = f"`orch cron remove {name}`, and add it again"
            remedy = again if one.schedule.systemd else f"start cron if it does not run; else {again}"
            yield Finding(SERVICES, 20, f"schedule {name}: {one.fault}", remedy)
        yield from _of_instants(one.schedule, clock.zone(one.schedule.tz), look, clock.now())


def _of_instants(schedule: Schedule, zone: tzinfo, look: Look, now: float) -> Iterator[Finding]:
    records = look.state.schedules.get(schedule.name, [])
    late = [instant for instant in unsettled(schedule, zone, records, now) if now - instant > LATE]
    waiting = Queue(look.system, schedule.name).waiting()
    late = [instant for instant in late if instant != waiting and not _is_in_hand(schedule, look, instant, now)]
    if waiting is not None and not look.is_alive and not look.state.live and now - max(waiting, _ended(look)) > LATE:
        what = f"schedule {schedule.name}: one that waits for its turn does not take it: it was stopped, or hangs"
        yield Finding(STATE, 25, what, f"`pgrep -af 'cron fire {schedule.name}'` finds it: `kill -CONT`, or end it")
    if late:
        what = f"schedule {schedule.name}: nothing began {span(now - late[-1])} ago, when it was due"
        more = f" ({len(late)} instants)" if len(late) > 1 else ""
        yield Finding(STATE, 25, what + more, "`orch cron list` tells whether its entry is there; is cron running?")
    elif records and records[-1]["missed"] and not _is_made_up(look.state.run, epoch(records[-1]["at"])):
        what = f"schedule {schedule.name}: {records[-1]['count']} missed: {records[-1]['why']}"
        yield Finding(STATE, 15, what, "`orch history` lists them; `orch run --new` does the work now")
    elif len(records) >= IN_A_ROW and all(one["how"] == SKIPPED for one in records[-IN_A_ROW:]):
        what = f"schedule {schedule.name}: the last {IN_A_ROW} were left out: {records[-1]['why']}"
        yield Finding(STATE, 10, what, "`orch status` shows what that run waits for; less often, or --overlap queue")


def _is_in_hand(schedule: Schedule, look: Look, instant: float, now: float) -> bool:
    """While a run goes on: it is caught up after it, or, where systemd starts nobody beside it, noted at its end."""
    if not look.is_alive:
        return False
    is_beside = schedule.systemd and instant >= _begun(look.state.run)
    return is_beside or (schedule.catch_up_all and now - instant <= schedule.catch_up)


def _is_made_up(run: RunState, noted: float) -> bool:
    return run.verdict == "completed" and _begun(run) >= noted


def _begun(run: RunState) -> float:
    begun = run.continued_at or run.started_at
    return epoch(begun) if begun else math.inf


def _ended(look: Look) -> float:
    return epoch(look.state.run.finished_at) if look.state.run.finished_at else 0.0


def _of_agents(root: Path, look: Look, found: Settings | None) -> Iterator[Finding]:
    if look.is_alive and look.owner == process.STOPPED and look.state.run.owner:
        what = "the orchestrator was stopped with a signal"
        remedy = f"`kill -CONT {look.state.run.owner.pid}` lets it go on, `orch recover --takeover` ends it"
        yield Finding(AGENTS, 30 if look.is_hung else 15, what, remedy, critical=look.is_hung)
    elif look.is_hung and look.pulse:
        what = f"the orchestrator hangs: its loop has been silent for {span(look.pulse.age)}"
        yield Finding(AGENTS, 30, what, "`orch recover` ends it and collects what it left", critical=True)
    lost = sorted({event.number for event in look.recovered if isinstance(event, ev.PhaseRecovered)})
    if lost:
        what = f"{_phases(lost)} lost with their agent"
        yield Finding(AGENTS, 15, what, "`orch run` goes on, `orch recover` only collects")
    if found is not None and (stuck := _overdue(root, look, found)):
        what = f"{_phases(stuck)} should have been ended long ago"
        yield Finding(AGENTS, 20, what, "`orch cancel` ends the run; `orch story N` tells what was tried")


def _overdue(root: Path, look: Look, found: Settings) -> list[int]:
    """In progress beyond deadline and grace: nobody ends them."""
    specs, now = known_plan(root, found).specs, clock.now()
    late = list[int]()
    for number in sorted(look.state.live):
        spec, started = specs.get(phase_of(number)), look.state.phase(number).started_at
        limit = (spec.timeout if spec else None) or found.timeout
        if started and now - epoch(started) > limit + found.kill_grace + OVERDUE:
            late.append(number)
    return late


def _of_notes(system: Path, found: Settings | None) -> Iterator[Finding]:
    """What people should have been told."""
    untold = undelivered(system, None if found is None else found.notify)
    if untold.waiting and untold.oldest_seconds > UNTOLD:
        why = f": {untold.last_error}" if untold.last_error else ""
        what = f"{_messages(untold.waiting)} for {span(untold.oldest_seconds)}{why}"
        yield Finding(SERVICES, 10, f"undelivered: {what}", "`orch notify test` tries each target now")
    remedy = "`orch notify list` shows them, `orch notify drop` does away with them"
    if untold.stray:
        yield Finding(SERVICES, 5, f"undelivered: {untold.told_of_stray}", remedy)
    if untold.refused:
        why = f": {untold.last_refusal}" if untold.last_refusal else ""
        yield Finding(SERVICES, 5, f"{_messages(untold.refused)} put aside{why}", remedy)


def _messages(many: int) -> str:
    return "1 message" if many == 1 else f"{many} messages"


def _of_the_host(system: Path) -> Iterator[Finding]:
    if not system.is_dir():
        return
    room = os.statvfs(system)
    free, share = room.f_bavail * room.f_frsize, room.f_bavail / max(1, room.f_blocks)
    told = f"{_size(free)} ({100 * share:.1f} %) left where {system} is"
    size = room.f_blocks * room.f_frsize
    if free < min(NO_BYTES, LITTLE_ROOM * size) or (share < NO_ROOM and free < LITTLE_BYTES):
        remedy = "make room: a run stops where it cannot write"
        yield Finding(HOST, 10, f"the disk is full: {told}", remedy, critical=True)
    elif share < LITTLE_ROOM and free < 10 * LITTLE_BYTES:
        yield Finding(HOST, 5, f"the disk is filling up: {told}", "make room")
    if room.f_files and room.f_favail / room.f_files < NO_ROOM:
        yield Finding(HOST, 10, f"{room.f_favail} names of files left where {system} is", "remove files", critical=True)
    if not os.access(system, os.W_OK | os.X_OK):
        remedy = "run it as the account that it belongs to, or give it back its modes"
        yield Finding(HOST, 10, f"{system} cannot be written", remedy, critical=True)
    logs = _bytes_below(system / "logs")
    if logs > free:
        yield Finding(HOST, 5, f"the logs take {_size(logs)}, more than is left", "lower logs.keep or logs.phase_bytes")


def _bytes_below(folder: Path) -> int:
    """As far as that can be counted in a moment."""
    total = seen = 0
    for where, _, names in os.walk(folder):
        for name in names:
            seen += 1
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except OSError:  # rotated away just now
                continue
        if seen > MOST_FILES:
            break
    return total


def _phases(numbers: list[int]) -> str:
    more = f" and {len(numbers) - NAMED} more" if len(numbers) > NAMED else ""
    return f"{'phase' if len(numbers) == 1 else 'phases'} {', '.join(map(str, numbers[:NAMED]))}{more}"


def _size(many: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if many < 1000:
            return f"{many:.0f} {unit}"
        many /= 1000
    return f"{many:.1f} TB"
