"""One holder of the lock at a time, whatever happens to the file, the holder, or both of two that come at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import process
from orchestrator.store.lock import RUN, StateLock
from orchestrator.store.taking import TURN_PATIENCE
from tests.core.given import NOW
from tests.crash.warm import Warm, warm
from tests.driving import PACKAGE, Project, seeded, times, wait_for
from tests.store.given import Holding

__all__ = ["warm"]

WRITERS, INCREMENTS = 8, times(2_000, 50_000)
RECOVERIES = times(6, 50)
ASKS = times(6, 50)

# Each reads, lets others have a go, and writes: without a lock updates are lost.
COUNT = """
import os, sys, time
from pathlib import Path
from orchestrator import clock, process
from orchestrator.store.lock import StateLock

system, writers, each, is_locked = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "locked"
counter = system / "counter"
counter.write_text("0")

def write():
    lock, me, refused = StateLock(system), process.myself(), 0
    for _ in range(each):
        while is_locked and not lock.acquire("run", me, "orch run", clock.now()):
            refused += 1
            time.sleep(0.002)
        value = int(counter.read_text() or "0")
        os.sched_yield()
        lock.still_mine() if is_locked else None
        counter.write_text(str(value + 1))
        lock.release()
    os._exit(0 if refused or not is_locked else 3)

pids = []
for _ in range(writers):
    pid = os.fork()
    if pid == 0:
        write()
    pids.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids], counter.read_text())
"""


def counted(each: int, how: str) -> tuple[list[int], int]:
    """In memory where there is such a folder: what is tested is the lock, not the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as system:
        return _counted(system, each, how)


def _counted(system: str, each: int, how: str) -> tuple[list[int], int]:
    ran = subprocess.run(
        [sys.executable, "-c", COUNT, system, str(WRITERS), str(each), how], capture_output=True, text=True,
        check=True, env={"PATH": os.environ["PATH"], "PYTHONPATH": PACKAGE},
    )  # fmt: skip
    codes, _, count = ran.stdout.rpartition(" ")
    return json.loads(codes), int(count)


@pytest.mark.timeout(60 + INCREMENTS // 100)
def test_no_update_is_lost() -> None:
    each = INCREMENTS // WRITERS
    codes, count = counted(each, "locked")
    print(f"{count} of {WRITERS * each} increments by {WRITERS} processes; {codes.count(0)} of them had to wait")
    assert count == WRITERS * each
    assert 0 in codes, "nobody ever met anybody: the test proves nothing"
    wait_for(lambda: counted(250, "free")[1] < WRITERS * 250, why="without a lock nothing is lost either")


def test_a_turn_that_somebody_stopped_is_named_after_the_time_that_a_turn_may_take(project: Project) -> None:
    project.commands({"number": 1, "name": "one", "run": "echo 1 >> ran", "needs": []})
    project.system.mkdir()
    with Holding(project.system, "turn") as other:
        other.signal(signal.SIGSTOP)
        began = time.monotonic()
        run = project.orch("run")
        took = time.monotonic() - began
        assert (run.code, project.lines("ran")) == (75, [])
        assert f"another run is active (pid {other.identity.pid} on" in run.err
        assert ": orch turn)" in run.err
        print(f"told after {took:.1f} s; a turn has {TURN_PATIENCE} s")
        assert took >= TURN_PATIENCE - 0.1, "it did not wait"
    assert project.orch("run").code == 0


def at_work(project: Project) -> None:
    project.commands(
        {"number": 1, "name": "long", "run": "echo 1 >> ran; until test -e go; do sleep 0.05; done", "needs": []},
        {"number": 2, "name": "after", "run": "echo 2 >> ran"},
    )


def _replace(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.write_text("")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _symlink(path: Path) -> None:
    path.unlink()
    (path.with_name("elsewhere")).write_text("")
    path.symlink_to("elsewhere")


def _nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("how", [Path.unlink, _replace, _folder, _symlink, _nowhere], ids=lambda how: how.__name__)
def test_what_is_done_to_the_file_is_noticed_before_the_next_commit(
    project: Project, warm: Warm, how: Callable[[Path], None]
) -> None:
    at_work(project)
    run = warm.start(project, "run")
    run.until(lambda: project.lines("ran") and warm.orch(project, "status").code == 0)
    wait_for(lambda: project.state()["phases"]["1"]["step"] == "running")
    lock, before = project.system / "state.lock", _truth(project)
    how(lock)
    project.file("go", "")
    ended = run.wait()
    assert ended.code == 74, ended
    was = "deleted" if how in (Path.unlink, _nowhere) else "replaced"
    assert f"{lock} was {was} while this run held it" in ended.err
    assert _truth(project) == before, "it wrote although it had lost the lock"
    if how in (_folder, _nowhere, _symlink):
        refused = warm.orch(project, "run")
        assert "Traceback" not in refused.text and "fault of orch" not in refused.text, refused
        assert refused.code in (0, 74), refused
        lock.rmdir() if how is _folder else lock.unlink()
    assert warm.orch(project, "run").code == 0
    assert project.lines("ran") == ["1", "2"]


def _truth(project: Project) -> dict[str, bytes]:
    kept = [*(project.system / "journal").iterdir(), project.system / "state.json"]
    return {path.name: path.read_bytes() for path in kept}


def test_a_killed_holder_whose_children_live_holds_it_no_more(project: Project, warm: Warm) -> None:
    at_work(project)
    run = warm.start(project, "run")
    run.until(lambda: project.lines("ran"))
    run.kill()
    assert project.agents() and project.workers()
    lock = StateLock(project.system)
    assert lock.acquire(RUN, process.myself(), "a test", NOW), "it is not free at once"
    lock.release()
    project.file("go", "")
    assert warm.orch(project, "run").code == 0
    assert project.lines("ran") == ["1", "2"]


def test_where_locks_do_not_work_nothing_is_done_and_no_other_kind_of_lock_is_tried(project: Project) -> None:
    if shutil.which("strace") is None:
        pytest.skip("there is no strace on this machine")
    at_work(project)
    trace = project.scratch / "trace"
    without = ("strace", "-f", "-o", str(trace), "-e", "trace=flock", "-e", "inject=flock:error=ENOSYS")
    refused = project.orch("run", before=without)
    if "ptrace" in refused.err.lower():
        pytest.skip(f"strace may not trace here: {refused.err}")
    assert "INJECTED" in trace.read_text(), "the fault did not fire"
    assert refused.code == 74, refused
    assert f"{project.system / 'state.lock'}: this file system does not support locks" in refused.err
    assert "put system/ on a local file system" in refused.err
    assert project.lines("ran") == []
    assert not (project.system / "journal").exists()


# ---- at once


def _interrupted(project: Project) -> None:
    """Three phases in progress, and everybody dead."""
    project.commands(
        *({"number": number, "name": f"p{number}", "needs": [], "run": f"echo {number} >> ran; test -e go || sleep 1000"}
          for number in (1, 2, 3))
    )  # fmt: skip
    run = project.start("run")
    run.until(lambda: sorted(project.lines("ran")) == ["1", "2", "3"])
    wait_for(lambda: [phase["step"] for phase in project.state()["phases"].values()] == ["running"] * 3)
    project.end_all()
    run.wait()


def _journaled(project: Project, word: str) -> int:
    return sum(path.read_text().count(f'"event":"{word}"') for path in (project.system / "journal").iterdir())


@pytest.mark.timeout(60 + 5 * RECOVERIES)
def test_of_two_recoveries_at_once_one_recovers_each_phase(project: Project, warm: Warm) -> None:
    chance, both = seeded(), 0
    _interrupted(project)
    kept = project.scratch / "interrupted"
    shutil.copytree(project.system, kept, ignore=shutil.ignore_patterns("bell", "sock"))
    for _ in range(RECOVERIES):
        shutil.rmtree(project.system)
        shutil.copytree(kept, project.system)
        first = warm.start(project, "recover")
        time.sleep(chance.choice([0.0, 0.0, chance.uniform(0.0, 0.1)]))
        second = warm.start(project, "recover")
        ended = [first.wait(), second.wait()]
        assert [each.code for each in ended] == [0, 0], ended
        told = [each.out.count("failed, INTERRUPTED") for each in ended]
        assert sorted(told) == [0, 3], ended
        assert [each.out for each in ended].count("nothing to recover\n") == 1
        assert _journaled(project, "PhaseRecovered") == 3
        both += told[1] == 3
    print(f"{RECOVERIES} races of two recoveries, the second was first {both} times")
    project.file("go", "")
    assert warm.orch(project, "run").code == 0
    assert sorted(project.lines("ran")) == ["1", "1", "2", "2", "3", "3"]


@pytest.mark.timeout(60 + 5 * ASKS)
def test_what_is_asked_of_a_run_that_is_just_ending_is_answered_by_it_or_without_it(
    project: Project, warm: Warm
) -> None:
    chance, by_run = seeded(), 0
    project.commands(
        {"number": 1, "name": "long", "needs": [], "run": "echo 1 >> ran; until test -e go; do sleep 0.005; done"},
        {"number": 2, "name": "after", "run": "echo 2 >> ran"},
    )
    for turn in range(1, ASKS + 1):
        (project.root / "go").unlink(missing_ok=True)
        run = warm.start(project, "run", "--new")
        run.until(lambda already=2 * turn - 1: len(project.lines("ran")) >= already)
        project.file("go", "")
        time.sleep(chance.uniform(0.0, 0.4))
        by_run += not run.is_over
        asked = [warm.start(project, *words) for words in (("retry", "2"), ("cancel", "7"), ("retry", "1"))]
        told = [each.wait() for each in asked]
        for words, each in zip(("retry 2", "cancel 7", "retry 1"), told, strict=True):
            assert each.code in (0, 1), (turn, words, each)
            assert each.code == 0 or each.err.startswith("orch: refused: "), (turn, words, each)
        assert run.wait().code in (0, 1)
        left = [path.name for path in (project.system / "asks").iterdir() if path.suffix in (".json", ".taken")]
        assert left == [], "an ask was left without an answer"
        assert _journaled(project, "AskAnswered") == 3 * turn, "answered twice, or not at all"
    print(f"{ASKS} runs that were ending, asked three things at once; {by_run} were not over when they were asked")
    project.assert_nothing_left()
