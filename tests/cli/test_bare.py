"""orch as cron starts it: hardly an environment, no terminal, no input, wherever its output goes, from anywhere."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from tests.driving import ORCH, PACKAGE, Ended, Project

GOOD = {"number": 1, "name": "good", "run": "echo made; umask"}
BAD = {"number": 2, "name": "bad", "needs": [], "run": "echo oh no; exit 3", "retries": 0}
CLOSED = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")
LOOKS = (
    "status", "status --json", "logs 1", "history", "recover", "fsck", "config show", "config check", "health", "plan",
    "story 1",
)  # fmt: skip


class Cron:
    """`sh -c` with next to nothing in its environment, in /."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def __call__(self, words: str, how: str = "", umask: str = "077") -> Ended:
        bare = ["/usr/bin/env", "-i", "PATH=/usr/bin:/bin", f"HOME={self.project.scratch}", f"PYTHONPATH={PACKAGE}"]
        line = f"umask {umask}; {' '.join(ORCH)} {words} --project {self.project.root} {how}"
        ended = subprocess.run(
            [*bare, "/bin/sh", "-c", line], cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
            check=False, preexec_fn=os.setsid,
        )  # fmt: skip
        return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


@pytest.fixture
def cron(project: Project) -> Iterator[Cron]:
    project.commands(GOOD)
    yield Cron(project)
    assert not list(project.system.glob("logs/fault_*"))
    project.assert_nothing_left()


def test_a_run_that_succeeds_is_silent_and_keeps_its_files_to_itself(cron: Cron) -> None:
    assert cron("run --quiet", umask="000") == (0, "", "")
    assert cron("run --quiet") == (0, "", "")  # nothing to do
    assert cron("run --quiet --new", "<&-") == (0, "", "")
    cron.project.assert_nothing_left()  # the agent takes its folder with it
    for path in cron.project.system.rglob("*"):
        if path.name not in ("README.md", ".gitignore"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert cron("logs 1").out == "made\n0077\n"


def test_a_run_that_fails_says_so_on_standard_error(cron: Cron) -> None:
    cron.project.commands(GOOD, BAD)
    ended = cron("run --quiet")
    assert (ended.code, ended.out) == (1, "")
    assert "2 bad  FAILED: exit status 3" in ended.err
    assert "oh no" in ended.err
    for how in (CLOSED[-1], ">/dev/full 2>&1"):
        assert cron("run --quiet", how).code == 1, how
    cron.project.file("orch.toml", "jobs = true")
    assert cron("run --quiet").code == 2


@pytest.mark.parametrize("how", CLOSED)
def test_a_run_does_not_care_which_of_its_descriptors_are_closed(cron: Cron, how: str) -> None:
    ended = cron("run", how)
    assert ended.code == 0, ended
    state = cron.project.state()
    assert state["phases"]["1"]["status"] == "completed"
    log = (cron.project.system / "logs/phases/1/1.log").read_text()
    assert log == "made\n0077\n"


def test_output_that_nobody_reads_or_that_finds_no_room_does_not_end_a_run(cron: Cron) -> None:
    assert cron("run", ">/dev/full; echo $?") == (0, "0\n", "")
    assert cron("run --new", "| :").code == 0
    assert cron.project.state()["phases"]["1"]["attempt"] == 2


def test_every_look_works_there_too(cron: Cron) -> None:
    assert cron("run --quiet").code == 0
    for look, how in zip(LOOKS, cycle(("", *CLOSED)), strict=False):
        ended = cron(look, how)
        assert (ended.code, ended.err) == (0, ""), (look, how, ended)
        assert ended.out or ">" in how, (look, how)


def test_from_another_folder_the_project_is_where_it_was(cron: Cron) -> None:
    outside = cron.project.scratch
    ended = Cron(cron.project)("run --quiet")
    assert ended.code == 0
    assert not list(Path(outside).glob("system*"))
    assert not Path("/system").exists()
