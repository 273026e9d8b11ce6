"""The same graph as each tool wants to read it: written into the folder in which the tool will run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.graphs import NOTHING, Task
from orchestrator.core.schedule import Schedule
from orchestrator.store import schedules

SCHEDULE = "nightly"


def orch(tasks: Sequence[Task], folder: Path) -> None:
    numbers = {task.name: number for number, task in enumerate(tasks, 1)}
    (folder / "phases").mkdir()
    (folder / "orch.toml").write_text("")
    (folder / "phases" / "all.toml").write_text(
        "\n".join(
            f'[[phase]]\nnumber = {number}\nname = "{task.name}"\n'
            f"needs = {[numbers[need] for need in task.needs]}\nrun = {json.dumps(task.argv)}\n"
            for number, task in enumerate(tasks, 1)
        )
    )
    now = datetime.now(UTC)
    at = f"0 {(now + timedelta(hours=12)).hour} * * *"
    schedules.write(folder / "system", Schedule(SCHEDULE, at, tz="UTC", since=f"{now:%Y-%m-%dT%H:%M:%SZ}"))


def graph(tasks: Sequence[Task], folder: Path) -> None:
    """For floor.py and whatever in flows/ is Python."""
    (folder / "graph.json").write_text(json.dumps(tasks))


def make(tasks: Sequence[Task], folder: Path) -> None:
    """A task is done when its file is there; a lone `touch` costs make no shell."""
    rules = [f"{task.name}: {' '.join(task.needs)}\n\t@{_touched(task)}\n" for task in tasks]
    (folder / "Makefile").write_text(f".PHONY: all\nall: {' '.join(task.name for task in tasks)}\n" + "".join(rules))


def ninja(tasks: Sequence[Task], folder: Path) -> None:
    builds = [f"build {task.name}: r {' '.join(task.needs)}\n  cmd = {_touched(task)}\n" for task in tasks]
    (folder / "build.ninja").write_text("rule r\n  command = $cmd\n" + "".join(builds))


def gotask(tasks: Sequence[Task], folder: Path) -> None:
    lines = ["version: '3'", "tasks:", f"  default: {{deps: [{', '.join(task.name for task in tasks)}]}}"]
    for task in tasks:
        lines += [
            f"  {task.name}:", "    run: once", f"    deps: [{', '.join(task.needs)}]", f"    generates: [{task.name}]",
            f"    status: ['test -f {task.name}']", f"    cmds: ['{shlex.join(task.argv)}', 'touch {task.name}']",
        ]  # fmt: skip
    (folder / "Taskfile.yml").write_text("\n".join(lines) + "\n")


def _touched(task: Task) -> str:
    touch = f"touch {task.name}"
    return touch if task.argv == NOTHING else f"{shlex.join(task.argv)} && {touch}"
