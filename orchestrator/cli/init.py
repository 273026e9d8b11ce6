"""orch init: a project to begin with, that runs at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.frame import show
from orchestrator.errors import UsageError

EXAMPLE = "Example: orch init nightly && cd nightly && orch run"

PHASES = {
    "p01_fetch.toml": """# Commands need no Python: any program is a phase.
[[phase]]
number = 1
name = "fetch"
title = "Fetch something to work on"
run = "printf 'one\\\\ntwo\\\\nthree\\\\n' > words.txt"
timeout = "1m"
needs = []
""",
    "p02_count.py": '''"""Count the words that phase 1 fetched."""

from orchestrator import Context, phase


@phase(2, needs=[1], timeout="1m")
def count(ctx: Context) -> dict:
    """Count the words."""
    lines = ctx.path("words.txt").read_text().splitlines()
    for line in ctx.track(lines):  # progress, and the phase's own heartbeat
        print("a word:", line)
    return {"verdict": f"{len(lines)} words", "words": len(lines)}
''',
}
SETTINGS = """# `orch config show` lists every setting, what it means, and where its value comes from.
# timeout = "1h"
# jobs = 4
"""
IGNORED = "/system/*\n"


def command(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; this folder if left out.")] = Path("."),
) -> None:
    """Make a small project: two phases, and the settings to change."""
    phases = folder / "phases"
    if phases.exists():
        raise UsageError(f"{phases} exists already", "add a file to it; `orch plan` shows what would run")
    try:
        phases.mkdir(parents=True, mode=0o755)
        phases.chmod(0o755)
        for name, text in PHASES.items():
            _write(phases / name, text)
        for name, text in (("orch.toml", SETTINGS), (".gitignore", IGNORED)):
            if not (folder / name).exists():
                _write(folder / name, text)
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}", "choose a folder that can be written") from error
    here = "" if folder == Path(".") else f"cd {folder} && "
    show(f"made {', '.join(f'{phases / name}' for name in PHASES)}\nnext: {here}orch plan; orch run; orch status")


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)
