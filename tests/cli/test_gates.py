"""Gates as people meet them: what waits is shown with what to type, and whoever decides is answered, also when it is late."""

from __future__ import annotations

import json
import os
import pwd
import re
import time

from tests.crash.warm import Warm, kept_warm
from tests.driving import FAST, Project, wait_for

__all__ = ["kept_warm"]

ME = pwd.getpwuid(os.getuid()).pw_name


def pipeline(project: Project, approval: object = True, **more: object) -> None:
    project.settings(FAST)
    project.commands(
        {"number": 1, "name": "build", "needs": [], "run": 'echo \'{"rows": 7}\' > "$ORCH_RESULT"; echo 1 >> ran',
         "approval": approval, **more},
        {"number": 2, "name": "ship", "needs": [1], "run": "echo 2 >> ran"},
    )  # fmt: skip


def gate(project: Project, number: int = 1) -> dict[str, object]:
    found = project.state()["phases"][str(number)]["gate"]
    assert isinstance(found, dict)
    return found


def statuses(project: Project) -> dict[int, str]:
    """From state.json: a look of its own would cost another start of orch."""
    return {int(number): phase["status"] for number, phase in project.state()["phases"].items()}


def test_a_run_ends_with_3_says_what_waits_and_goes_on_after_yes(project: Project, kept_warm: Warm) -> None:
    pipeline(project, {"show": "rows", "who": [ME], "deadline": "1h"})
    ended = kept_warm.orch(project, "run")
    assert ended.code == 3, ended
    due = gate(project)["due_at"]
    asked = f"approval by {ME} until {due}, then it is rejected"
    ways = "`orch approve 1`, or `orch reject 1 --why ...`"
    assert f"WAITS       1 build  for {asked}\n          | rows: 7\n          {ways}" in ended.out, ended.out
    assert f"          1 build waits for {asked}: {ways}\n" in ended.out and "ran 1 phase" in ended.out
    shown = kept_warm.orch(project, "status").out
    assert ": waiting, 0 of 2 done, waiting at" in shown
    assert f"awaiting_approval  rows: 7; waits for {asked}: {ways}" in shown
    assert project.processes() == [], "it holds no process"
    told = json.loads(kept_warm.orch(project, "status", "--json").out)
    assert told["run"]["state"] == "waiting" and re.fullmatch("[0-9a-f]{8}", told["phases"][0]["gate"]["id"])
    assert told["phases"][0]["gate"]["shown"] == "rows: 7" and told["phases"][0]["gate"]["verdict"] == ""
    plan = kept_warm.orch(project, "plan").out
    assert f"wait     waits for {asked}: {ways}" in plan and "wait     until 1 is approved" in plan
    assert (
        kept_warm.orch(project, "approve", "1", "--why", "7 is right").out
        == "phase 1 is approved; `orch run` goes on\n"
    )
    assert kept_warm.orch(project, "approve", "1").out == f"phase 1 is approved already, by {ME}; `orch run` goes on\n"
    late = kept_warm.orch(project, "reject", "1", "--why", "no")
    assert late.code == 1 and f"refused: too late: phase 1 was approved by {ME}: 7 is right, at 2" in late.err
    ended = kept_warm.orch(project, "run")
    assert ended.code == 0 and project.lines("ran") == ["1", "2"]
    story = kept_warm.orch(project, "story", "1").out
    assert f"waits for {asked}: rows: 7" in story
    assert f"approved by {ME}, so it is done: 7 is right (plan " in story
    assert f"approved by {ME}: 7 is right" in kept_warm.orch(project, "status").out


def test_while_the_run_goes_on_another_shell_decides_and_it_goes_on_at_once(project: Project, kept_warm: Warm) -> None:
    pipeline(project, "before")
    project.commands(
        {"number": 3, "name": "long", "needs": [], "run": "until [ -e go ]; do sleep 0.02; done"}, name="q.toml"
    )
    run = kept_warm.start(project, "run", "--jobs", "1")
    run.until(lambda: "WAITS       1 build  for approval" in run.text)
    assert "awaiting_approval" in kept_warm.orch(project, "status").out, "though the only slot is taken"
    assert kept_warm.orch(project, "approve", "1").out == "phase 1 is approved: it may run\n"
    project.file("go", "")
    assert run.wait().code == 0 and project.lines("ran") == ["1", "2"]
    assert "approved    1 build  by" in run.text


def test_no_is_a_failure_with_its_reason_and_the_way_back(project: Project, kept_warm: Warm) -> None:
    pipeline(project)
    assert kept_warm.orch(project, "run", "-q").code == 3
    assert kept_warm.orch(project, "reject", "1").code == 2
    told = kept_warm.orch(project, "reject", "1", "--why", "wrong rows").out
    assert told == "phase 1 is rejected, and counts as failed; `orch retry 1` asks again\n"
    error = project.state()["phases"]["1"]["errors"][-1]
    assert (error["code"], error["message"]) == ("REJECTED", f"rejected by {ME}: wrong rows")
    ended = kept_warm.orch(project, "run")
    assert ended.code == 1 and project.lines("ran") == ["1"], "no run tries it again by itself"
    assert f"next: 1 build was rejected by {ME}: wrong rows; `orch retry 1` asks again" in ended.out
    assert kept_warm.orch(project, "retry", "1").code == 0
    assert kept_warm.orch(project, "run", "-q").code == 3 and project.lines("ran") == ["1", "1"]
    assert kept_warm.orch(project, "approve", "1").code == 0


def test_a_deadline_outlives_orch_and_whoever_looks_or_runs_next_carries_it_out(
    project: Project, kept_warm: Warm
) -> None:
    pipeline(project, {"deadline": "0.3s"})
    assert kept_warm.orch(project, "run", "-q").code == 3
    time.sleep(0.4)  # a deadline of the wall clock: nothing but time makes it pass
    shown = kept_warm.orch(project, "status").out
    assert "failed        REJECTED: rejected by its deadline: nobody decided until" in shown
    assert "as recovery would write it" in shown and project.state()["phases"]["1"]["status"] == "awaiting_approval"
    late = kept_warm.orch(project, "approve", "1")
    assert late.code == 1 and "too late: phase 1 was rejected by its deadline" in late.err
    assert statuses(project) == {1: "failed", 2: "pending"}
    pipeline(project, {"deadline": "0.3s", "default": "approve"})
    assert kept_warm.orch(project, "run", "-q", "--new").code == 3
    time.sleep(0.4)
    assert "approved by its deadline" in kept_warm.orch(project, "recover").out
    assert kept_warm.orch(project, "run", "-q").code == 0 and project.lines("ran")[-1] == "2"


def test_of_two_at_once_exactly_one_decides(project: Project, kept_warm: Warm) -> None:
    pipeline(project)
    assert kept_warm.orch(project, "run", "-q").code == 3
    which = str(json.loads(kept_warm.orch(project, "status", "--json").out)["phases"][0]["gate"]["id"])
    both = [
        kept_warm.start(project, "approve", "1", "--gate", which),
        kept_warm.start(project, "reject", "1", "--why", "x", "--gate", which),
    ]
    ended = [one.wait() for one in both]
    assert sorted(one.code for one in ended) == [0, 1], ended
    assert next(one.err for one in ended if one.code).startswith("orch: refused: too late: phase 1 was ")
    assert statuses(project)[1] == ("approved" if ended[0].code == 0 else "failed")


def test_what_was_seen_of_another_run_or_plan_does_not_count(project: Project, kept_warm: Warm) -> None:
    pipeline(project)
    assert kept_warm.orch(project, "run", "-q").code == 3
    which = str(json.loads(kept_warm.orch(project, "status", "--json").out)["phases"][0]["gate"]["id"])
    pipeline(project, title="edited meanwhile")
    ended = kept_warm.orch(project, "run")
    assert ended.code == 3 and "WAITS       1 build" in ended.out, "it is asked anew"
    late = kept_warm.orch(project, "approve", "1", "--gate", which)
    assert late.code == 1 and "asked anew since: another run, or another plan" in late.err
    assert kept_warm.orch(project, "run", "-q", "--new").code == 3, "a new run supersedes it"
    assert kept_warm.orch(project, "approve", "1", "--gate", which).code == 1
    assert kept_warm.orch(project, "approve", "1").code == 0
    other = kept_warm.orch(project, "approve", "2")
    assert other.code == 1 and "phase 2 is pending: it does not wait for approval" in other.err


def test_only_who_may(project: Project, kept_warm: Warm) -> None:
    pipeline(project, {"who": ["nobody-else"]})
    assert kept_warm.orch(project, "run", "-q").code == 3
    ended = kept_warm.orch(project, "approve", "1")
    assert ended.code == 1 and f"phase 1 is for nobody-else to decide, not for {ME}" in ended.err


def test_it_waits_through_kill_9_and_the_answer_is_there_for_the_next(project: Project, kept_warm: Warm) -> None:
    pipeline(project)
    project.commands(
        {"number": 3, "name": "long", "needs": [], "run": "until [ -e go ]; do sleep 0.02; done"}, name="q.toml"
    )
    run = kept_warm.start(project, "run")
    run.until(lambda: "WAITS" in run.text and statuses(project)[3] == "in_progress")
    run.kill()
    assert project.statuses()[1] == "awaiting_approval"  # state.json may be a little behind the journal
    assert kept_warm.orch(project, "approve", "1").code == 0
    project.file("go", "")
    wait_for(lambda: kept_warm.orch(project, "run").code == 0)
    assert project.lines("ran") == ["1", "2"]
