"""orch run --fail-fast: the first failure that is final ends the rest properly; without it nothing else is harmed."""

from __future__ import annotations

import pytest

from tests.driving import FAST, Project

TROUBLE = "until [ -e began ]; do sleep 0.02; done; exit 1"


def pipeline(project: Project) -> None:
    project.settings(FAST)
    project.commands(
        {"number": 1, "name": "trouble", "needs": [], "run": TROUBLE},
        {"number": 2, "name": "long", "needs": [], "run": "touch began; sleep ${LONG:-20}; echo 2 >> ran"},
        {"number": 3, "name": "later", "needs": [2], "run": "echo 3 >> ran"},
    )


def test_the_first_failure_ends_all_and_says_why(project: Project) -> None:
    pipeline(project)
    ended = project.orch("run", "--fail-fast")
    assert ended.code == 1, ended
    assert project.statuses() == {1: "failed", 2: "cancelled", 3: "pending"}
    assert "phase 1 failed, and --fail-fast was asked for" in ended.out, ended
    assert project.state()["run"]["verdict"] == "failed"
    assert not project.lines("ran")
    project.assert_nothing_left()
    project.commands(
        {"number": 1, "needs": [], "run": "true"}, {"number": 2, "run": "true"}, {"number": 3, "run": "true"}
    )
    again = project.orch("run", "--fail-fast")
    assert again.code == 0 and set(project.statuses().values()) == {"completed"}, again


@pytest.mark.parametrize("flags", [(), ("--keep-going",)])
def test_by_default_what_does_not_need_it_goes_on(project: Project, flags: tuple[str, ...]) -> None:
    pipeline(project)
    ended = project.orch("run", *flags, env={"LONG": "0.3"})
    assert ended.code == 1, ended
    assert project.statuses() == {1: "failed", 2: "completed", 3: "completed"}


def test_a_failure_that_is_tried_again_ends_nothing(project: Project) -> None:
    project.settings('kill_grace = "0.3s"\n[retry.FAILED]\ntries = 1\ndelay = "0.05s"\n')
    project.commands(
        {"number": 1, "needs": [], "run": "test -e tried || { touch tried; exit 1; }"},
        {"number": 2, "needs": [], "run": "sleep 0.5"},
    )
    ended = project.orch("run", "--fail-fast")
    assert ended.code == 0, ended


def test_ctrl_c_is_still_a_cancel(project: Project) -> None:
    project.settings(FAST)
    project.commands({"number": 1, "needs": [], "run": "touch began; sleep 20"})
    run = project.start("run", "--fail-fast")
    run.until(lambda: (project.root / "began").exists())
    run.send(2)
    assert run.wait().code == 130
    assert project.state()["run"]["verdict"] == "cancelled"
