"""Logs that others rotate while a run goes on: nothing fails, and nothing is lost but what they took away."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.driving import Project, wait_for

# A line for each file that appears: what is said comes when the test wants it.
SPEAKS = "n=0; while [ $n -lt 40 ]; do until test -e go$n; do sleep 0.01; done; echo line $n; n=$((n+1)); done"
EACH = 10


class Speaking:
    """A phase that says ten lines when it is told to."""

    def __init__(self, project: Project) -> None:
        self.project, self.said = project, 0
        project.commands({"number": 1, "run": SPEAKS})
        self.logs = project.system / "logs"
        self.log = self.logs / "phases/1/1.log"
        self.run = project.start("run")
        self.run.until(self.log.exists)
        self.follow = project.start("logs", "1", "-f")

    def say(self) -> None:
        for number in range(self.said, self.said + EACH):
            self.project.file(f"go{number}", "")
        self.said += EACH
        self.follow.wait_for(f"line {self.said - 1}\n")

    def end(self) -> None:
        while self.said < 40:
            self.say()
        assert self.run.wait().code == 0, self.run.text
        assert self.follow.wait().code == 0, self.follow.text
        assert numbers(self.follow.out) == list(range(40))
        self.project.assert_nothing_left()


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"^line (\d+)$", text, re.M)]


def moved(path: Path) -> None:
    path.rename(path.with_name(path.name + ".1"))


def moved_and_made(path: Path) -> None:
    moved(path)
    path.touch(0o600)


def copied_and_cut(path: Path) -> None:
    shutil.copy2(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)


def packed(path: Path) -> None:
    path.with_name(path.name + ".1.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.with_name(path.name + ".1.gz").chmod(0o600)
    path.unlink()


@pytest.mark.parametrize("rotate", [moved, moved_and_made, copied_and_cut, packed])
def test_what_is_rotated_from_outside_is_all_there(project: Project, rotate: Callable[[Path], None]) -> None:
    speaking = Speaking(project)
    speaking.say()
    rotate(speaking.log)
    speaking.say()
    for name in ("structured_execution.jsonl", "orchestrator.log"):
        rotate(speaking.logs / name)
    speaking.end()
    assert numbers(project.orch("logs", "1").out) == list(range(40))
    assert b"run_end" in (speaking.logs / "structured_execution.jsonl").read_bytes()
    assert project.orch("fsck").code == 0


def removed(path: Path) -> None:
    path.unlink()


def folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


def all_removed(path: Path) -> None:
    shutil.rmtree(path.parents[2])


@pytest.mark.parametrize("rotate", [removed, folder_removed, all_removed])
def test_what_is_removed_is_lost_and_nothing_else(project: Project, rotate: Callable[[Path], None]) -> None:
    speaking = Speaking(project)
    speaking.say()
    rotate(speaking.log)
    speaking.end()
    assert numbers(project.orch("logs", "1").out) == list(range(EACH, 40))
    for look in (["status"], ["history"], ["recover"], ["fsck"]):
        assert project.orch(*look).code == 0, look
    rotate(speaking.log)
    told = project.orch("logs", "1")
    assert told.code == 2
    assert "phase 1 has no log any more" in told.err


def test_a_pipe_in_the_place_of_a_log_makes_nobody_wait(project: Project) -> None:
    speaking = Speaking(project)
    speaking.say()
    speaking.log.unlink()
    os.mkfifo(speaking.log)
    for number in range(40):
        project.file(f"go{number}", "")
    assert speaking.run.wait().code == 0
    speaking.follow.wait()
    wait_for(lambda: not project.processes())


def test_a_large_log_is_compressed_when_its_attempt_is_over(project: Project) -> None:
    project.settings("[logs]\nphase_bytes = 20000\nstructured_bytes = 1000\n")
    project.commands({"number": 1, "run": "seq 1000000 1002000"}, {"number": 2, "run": "true"})
    assert project.orch("run").code == 0
    log = project.orch("logs", "1")
    (project.system / "logs/.archived").unlink()
    assert project.orch("run", "--new").code == 0
    files = sorted(path.name for path in (project.system / "logs/phases/1").iterdir())
    assert files == ["1.log", "1.log.1.gz", "2.log", "2.log.1"]
    assert list((project.system / "logs").glob("structured_execution.jsonl.*.gz"))
    assert project.orch("logs", "1", "--attempt", "1").out == log.out
    assert "1002000" in log.out


def test_old_logs_go(project: Project) -> None:
    project.commands({"number": 1, "run": "echo one"})
    assert project.orch("run").code == 0
    log = project.system / "logs/phases/1/1.log"
    os.utime(log, (1e9, 1e9))
    (project.system / "logs/.archived").unlink()
    assert project.orch("run", "--new").code == 0
    assert not log.exists()
    assert project.orch("logs", "1").out == "one\n"
