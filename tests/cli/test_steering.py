"""orch pause, resume, skip and reset as a person types them; what is shown of them, and that it outlives kill -9."""

from __future__ import annotations

import json

from tests.crash.warm import Warm, kept_warm
from tests.driving import FAST, Project, wait_for

__all__ = ["kept_warm"]

GATE = "until [ -e go ]; do sleep 0.02; done"


def pipeline(project: Project) -> None:
    project.settings(FAST)
    project.commands(
        {"number": 1, "name": "first", "needs": [], "run": GATE},
        {"number": 2, "name": "second", "needs": [1], "run": "true"},
    )


def statuses(project: Project) -> dict[int, str]:
    """From state.json: a look of its own would cost another start of orch."""
    return {int(number): phase["status"] for number, phase in project.state()["phases"].items()}


def test_a_pause_is_shown_outlives_kill_9_and_ends_with_resume(project: Project, kept_warm: Warm) -> None:
    pipeline(project)
    run = kept_warm.start(project, "run")
    run.until(lambda: "in_progress" in kept_warm.orch(project, "status").out)
    ended = kept_warm.orch(project, "pause", "--why", "moving the disk")
    assert ended.out == "paused: nothing new starts, 1 attempt in hand goes on; `orch resume` lets it go on\n"
    told = json.loads(kept_warm.orch(project, "status", "--json").out)
    assert told["run"]["state"] == "paused" and told["run"]["paused"].endswith(": moving the disk")
    assert told["phases"][0]["status"] == "in_progress" and told["progress"]["eta_seconds"] is None
    beat = project.system / "logs" / "heartbeat.json"
    wait_for(lambda: json.loads(beat.read_text())["state"] == "paused")
    project.file("go", "")
    run.until(lambda: "completed   1 first" in run.text)
    run.kill()
    assert "interrupted" in (shown := kept_warm.orch(project, "status").out) and "nothing new starts before" in shown
    again = kept_warm.start(project, "run")
    again.until(lambda: "PAUSED" in again.text)
    assert "moving the disk; nothing new starts before `orch resume`" in again.text
    assert "start       2" not in again.text
    assert kept_warm.orch(project, "resume").out == "resumed\n"
    ended = again.wait()
    assert ended.code == 0 and "resumed   by" in ended.out and "completed   2 second" in ended.out
    assert "was paused by" in (story := kept_warm.orch(project, "story", "2").out) and "was resumed by" in story


def test_without_patience_a_paused_run_is_left_with_3_and_a_new_one_is_not_paused(
    project: Project, kept_warm: Warm
) -> None:
    pipeline(project)
    project.file("go", "")
    project.commands({"number": 1, "name": "first", "run": "exit 1", "needs": []})
    assert kept_warm.orch(project, "run", "-q").code == 1
    assert kept_warm.orch(project, "pause").code == 0
    ended = kept_warm.orch(project, "run", "--no-wait")
    assert ended.code == 3 and "`orch resume`, then `orch run`" in ended.out
    assert (
        kept_warm.orch(project, "status").out.startswith("run ")
        and ": paused, " in kept_warm.orch(project, "status").out
    )
    ended = kept_warm.orch(project, "run", "--new")
    assert ended.code == 1 and "PAUSED" not in ended.out


def test_what_is_skipped_is_told_counted_and_needs_a_reason(project: Project, kept_warm: Warm) -> None:
    pipeline(project)
    project.commands({"number": 1, "name": "first", "run": "exit 1"}, {"number": 2, "name": "second", "run": "true"})
    assert kept_warm.orch(project, "run", "-q").code == 1
    ended = kept_warm.orch(project, "skip", "1")
    assert ended.code == 2 and "--why" in ended.err
    assert kept_warm.orch(project, "skip", "1", "--why", "by hand").code == 0
    ended = kept_warm.orch(project, "run")
    assert ended.code == 0 and "1 skipped, 1 done" in ended.out
    assert ": by hand" in kept_warm.orch(project, "status").out
    assert "so it counts as done: by hand" in kept_warm.orch(project, "story", "1").out


def test_cancel_says_what_it_waits_for_and_what_had_to_be_killed(project: Project, kept_warm: Warm) -> None:
    project.settings('kill_grace = "1.5s"\n')
    project.commands(
        {"number": 1, "name": "deaf", "needs": [], "run": "trap '' TERM; touch deaf; while :; do sleep 0.1; done"},
        {"number": 2, "name": "good", "needs": [], "run": "touch good; sleep 1000"},
    )
    run = project.start("run")
    run.until(lambda: (project.root / "deaf").exists() and (project.root / "good").exists())
    heeded = project.orch("cancel", "2")
    assert heeded.code == 0 and "killed: it" not in heeded.err, heeded
    killed = project.orch("cancel", "1")
    assert killed.code == 1 and killed.out.endswith("; gone\n"), killed
    assert killed.err == (
        "orch: being cancelled: 1; what does not end is killed after 1.50s\n"
        "orch: phase 1: did not heed SIGTERM, and had to be killed\n"
    )
    assert run.wait().code == 1
    phases = project.state()["phases"]
    assert (phases["1"]["killed"], phases["2"]["killed"]) == (True, False)
    assert "it had to be killed" in project.orch("story", "1").out
    assert "it had to be killed" in project.orch("status").out
    project.assert_nothing_left()


def test_the_last_phase_is_skipped_and_the_run_comes_to_its_end(project: Project, kept_warm: Warm) -> None:
    pipeline(project)
    project.commands({"number": 1, "name": "first", "run": "exit 1"})
    assert kept_warm.orch(project, "run", "-q").code == 1
    assert kept_warm.orch(project, "skip", "1", "--why", "by hand").code == 0
    assert kept_warm.orch(project, "run", "-q").code == 0
    assert project.state()["run"]["verdict"] == "completed"
    assert "nothing to do" in kept_warm.orch(project, "run").out


def test_reset_of_all_asks_first_and_where_nobody_can_be_asked_wants_to_be_told(
    project: Project, kept_warm: Warm
) -> None:
    pipeline(project)
    project.file("go", "")
    assert kept_warm.orch(project, "run", "-q").code == 0
    ended = kept_warm.orch(project, "reset")
    assert ended.code == 2 and "`orch reset --yes`" in ended.err
    ended = kept_warm.orch(project, "reset", "--with-dependents")
    assert ended.code == 2 and "needs a phase" in ended.err
    terminal = project.terminal("reset")
    terminal.until(lambda: "2 of 2 phases are done. Really? [y/N]" in terminal.out)
    terminal.type(b"\x03")
    assert terminal.wait().code == 130 and "fault" not in terminal.out
    assert set(statuses(project).values()) == {"completed"}
    for answer, code in ((b"n\n", 1), (b"y\n", 0)):
        terminal = project.terminal("reset")
        terminal.until(lambda: "Really?" in terminal.out)  # noqa: B023  asked at once
        terminal.type(answer)
        assert terminal.wait().code == code, terminal.out
        assert ("nothing was changed" in terminal.out) == bool(code)
    assert statuses(project) == {1: "pending", 2: "pending"}
    assert kept_warm.orch(project, "reset", "--yes").out.startswith("phases 1, 2 are pending already")
    assert kept_warm.orch(project, "run", "-q").code == 0
    assert kept_warm.orch(project, "reset", "1", "--with-dependents").out == (
        "phases 1, 2 are pending, as if never run; `orch run` runs it\n"
    )  # fmt: skip
