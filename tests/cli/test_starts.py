"""What the commands cost that cron and people start all day, where there is nothing to do: counted, for seconds depend on who else is busy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from orchestrator.core.names import iso
from orchestrator.core.schedule import Schedule
from orchestrator.store import schedules
from tests.driving import Project
from tests.warm import PACKAGE

# Each of them costs about as much as all that such a start does.
HEAVY = frozenset(
    "pydantic pydantic_core typer click rich tenacity psutil filelock cronsim apprise asyncio concurrent.futures ssl http email"
    " subprocess multiprocessing logging inspect dataclasses tokenize traceback importlib.metadata unittest ctypes socket threading"
    " statistics decimal random secrets shutil tempfile html urllib.request string tomllib sqlite3 xml zipfile".split()
)
COMMANDS = {  # how many modules of our own each may load, and how many of Python's, which differ from release to release
    "--version": (38, 70),
    "status": (83, 72),
    "status --json": (83, 72),
    "run": (106, 72),
    "run --quiet --jobs 2": (106, 72),
    "cron fire night": (120, 82),
}
_SCRIPT = """
import os, sys
before = {*sys.modules}
sys.argv = ["orch", *sys.argv[2:]] if len(sys.argv) > 2 else ["orch"]
code = 0
try:
    from orchestrator.cli.main import main
    main()
except SystemExit as end:
    code = end.code
loaded = {*sys.modules} - before
threads = os.listdir("/proc/self/task")
children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
import json
with open(os.environ["REPORT"], "w") as report:
    json.dump([code, sorted(loaded), len(threads), children], report)
"""


LEFT = (
    "asks/0.json", "asks/0.taken", "journal/.x.new", "agents/a1/identity.json", "backup/checkpoints/rollback.json",
    "outbox/new/x",
)  # fmt: skip


class Cost(NamedTuple):
    code: int
    modules: list[str]
    threads: int
    children: list[str]


@pytest.fixture
def rests(project: Project) -> Project:
    """A project in which all is done and nothing due, with settings and files of its own."""
    project.settings('timeout = "2m"\n[params]\nyear = 2024\n[pools]\ndisk = 1\n')
    project.file("data.csv", "1\n")
    project.commands(
        {"number": 1, "name": "one", "run": "echo made > made.txt", "inputs": ["data.csv"], "outputs": ["made.txt"]},
        {"number": 2, "name": "two", "run": "true", "pools": {"disk": 1}},
    )
    assert project.orch("run").code == 0
    project.assert_nothing_left()  # its agent takes its folder with it
    time.sleep(0.1)  # a file that changed just now could change again unseen: what is in it is not remembered yet
    assert project.orch("run").code == project.orch("run", "--jobs", "2").code == 0
    since = iso(schedules.path_of(project.system, "any").parents[1].stat().st_mtime)
    schedules.write(project.system, Schedule("night", "0 0 29 2 *", tz="UTC", since=since))
    assert project.orch("cron", "fire", "night").code == 0
    return project


def cost_of(project: Project, command: str) -> Cost:
    report = project.scratch / "report"
    words = [sys.executable, "-c", _SCRIPT, "orch", *command.split()]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": PACKAGE, "REPORT": str(report)}
    subprocess.run(words, cwd=project.root, env=environ, capture_output=True, timeout=30, check=True)
    return Cost(*json.loads(report.read_text()))


def heavy(cost: Cost) -> set[str]:
    return HEAVY & {*cost.modules}


def all_in(folder: Path) -> dict[str, Any]:
    found = {str(path): path.lstat() for path in [folder, *folder.rglob("*")]}
    return {path: (one.st_ino, one.st_size, one.st_mode, one.st_mtime_ns, one.st_nlink) for path, one in found.items()}


def test_where_there_is_nothing_to_do_little_is_loaded_and_nothing_left_behind(rests: Project) -> None:
    """Neither a process nor a thread nor a file, not even a time at one."""
    before, running = all_in(rests.root), rests.own_processes()
    for command, (most_own, most_others) in COMMANDS.items():
        cost = cost_of(rests, command)
        assert cost.code == 0 and heavy(cost) == set(), command
        own = [name for name in cost.modules if name.partition(".")[0] == "orchestrator"]
        others = len(cost.modules) - len(own)
        assert len(own) <= most_own and others <= most_others, (command, len(own), others)
        assert cost.threads == 1 and cost.children == [], command
        assert all_in(rests.root) == before and rests.own_processes() == running, command


def test_the_count_sees_what_is_loaded_and_what_is_left(rests: Project) -> None:
    """By commands that do load it, and leave something."""
    assert {"typer", "pydantic", "inspect"} <= heavy(cost_of(rests, "history"))
    before = all_in(rests.root)
    assert heavy(cost_of(rests, "run --new")) >= {"filelock", "logging"}
    rests.assert_nothing_left()
    assert all_in(rests.root) != before


def test_settings_that_nobody_has_checked_yet_are_checked_once(rests: Project) -> None:
    rests.settings('timeout = "3m"\n')
    assert heavy(cost_of(rests, "cron fire night")) >= {"pydantic", "tomllib"}
    assert heavy(cost_of(rests, "cron fire night")) == heavy(cost_of(rests, "run")) == set()


def test_whatever_somebody_left_is_for_who_takes_the_lock(rests: Project) -> None:
    """Of a project that does not rest nothing is said without looking at it properly."""
    for left in LEFT:
        path = rests.system / left
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        assert "filelock" in heavy(cost_of(rests, "run --quiet")), left
        path.unlink(missing_ok=True)


def test_damage_is_seen_and_mended_where_there_is_nothing_to_do(rests: Project) -> None:
    for damaged in ("journal/000000000001.jsonl", "state.json"):
        path = rests.system / damaged
        data = path.read_bytes()
        path.write_bytes(data[:100] + b"x" + data[101:])
        ended = rests.orch("run")
        assert ended.code == 0 and "proves the state" in ended.err, ended
        assert "filelock" not in heavy(cost_of(rests, "run --quiet")), damaged


def test_an_agent_is_begun_ahead_only_where_it_is_sure_to_be_needed(project: Project) -> None:
    project.file("data", "1")
    project.commands({"number": 1, "run": "tr '\\0' ' ' < /proc/$PPID/cmdline > agent", "inputs": ["data"]})
    ahead = list[bool]()
    for words in ("run", "run --new", "run"):
        project.file("data", words + str(len(ahead)))
        assert project.orch(*words.split()).code == 0
        project.assert_nothing_left()
        ahead.append("--agent " not in (project.root / "agent").read_text())
    assert ahead == [True, True, False]
    project.file("phases/wrong.toml", "[[phase]]\nnumber = 'x'\n")
    assert project.orch("run", "--new").code == 2
    project.assert_nothing_left()
    assert not any((project.system / "agents").iterdir())
