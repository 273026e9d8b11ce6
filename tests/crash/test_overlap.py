"""Two at once: a second run leaves cheaply and names the first; a command of a moment's length makes no run leave."""

from __future__ import annotations

import time

import pytest

from tests.driving import Project, seeded, times, wait_for

PROMISED = 0.5  # seconds of processor time
MARGIN = 2.0  # times that, on a machine whose caches and cores others use as well
RACES = times(5, 100)


def at_work(project: Project) -> None:
    project.commands(
        {"number": 1, "name": "long", "run": "echo 1 >> ran; while ! test -e short; do sleep 0.05; done", "needs": []},
        {"number": 2, "name": "after", "run": "echo 2 >> ran"},
    )


def test_a_second_run_leaves_at_once_and_names_the_first(project: Project) -> None:
    at_work(project)
    first = project.start("run")
    first.until(lambda: project.lines("ran"))
    used = [project.measured("run") for _ in range(3)]
    for each in used:
        assert each.code == 75, each
        assert f"another run is active (pid {first.pid} on " in each.text
        assert each.text.rstrip().endswith("orch run)\n  `orch status` shows it, `orch cancel` ends it")
    assert min(each.processor_seconds for each in used) < PROMISED * MARGIN, used
    recovered = project.orch("recover")
    assert recovered.code == 75
    assert f"pid {first.pid}" in recovered.err
    project.file("short", "")
    assert first.wait().code == 0
    assert project.lines("ran") == ["1", "2"]


@pytest.mark.timeout(60 + 5 * RACES)
def test_a_turn_of_another_command_makes_no_run_leave(project: Project) -> None:
    """The lock is held for a moment by `retry` and `cancel` while no run lives: a nightly run waits for that."""
    chance = seeded()
    project.commands(
        {"number": 1, "name": "one", "run": "echo 1 >> ran", "needs": []},
        {"number": 2, "name": "two", "run": "exit 1", "needs": []},
    )
    assert project.orch("run").code == 1
    for _ in range(RACES):
        words = chance.choice([("retry", "2"), ("cancel",), ("cancel", "2"), ("recover",)])
        turn = project.start(*words)
        time.sleep(chance.uniform(0.0, 0.4))
        run = project.start("run", "--new")
        ended, asked = run.wait(), turn.wait()
        assert ended.code == 1, (words, ended, asked)  # phase 2 fails, or was cancelled: the run itself was done
        assert asked.code in ((0, 75) if words[0] == "recover" else (0, 1)), (words, asked)
        assert "pid" not in ended.err
    project.assert_nothing_left()


def test_of_many_runs_at_once_one_runs(project: Project) -> None:
    at_work(project)
    runs = [project.start("run") for _ in range(5)]
    wait_for(lambda: project.lines("ran"))
    wait_for(lambda: sum(run.is_over for run in runs) == len(runs) - 1)
    project.file("short", "")
    codes = sorted(run.wait().code for run in runs)
    assert codes == [0, 75, 75, 75, 75]
    assert project.lines("ran") == ["1", "2"]


def test_what_is_asked_of_a_live_run_is_answered_by_it(project: Project) -> None:
    at_work(project)
    run = project.start("run")
    run.until(lambda: project.lines("ran"))
    refused = project.orch("retry", "1")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "orch: refused: phase 1 is in progress; `orch cancel 1` ends it\n"
    cancelled = project.orch("cancel", "2")
    assert (cancelled.code, cancelled.out) == (0, "phase 2 will not run; `orch retry 2` takes that back\n")
    assert project.orch("retry", "2").out == "phase 2 is pending, with fresh tries\n"
    project.file("short", "")
    assert run.wait().code == 0
    assert project.lines("ran") == ["1", "2"]


def test_a_lock_that_was_deleted_stops_the_run_before_it_writes(project: Project) -> None:
    at_work(project)
    run = project.start("run")
    run.until(lambda: project.lines("ran"))
    (project.system / "state.lock").unlink()
    project.file("short", "")
    ended = run.wait()
    assert ended.code == 74
    assert "was deleted while this run held it" in ended.err
    assert project.orch("run").code == 0
    assert project.lines("ran") == ["1", "2"]
