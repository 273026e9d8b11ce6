"""An orchestrator that hangs is taken over, one that was stopped is named; the work goes on undisturbed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import process
from tests.driving import FAST, Project, Started, wait_for

HANGING = (sys.executable, str(Path(__file__).parents[1] / "hanging.py"))
LIMIT = 2.0


def pipeline(project: Project) -> None:
    """2 is at work when the loop hangs over the news of 1; 3 comes after both."""
    project.settings(f'beat_interval = "0.5s"\nheartbeat_timeout = "{LIMIT}s"\n' + FAST)
    project.commands(
        {"number": 1, "name": "short", "run": "until test -e two; do sleep 0.02; done; echo 1 >> ran", "needs": []},
        {"number": 2, "name": "long", "needs": [],
         "run": "echo begin 2 >> ran; until test -e go; do sleep 0.05; done; echo end 2 >> ran"},
        {"number": 3, "name": "after", "run": "echo 3 >> ran", "needs": [1, 2]},
    )  # fmt: skip


def let_the_first_end(project: Project, run: Started) -> None:
    """Once it is written down that 2 runs, and as whom: a loop that hangs writes nothing more."""
    run.until(lambda: project.phases().get(2, {}).get("step") == "running")
    project.file("two", "")


def hang(project: Project, before: tuple[str, ...] = ()) -> Started:
    pipeline(project)
    run = project.start("run", argv=(*before, *HANGING))
    let_the_first_end(project, run)
    run.wait_for("hangs now")
    return run


def test_one_that_hangs_is_taken_over_by_the_next_run(project: Project) -> None:
    hung = hang(project)
    patient = project.orch("run", env={"ORCH_HEARTBEAT_TIMEOUT": "1h"})
    assert patient.code == 75, patient
    wait_for(lambda: project.status()["run"]["hung"])
    assert "its loop hangs: the next `orch run` or `orch recover` ends it and takes over" in project.orch("status").out
    before = process.identity(project.state()["phases"]["2"]["pid"])
    run = project.start("run")
    assert hung.wait().code == -signal.SIGKILL  # its loop was asked, and could not hear it
    run.wait_for("goes on")
    assert before is not None
    assert process.is_alive(before) == process.ALIVE
    project.file("go", "")
    ended = run.wait()
    assert ended.code == 0, ended
    assert f"took over from pid {hung.pid}, which hung: its loop had been silent for" in ended.err
    assert project.lines("ran") == ["begin 2", "1", "end 2", "3"]
    project.assert_nothing_left()


def test_one_that_hangs_is_ended_by_recover_which_leaves_the_work_to_its_agent(project: Project) -> None:
    hung = hang(project)
    wait_for(lambda: project.status()["run"]["hung"])
    recovered = project.orch("recover")
    assert recovered.code == 0, recovered
    assert f"took over from pid {hung.pid}" in recovered.err
    assert "phase 2: its agent is alive and goes on with it" in recovered.out
    assert hung.wait().code == -signal.SIGKILL  # its loop was asked, and could not hear it
    assert project.status()["run"]["state"] == "detached"
    project.file("go", "")
    project.assert_nothing_left()
    assert project.statuses()[2] == "completed", "a reader does not lay the outcome over"
    assert project.orch("run").code == 0
    assert project.lines("ran") == ["begin 2", "1", "end 2", "3"]


def test_one_that_heeds_no_sigterm_is_killed(project: Project) -> None:
    hung = hang(project)
    hung.send(signal.SIGSTOP)  # a stopped one does not even get it
    hung.until(lambda: project.status()["run"]["stopped"])
    project.file("go", "")
    ended = project.orch("run", "--takeover")
    assert ended.code == 0, ended
    assert hung.wait().code == -signal.SIGKILL
    assert "which was stopped; it was ended" in ended.err
    assert project.lines("ran") == ["begin 2", "1", "end 2", "3"]


def test_one_that_was_stopped_is_named_and_goes_on_when_it_may(project: Project) -> None:
    pipeline(project)
    run = project.start("run")
    let_the_first_end(project, run)
    run.until(lambda: project.statuses() == {1: "completed", 2: "in_progress", 3: "pending"})
    run.send(signal.SIGSTOP)
    run.until(lambda: project.status()["run"]["stopped"])
    for words in (["run"], ["recover"]):
        refused = project.orch(*words)
        assert refused.code == 75
        assert f"another run is active, but somebody stopped it with a signal (pid {run.pid} on" in refused.err
        assert f"`kill -CONT {run.pid}` lets it go on; --takeover ends it and takes its place" in refused.err
    assert f"`kill -CONT {run.pid}`" in project.orch("status").out
    run.send(signal.SIGCONT)
    project.file("go", "")
    assert run.wait().code == 0
    assert project.lines("ran") == ["begin 2", "1", "end 2", "3"]


def test_an_ask_that_a_hung_run_does_not_answer_is_withdrawn(project: Project) -> None:
    hung = hang(project)
    asked = project.orch("cancel", "3")
    assert asked.code == 75
    assert f"the run does not answer: pid {hung.pid}" in asked.err
    assert "the ask was withdrawn" in asked.err
    assert not list((project.system / "asks").glob("*.json"))
    project.file("go", "")
    assert project.orch("run").code == 0
    assert "3" in project.lines("ran"), "the ask was carried out although it had been withdrawn"


@pytest.mark.parametrize("word", ["run", "status"])
def test_inside_an_attempt_of_another_project_it_addresses_its_own_folder(
    projects: Callable[[str], Project], word: str
) -> None:
    outer, inner = projects("outer"), projects("inner")
    inner.commands({"number": 1, "name": "inner", "run": "echo $ORCH_PROJECT >> ran", "needs": []})
    command = f'cd "{inner.root}" && "{sys.executable}" -m orchestrator.cli {word}'
    outer.commands({"number": 1, "name": "outer", "run": command, "needs": [], "timeout": "30s"})
    ended = outer.orch("run")
    assert ended.code == 0, ended
    said = outer.orch("logs", "1").out
    if word == "run":
        assert inner.lines("ran") == [str(inner.root)]
        assert inner.statuses() == {1: "completed"}
        assert "1 inner" in said
    else:
        assert said == "no run yet: `orch run` begins one\n"
    assert outer.status()["phases"][0]["name"] == "outer"
    outer.assert_nothing_left()
    inner.assert_nothing_left()
