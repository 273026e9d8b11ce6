"""Puts the rivals where they can be measured: each in an environment of its own by venv and pip, byte-compiled."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bench.measuring import environment
from bench.tools import Tool, is_there, places, programs_of


def ready(tools: Iterable[Tool], home: Path) -> tuple[list[tuple[Tool, Path]], dict[str, str]]:
    """Where the programs of each are; and of each that cannot be had, why."""
    found, missing = list[tuple[Tool, Path]](), dict[str, str]()
    for tool in tools:
        programs = programs_of(tool, home)
        if not is_there(tool, programs) and (why := _install(tool, programs.parent)):
            missing[tool.name] = why
            print(f"{tool.name} is left out: {why}", file=sys.stderr, flush=True)
            continue
        _once(tool, programs, home)
        found.append((tool, programs))
    return found, missing


def version_of(tool: Tool, programs: Path) -> str:
    """As its package says, or as it says itself."""
    if tool.packages:
        package = tool.packages.split()[0].partition("[")[0]
        argv = [str(programs / "python"), "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    elif tool.name == "make":
        argv = ["make", "--version"]
    else:
        return ""
    said = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment()).stdout
    return said.partition("\n")[0].rpartition(" ")[2].strip()


def _install(tool: Tool, where: Path) -> str:
    """Empty, or why not."""
    if not tool.packages:
        return "it is not on this machine"
    print(f"{tool.name} is being installed", file=sys.stderr, flush=True)
    pip = (str(where / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check")
    for argv in ((sys.executable, "-m", "venv", str(where)), (*pip, *tool.packages.split())):
        ended = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment())
        if ended.returncode:
            return (ended.stderr or ended.stdout).strip().rpartition("\n")[
                2
            ] or f"{argv[0]} ended with {ended.returncode}"
    return "" if is_there(tool, where / "bin") else "its package has no such program"


def _once(tool: Tool, programs: Path, home: Path) -> None:
    mark = home / f"{tool.key}-is-ready"
    if not tool.once or mark.exists():
        return
    known = places(programs, home, home, 2)
    argv = [word.format_map(known) for word in tool.once.split()]
    environ = environment(**tool.environment(known))
    if subprocess.run(argv, capture_output=True, check=False, env=environ).returncode == 0:
        mark.touch()
