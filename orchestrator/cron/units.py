"""Service and timer of a schedule, for systemd: written, checked by it, and enabled where it is there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from pathlib import Path

from orchestrator import disk, process
from orchestrator.config import Settings
from orchestrator.core.covering import calendar_lines
from orchestrator.core.schedule import Schedule
from orchestrator.cron import scripts
from orchestrator.errors import UsageError

OF_ROOT = Path("/etc/systemd/system")
RUNNING = Path("/run/systemd/system")  # there while systemd is the first process
LINGERING = Path("/var/lib/systemd/linger")
PATIENCE = 60.0
ROOM = 30.0  # seconds that orch may take to end, beyond the grace of what it ends
_WATCH = "-watch"


def folder() -> Path:
    if os.geteuid() == 0:
        return OF_ROOT
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def stem_of(root: Path, name: str) -> str:
    """A project's folder may be called like another's: its path tells them apart."""
    short = re.sub(r"[^A-Za-z0-9_]+", "_", root.name)[:40] or "project"
    return f"orch-{short}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}-{name}"


def paths_of(root: Path, name: str) -> list[Path]:
    """All that may be there for it."""
    stem = stem_of(root, name)
    return [folder() / f"{stem}{part}{kind}" for part in ("", _WATCH) for kind in (".timer", ".service")]


def texts(
    root: Path, schedule: Schedule, settings: Settings, zone: tzinfo, environ: Mapping[str, str], now: float
) -> dict[Path, str]:
    own, timer, watch, watch_timer = (paths_of(root, schedule.name)[at] for at in (1, 0, 3, 2))
    about = f"orch: schedule {schedule.name} of {_plain(root)}"
    found = {
        own: _text(
            Unit={"Description": about},
            Service={
                "Type": "notify",
                "NotifyAccess": "main",
                "ExecStart": " ".join(map(_argument, scripts.fire(root, schedule.name))),
                "WorkingDirectory": _plain(root),
                "Environment": [_quoted(f"{name}={value}") for name, value in scripts.environment(environ).items()],
                "UMask": "0077",
                "TimeoutStartSec": "infinity",  # it may have to wait for a run before it
                "WatchdogSec": f"{settings.heartbeat_timeout:g}",
                "KillMode": "mixed",  # orch is asked and ends its own; what is left after that is killed
                "TimeoutStopSec": f"{settings.kill_grace + ROOM:g}",
            },
        ),
        timer: _text(
            Unit={"Description": f"{about}: {_plain(schedule.at)}"},
            Timer={
                "OnCalendar": calendar_lines(schedule, zone, now),
                "AccuracySec": "1s",
                "Persistent": "true" if schedule.catch_up else "false",
            },
            Install={"WantedBy": "timers.target"},
        ),
    }
    if schedule.watch:
        script = str(scripts.script_of(root, schedule.name, scripts.WATCH))
        found[watch] = _text(
            Unit={"Description": f"{about}: was it started?"},
            Service={"Type": "oneshot", "ExecStart": f"/bin/sh {_argument(script)}"},
        )
        found[watch_timer] = _text(
            Unit={"Description": f"{about}: was it started?"},
            Timer={"OnCalendar": "*:0/5"},
            Install={"WantedBy": "timers.target"},
        )
    return found


def install(units: Mapping[Path, str]) -> Iterator[str]:
    """What is to be said of it: commands for where systemd is not there, and what it has against them."""
    try:
        disk.make_folder(folder())
        for path, text in units.items():
            disk.replace(path, text.encode("utf-8", "surrogateescape"), durable=True)
            os.chmod(path, 0o644)
    except OSError as error:
        for path in filter(os.path.lexists, units):
            path.unlink()
        raise UsageError(f"{error.filename}: {error.strerror}", "check the folder of the units") from error
    yield from _verify(list(units))
    timers = [path.name for path in units if path.suffix == ".timer"]
    yield from _systemctl(["daemon-reload"], ["enable", "--now", *timers])
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or ""
    if os.geteuid() != 0 and not (LINGERING / user).is_file():
        yield "timers of a user stand still while nobody is logged in: `loginctl enable-linger` lets them go on"


def _verify(units: list[Path]) -> Iterator[str]:
    """What systemd itself says of them."""
    user = [] if os.geteuid() == 0 else ["--user"]
    try:
        answer = process.consult(("systemd-analyze", *user, "verify", *map(str, units)), PATIENCE)
    except OSError:
        yield "systemd-analyze is not here, so nothing has checked the units"
        return
    said = [line for line in answer.err.decode("utf-8", "replace").splitlines() if any(u.stem in line for u in units)]
    yield from (f"systemd-analyze says: {line}" for line in said)


def uninstall(root: Path, name: str) -> tuple[bool, list[str]]:
    """Whether there were any, and what is to be said."""
    found = [path for path in paths_of(root, name) if os.path.lexists(path)]
    if not found:
        return False, []
    timers = [path.name for path in found if path.suffix == ".timer"]
    said = list(_systemctl(["disable", "--now", *timers])) if timers else []
    for path in found:
        try:
            disk.remove(path)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", "take the file away by hand") from error
    return True, [*said, *_systemctl(["daemon-reload"])]


def _systemctl(*commands: list[str]) -> Iterator[str]:
    user = [] if os.geteuid() == 0 else ["--user"]
    typed = [" ".join(["systemctl", *user, *command]) for command in commands]
    if not RUNNING.is_dir():
        yield f"systemd is not running here; where it is: {' && '.join(typed)}"
        return
    for command, line in zip(commands, typed, strict=True):
        try:
            answer = process.consult(("systemctl", *user, *command), PATIENCE)
            if answer.code == 0:
                continue
            said = answer.complaint
        except OSError as error:
            said = str(error.strerror)
        yield f"`{line}` failed ({said}): do it by hand"
        return


def fault(root: Path, schedule: Schedule) -> str:
    """What is missing for its timer to begin anything; empty: nothing is."""
    service, timer = paths_of(root, schedule.name)[1::-1]
    missing = [path.name for path in (timer, service) if not path.is_file()]
    if missing:
        return f"{' and '.join(missing)} not in {folder()}"
    if not RUNNING.is_dir():
        return "systemd is not running here"
    user = [] if os.geteuid() == 0 else ["--user"]
    try:
        answer = process.consult(("systemctl", *user, "is-active", timer.name), PATIENCE)
    except OSError as error:
        return f"systemctl: {error.strerror}"
    return "" if answer.code == 0 else f"{timer.name} is {answer.out.decode().strip() or 'not active'}"


def _text(**sections: Mapping[str, str | list[str]]) -> str:
    lines = ["# Made by `orch cron add`; `orch cron remove` takes it away."]
    for section, keys in sections.items():
        lines += ["", f"[{section}]"]
        for key, value in keys.items():
            lines += [f"{key}={one}" for one in ([value] if isinstance(value, str) else value)]
    return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    """% begins a specifier of systemd's."""
    return str(value).replace("%", "%%")


def _quoted(value: str) -> str:
    return '"' + _plain(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _argument(value: str) -> str:
    """Of a command: there $ begins a variable."""
    return _quoted(value).replace("$", "$$")
