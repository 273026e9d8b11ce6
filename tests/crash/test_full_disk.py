"""A real file system under system/ that fills up, runs out of inodes or turns read-only while a pipeline runs."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.driving import Ended, Project, times, wait_for

PHASES = 12
ROUNDS = times(1, 20)
NO_ROOM = 74  # the exit code
ROOMY = "size=16m,nr_inodes=4000,rw"


class Disk:
    """A file system in memory, mounted where the state is kept."""

    def __init__(self, at: Path) -> None:
        self.at = at
        at.mkdir(parents=True, exist_ok=True)
        self._mount("-t", "tmpfs", "-o", ROOMY, "none", str(at))

    def change(self, options: str) -> None:
        self._mount("-o", f"remount,{options}", str(self.at))

    def _mount(self, *words: str) -> None:
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip())

    def end(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.at)], check=True)


@pytest.fixture
def disk(project: Project) -> Iterator[Disk]:
    try:
        made = Disk(project.system)
    except OSError as error:
        pytest.skip(f"nothing may be mounted here: {error}")
    try:
        yield made
    finally:
        made.end()


def pipeline(project: Project) -> None:
    """Each does its work once, and says where it is; it waits while there is a file `wait`."""
    work = "while test -e wait; do sleep 0.02; done; head -c 3000 /dev/zero | tr '\\0' x; echo {0} >> ran"
    project.commands(
        *({"number": n, "name": f"p{n}", "run": work.format(n), "needs": []} for n in range(1, PHASES + 1))
    )


def used(disk: Disk) -> tuple[int, int]:
    """Bytes and inodes."""
    told = os.statvfs(disk.at)
    return (told.f_blocks - told.f_bfree) * told.f_frsize, told.f_files - told.f_ffree


def as_full_as_it_gets(disk: Disk) -> str:
    return f"size={used(disk)[0]}"


def without_another_inode(disk: Disk) -> str:
    return f"nr_inodes={used(disk)[1]}"


def nearly_full(disk: Disk) -> str:
    """So that it fills up later, wherever that is."""
    return f"size={used(disk)[0] + 8 * 4096}"


@pytest.mark.timeout(60 + 20 * ROUNDS)
@pytest.mark.parametrize("how", [as_full_as_it_gets, nearly_full, without_another_inode])
def test_a_disk_that_takes_no_more(project: Project, disk: Disk, how: Callable[[Disk], str]) -> None:
    pipeline(project)
    for _ in range(ROUNDS):
        project.file("wait", "")
        project.file("ran", "")
        run = project.start("run", "--new", "--jobs", "2")
        run.until(lambda: list(project.statuses().values()).count("in_progress") == 2)
        disk.change(how(disk))
        (project.root / "wait").unlink()
        struck = run.wait()
        assert "Traceback" not in struck.text, struck
        shown = project.orch("status", "--json")
        assert shown.code in (0, 1, 3) and "Traceback" not in shown.err, shown
        done = {number for number, status in project.statuses().items() if status == "completed"}
        if struck.code == NO_ROOM:
            assert str(project.system) in struck.err, struck
            refused(project)
        disk.change(ROOMY)
        ended = project.orch("run")
        assert ended.code == 0, (struck, ended)
        ran = Counter(int(line) for line in project.lines("ran"))
        assert set(ran) == set(range(1, PHASES + 1))
        again = sorted(number for number, count in ran.items() if count > 1)
        assert not done.intersection(again), (done, ran, struck, ended)
        assert len(again) <= 2, "no more than what was in progress when it became full"
        assert set(project.statuses().values()) == {"completed"}
        project.assert_nothing_left()
        assert not [*project.system.rglob(".*.new")]
    assert struck.code == NO_ROOM or how is without_another_inode, "the fault did not fire"


def test_a_disk_that_became_read_only_after_all_was_killed(project: Project, disk: Disk) -> None:
    """While something is written to it, the kernel does not make it so."""
    pipeline(project)
    project.file("wait", "")
    run = project.start("run", "--jobs", "2")
    run.until(lambda: list(project.statuses().values()).count("in_progress") == 2)
    project.end_all()
    run.wait()
    (project.root / "wait").unlink()
    wait_for(lambda: not project.processes())
    disk.change("ro")
    for words in (("run",), ("recover",), ("cancel",), ("retry", "1"), ("fsck", "--repair")):
        told = project.orch(*words)
        assert told.code == NO_ROOM and "Read-only file system" in told.err and "Traceback" not in told.text, told
        assert str(project.system) in told.err, told
    assert project.orch("status").code in (0, 3) and project.orch("fsck").code in (0, 1)
    disk.change(ROOMY)
    ended = project.orch("run")
    assert ended.code == 0, ended
    assert set(project.statuses().values()) == {"completed"}
    project.assert_nothing_left()


def refused(project: Project) -> Ended:
    """As long as there is no room the next start says so, and does nothing."""
    ran = project.lines("ran")
    again = project.orch("run")
    assert again.code == NO_ROOM and "Traceback" not in again.text, again
    assert project.lines("ran") == ran
    return again
