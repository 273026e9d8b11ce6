"""Phase -4: which settings hold for this project, and whether a run that cron starts would find what it needs."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator import ConfigurationFault, Context, config, phase
from orchestrator.core.setting import BY_NAME
from orchestrator.errors import SettingsError

CRON_PATH = "/usr/bin:/bin"
DAY = 86400.0
VARIABLES = {f"ORCH_{name.upper()}" for name in BY_NAME if "." not in name}
MATTERING = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "TZ")


@phase(-4, needs=[-8], timeout="60s", retries=0)
def settings(ctx: Context) -> dict[str, Any]:
    """Read the settings; compare this environment with cron's."""
    found = read(ctx.project, os.environ)
    ctx.progress(1, 2, "settings read")
    cron = as_cron_would(os.environ)
    figures = {
        "settings": {row.name: f"{row.value} ({row.origin})" for row in config.describe(found)},
        **numbers(found),
        **of_environment(os.environ, cron),
    }
    noted = [*risky(found, figures["cores"]), *missing_for_cron(figures)]
    return {"verdict": verdict(found, figures), "figures": figures, "warnings": noted}


def read(project: Path, environ: Mapping[str, str]) -> config.Settings:
    """As the run itself has read them, but for the flags of its command line."""
    try:
        return config.settings(project, {}, environ)
    except SettingsError as error:
        raise ConfigurationFault(f"{error.message}; {error.remedy}") from error


def verdict(found: config.Settings, figures: dict[str, Any]) -> str:
    changed = len(found.origins)
    said = f"{changed} settings are not the default" if changed else "all settings are the default"
    started = "orch starts" if figures["starts_under_cron"] else "orch does not start"
    return f"{said}; {found.jobs} attempts at once on {figures['cores']} cores; {started} in cron's environment"


def numbers(found: config.Settings) -> dict[str, Any]:
    """What later phases count with."""
    return {
        "jobs": found.jobs,
        "cores": len(os.sched_getaffinity(0)),
        "timeout_seconds": found.timeout,
        "kill_grace_seconds": found.kill_grace,
        "beat_interval_seconds": found.beat_interval,
        "heartbeat_timeout_seconds": found.heartbeat_timeout,
        "logs_of_one_phase_bytes": found.logs_phase_bytes * found.logs_keep,
    }


# Settings that are right each for itself, and still unwise


def risky(found: config.Settings, cores: int) -> Iterator[str]:
    if found.jobs > 4 * cores and "jobs" in found.origins:
        yield f"jobs = {found.jobs} ({found.origins['jobs']}) is more than 4 for each of {cores} cores: all get slow"
    if found.heartbeat_timeout < 10 * found.beat_interval:
        yield f"heartbeat_timeout = {found.heartbeat_timeout:g}s is less than ten beats: being busy looks like a hang"
    if found.kill_grace < 1:
        yield f"kill_grace = {found.kill_grace:g}s leaves a phase no time to end properly"
    if found.timeout > DAY:
        yield f"timeout = {found.timeout / DAY:g} days: a phase that hangs is noticed only then"
    if found.stale_after < found.timeout + found.kill_grace:
        yield f"stale_after = {found.stale_after:g}s is less than timeout and kill_grace: live work may be lost"
    if found.trust:
        yield f"trust = true ({found.origins['trust']}): whoever may write to phases/ runs anything as you"
    for code, rule in found.retry.items():
        if rule.tries > 20:
            yield f"[retry.{code}] tries = {rule.tries}: a fault that lasts is noticed only after all of them"


# What cron would give


def as_cron_would(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a line in a crontab: next to nothing."""
    try:
        person = pwd.getpwuid(os.geteuid())
        home, name = person.pw_dir, person.pw_name
    except KeyError:  # a container may run as a number that nobody has entered
        home, name = environ.get("HOME", "/"), str(os.geteuid())
    return {"HOME": home, "LOGNAME": name, "SHELL": "/bin/sh", "PATH": CRON_PATH}


def of_environment(environ: Mapping[str, str], cron: Mapping[str, str]) -> dict[str, Any]:
    shell = shutil.which("sh", path=CRON_PATH)
    if shell is None or not os.access("/bin/sh", os.X_OK):
        raise ConfigurationFault("there is no /bin/sh: phases that are shell commands cannot run; install dash or bash")
    return {
        "shell": shell,
        "home": environ.get("HOME"),
        "home_of_cron": cron["HOME"],
        "umask": f"{current_umask():03o}",
        "only_here": sorted(name for name in MATTERING if environ.get(name)),
        "settings_only_here": sorted(VARIABLES & environ.keys()),
        "starts_under_cron": starts(cron),
    }


def starts(environ: Mapping[str, str]) -> bool:
    """Whether this Python, called by its path, finds orch without the help of our environment."""
    called = [sys.executable, "-c", "import orchestrator.cli"]
    return subprocess.run(called, env=dict(environ), cwd="/", capture_output=True, timeout=30).returncode == 0


def current_umask() -> int:
    """It can only be read by setting it, except here."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022


def missing_for_cron(figures: dict[str, Any]) -> Iterator[str]:
    home = figures["home"]
    if not home:
        yield f"HOME is not set: programs will not find their settings; cron would give {figures['home_of_cron']}"
    elif not os.path.isdir(home):
        yield f"HOME is {home}, which is no folder"
    if not figures["starts_under_cron"]:
        helped = ", ".join(figures["only_here"]) or "this environment"
        yield f"cron would not find orch (here it is found by {helped}): install it, {sys.executable} -m pip install ."
    for name in figures["settings_only_here"]:
        yield f"{name} is set here, cron would not set it: write it into orch.toml"
    if not int(figures["umask"], 8) & 0o020:
        yield f"the umask is {figures['umask']}: the group may write to new files in phases/, and orch refuses those"
