"""What is written in settings, phases and flags reaches what happens: limits, retries, results, progress, environment."""

from __future__ import annotations

import json
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.driving import FAST, Project


def now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize("way", ["file", "variable", "phase", "project-table"])
def test_a_timeout_reaches_the_work(project: Project, way: str) -> None:
    phase = {"number": 1, "name": "slow", "run": "sleep 1000", "needs": []}
    environ = {}
    if way == "file":
        project.settings('timeout = "0.5s"\n' + FAST)
    elif way == "project-table":
        (project.root / "orch.toml").unlink()
        project.file("pyproject.toml", '[tool.orch]\ntimeout = "0.5s"\nkill_grace = "0.3s"\n')
    elif way == "variable":
        project.settings('timeout = "1h"\n' + FAST)
        environ = {"ORCH_TIMEOUT": "0.5s"}
    else:
        phase["timeout"] = "0.5s"
    project.commands(phase)
    ended = project.orch("run", env=environ)
    assert ended.code == 1
    error = project.errors()[1]
    assert error["code"] == "TIMEOUT"
    project.assert_nothing_left()


@pytest.mark.parametrize(
    ("words", "environ", "most"), [((), {}, 2), ((), {"ORCH_JOBS": "3"}, 3), (("--jobs", "1"), {"ORCH_JOBS": "3"}, 1)]
)
def test_so_many_at_the_same_time_and_no_more(
    project: Project, words: tuple[str, ...], environ: dict[str, str], most: int
) -> None:
    project.settings("jobs = 2\n" + FAST)
    run = "echo + >> ran; sleep 0.4; echo - >> ran"
    project.commands(*({"number": number, "name": f"p{number}", "run": run, "needs": []} for number in range(1, 7)))
    assert project.orch("run", *words, env=environ).code == 0
    level, highest = 0, 0
    for line in project.lines("ran"):
        level += 1 if line == "+" else -1
        highest = max(highest, level)
    assert highest == most


def test_kill_grace_is_what_a_phase_gets_to_tidy_up(project: Project) -> None:
    work = "trap 'sleep 1.5; echo tidy > tidy; exit' TERM; touch began; while :; do sleep 0.05; done"
    project.commands({"number": 1, "name": "tidies", "run": work, "needs": [], "timeout": "0.5s"})
    for grace, tidied in (("0.2s", False), ("20s", True)):
        project.orch("run", "--force", env={"ORCH_KILL_GRACE": grace})
        assert (project.root / "tidy").exists() == tidied, grace


def test_a_retry_that_is_due_later_survives_a_restart(project: Project) -> None:
    project.settings('kill_grace = "0.3s"\n[retry.TRANSIENT]\ntries = 2\ndelay = "1h"\njitter = 0\n')
    project.commands(
        {"number": 1, "name": "flaky", "run": "echo 1 >> ran; test -e there || exit 75", "needs": []},
        {"number": 2, "name": "after", "run": "echo 2 >> ran"},
    )
    began = now()
    first = project.orch("run", "--no-wait")
    assert first.code == 3, first
    due = project.phases()[1]["retry_at"]
    assert due is not None
    assert due in first.out, "it does not say when"
    assert 3500 < (datetime.fromisoformat(due) - began).total_seconds() < 3700
    assert project.status()["run"]["state"] == "waiting"
    again = project.orch("run", "--no-wait")
    assert again.code == 3
    assert project.phases()[1]["retry_at"] == due
    assert project.lines("ran") == ["1"], "it was tried before it was due"
    project.file("there", "")
    asked = project.orch("retry", "1")
    assert (asked.code, asked.out) == (0, "phase 1 is pending, with fresh tries; `orch run` runs it\n")
    assert project.orch("run", "--no-wait").code == 0
    assert project.lines("ran") == ["1", "1", "2"]


def test_orch_retry_has_a_live_run_try_it_now(project: Project) -> None:
    project.settings('kill_grace = "0.3s"\n[retry.TRANSIENT]\ndelay = "1h"\n')
    project.commands({"number": 1, "name": "flaky", "run": "echo 1 >> ran; test -e there || exit 75", "needs": []})
    run = project.start("run")
    run.until(lambda: project.statuses().get(1) == "retry_wait")
    assert project.status()["run"]["state"] == "waiting"
    project.file("there", "")
    assert project.orch("retry", "1").code == 0
    assert run.wait().code == 0
    assert project.lines("ran") == ["1", "1"]


def test_tries_delays_and_classes(project: Project) -> None:
    project.settings('kill_grace = "0.3s"\n[retry.TRANSIENT]\ntries = 2\ndelay = "0.3s"\n[retry.FAILED]\ntries = 0\n')
    project.commands(
        {"number": 1, "name": "transient", "run": "echo 1 >> ran; exit 75", "needs": []},
        {"number": 2, "name": "configuration", "run": "echo 2 >> ran; exit 78", "needs": [], "retries": 5},
        {"number": 3, "name": "none", "run": "echo 3 >> ran; exit 75", "needs": [], "retries": 0},
        {"number": 4, "name": "recovers", "run": "echo 4 >> ran; test $ORCH_ATTEMPT -ge 2 || exit 75", "needs": []},
    )
    began = time.monotonic()
    assert project.orch("run").code == 1
    assert time.monotonic() - began > 0.8
    ran = project.lines("ran")
    assert {number: ran.count(number) for number in "1234"} == {"1": 3, "2": 1, "3": 1, "4": 2}
    assert {number: error["code"] for number, error in project.errors().items()} == {
        1: "TRANSIENT",
        2: "CONFIGURATION",
        3: "TRANSIENT",
    }
    assert len(project.state()["phases"]["1"]["errors"]) == 3


def test_results_reach_later_phases(project: Project) -> None:
    project.commands(
        {"number": 1, "name": "command", "run": """echo '{"files": 3, "name": "ü"}' > "$ORCH_RESULT" """, "needs": []}
    )
    project.file(
        "phases/p2.py",
        "import json\nfrom orchestrator import phase\n\n@phase(2, needs=[1])\ndef double(ctx):\n"
        "    return {'twice': 2 * ctx.result(1)['files'], 'name': ctx.result(1)['name']}\n\n"
        "@phase(3, needs=[2])\ndef last(ctx):\n    ctx.path('seen').write_text(json.dumps(ctx.result(2)))\n",
    )
    assert project.orch("run").code == 0
    assert json.loads((project.root / "seen").read_text()) == {"twice": 6, "name": "ü"}
    (project.root / "seen").unlink()
    assert project.orch("run", "--only", "3", "--force").code == 0
    assert json.loads((project.root / "seen").read_text()) == {"twice": 6, "name": "ü"}, (
        "a result was lost with its run"
    )


def test_a_result_that_is_no_json_fails_the_phase(project: Project) -> None:
    project.commands({"number": 1, "name": "command", "run": 'echo "{" > "$ORCH_RESULT"', "needs": []})
    assert project.orch("run").code == 1
    error = project.errors()[1]
    assert error["code"] == "VALIDATION"
    assert "$ORCH_RESULT is not JSON" in error["message"]


def test_progress_is_the_phase_s_own_heartbeat(project: Project) -> None:
    """Silence ends it, a line of progress or a beat keeps it."""
    body = "from orchestrator import phase\nimport time\n\n@phase({0}, needs=[], heartbeat_timeout='1.5s')\ndef p{0}(ctx):\n    {1}\n"
    project.file("phases/p1.py", body.format(1, "[time.sleep(0.3) for _ in ctx.track(range(10))]"))
    project.file("phases/p2.py", body.format(2, "time.sleep(1000)"))
    project.file("phases/p3.py", body.format(3, "[(time.sleep(0.3), ctx.beat()) for _ in range(10)]"))
    loop = 'for i in 1 2 3 4 5 6 7 8 9 10; do echo "::progress $i/10 item $i"; sleep 0.3; done'
    project.commands({"number": 4, "name": "command", "run": loop, "needs": [], "heartbeat_timeout": "1.5s"})
    assert project.orch("run").code == 1
    assert project.statuses() == {1: "completed", 2: "failed", 3: "completed", 4: "completed"}
    assert project.orch("logs", "4").out.count("::progress") in (0, 10)


def test_environment_folder_and_limits(project: Project) -> None:
    (project.root / "data").mkdir()
    project.commands(
        {"number": 1, "name": "env", "run": "env > env.txt; pwd -P > pwd.txt", "needs": [], "env": {"LEVEL": "9"}},
        {"number": 2, "name": "cwd", "run": "pwd -P > here.txt", "needs": [], "cwd": "data"},
        {"number": 3, "name": "limits", "run": "ulimit -n > files.txt", "needs": [], "limits": {"open_files": 77}},
        {"number": 4, "name": "memory", "needs": [], "limits": {"memory": "200MB"}, "retries": 0,
         "run": ["python3", "-c", "x = bytearray(10**9)"]},
    )  # fmt: skip
    ended = project.orch("run", env={"SEEN": "from the caller"})
    assert "memory  RESOURCE: " in ended.out, ended
    assert project.statuses() == {1: "completed", 2: "completed", 3: "completed", 4: "failed"}, ended
    environ = dict(line.split("=", 1) for line in project.lines("env.txt") if "=" in line)
    assert environ["LEVEL"] == "9"
    assert environ["SEEN"] == "from the caller"
    assert environ["ORCH_PROJECT"] == str(project.root)
    assert (environ["ORCH_PHASE"], environ["ORCH_ATTEMPT"]) == ("1", "1")
    assert environ["ORCH_RUN"] == project.status()["run"]["id"]
    assert {"ORCH_DUE", "TRACEPARENT", "ORCH_RESULT"} <= set(environ)
    assert project.lines("pwd.txt") == [str(project.root)]
    assert project.lines("data/here.txt") == [str(project.root / "data")]
    assert project.lines("files.txt") == ["77"]
    assert "MemoryError" in project.orch("logs", "4").out
    assert project.errors()[4]["code"] == "RESOURCE"


def test_what_was_taken_over_is_not_started_twice(project: Project) -> None:
    """More than there are slots: those taken over count against --jobs."""
    run = "echo begin >> ran; until test -e go; do sleep 0.05; done; echo end >> ran"
    project.commands(*({"number": number, "name": f"p{number}", "run": run, "needs": []} for number in range(1, 6)))
    first = project.start("run", "--jobs", "2")
    first.until(lambda: len(project.lines("ran")) == 2)
    first.kill()
    second = project.start("run", "--jobs", "3")
    second.until(lambda: len(project.lines("ran")) == 3)
    time.sleep(0.5)
    assert project.lines("ran") == ["begin"] * 3
    assert len(project.agents()) == 2
    project.file("go", "")
    assert second.wait().code == 0
    assert sorted(project.lines("ran")) == ["begin"] * 5 + ["end"] * 5
    assert {phase["attempts"] for phase in project.phases().values()} == {1}
    project.assert_nothing_left()


def test_a_second_run_over_the_same_project_keeps_what_is_done(project: Project) -> None:
    project.commands(
        {"number": 1, "name": "one", "run": "echo 1 >> ran", "needs": []},
        {"number": 2, "name": "two", "run": "echo 2 >> ran; test -e there"},
        {"number": 3, "name": "three", "run": "echo 3 >> ran"},
    )
    assert project.orch("run").code == 1
    name = project.status()["run"]["id"]
    project.file("there", "")
    assert project.orch("run").code == 0
    assert project.lines("ran") == ["1", "2", "2", "3"]
    assert project.status()["run"]["id"] == name
    assert project.orch("run").code == 0
    assert project.lines("ran") == ["1", "2", "2", "3"]
    assert project.orch("run", "--new").code == 0
    assert project.lines("ran")[4:] == ["1", "2", "3"]
    assert project.status()["run"]["id"] != name
    assert project.orch("run", "--only", "2", "--force").code == 0
    assert project.lines("ran")[7:] == ["2"]


@pytest.fixture
def small_disk(project: Project) -> object:
    """A file system of its own for system/: small enough to be filled in a moment."""
    project.system.mkdir(mode=0o700)
    if os.getuid() != 0:
        pytest.skip("only root may mount a file system")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k,mode=700", "orch-test", str(project.system)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    yield project.system
    project.assert_nothing_left()
    subprocess.run(["umount", str(project.system)], check=True, capture_output=True)


def test_a_full_disk_stops_the_run_before_it_starts_what_it_cannot_write_down(
    project: Project, small_disk: Path
) -> None:
    fill = f"echo 2 >> ran; cat /dev/zero > {small_disk}/filler 2>/dev/null; exit 0"
    project.commands(
        {"number": 1, "name": "one", "run": "echo 1 >> ran", "needs": []},
        {"number": 2, "name": "fills", "run": fill},
        *({"number": number, "name": f"p{number}", "run": f"echo {number} >> ran"} for number in range(3, 9)),
    )
    started = project.start("run")
    ended = started.wait()
    assert ended.code == 74, ended
    assert "No space left on device" in ended.err
    assert "Traceback" not in ended.err
    assert set(project.lines("ran")) <= {"1", "2", "3"}, "it went on without writing it down"
    begun = {str(number) for number, status in project.statuses().items() if status in ("in_progress", "completed")}
    again = project.orch("run")
    assert again.code == 74, again
    ran = project.lines("ran")  # what was written down in time goes on with its agent
    assert len(set(ran)) == len(ran) and set(ran) <= begun, (ran, begun)
    (small_disk / "filler").unlink()
    last = project.orch("run")
    assert last.code == 0, last
    assert set(project.lines("ran")) == {str(number) for number in range(1, 9)}
    assert set(project.statuses().values()) == {"completed"}
    assert project.lines("ran").count("1") == 1


def test_memory_and_descriptors_of_a_long_run_do_not_grow(project: Project) -> None:
    """Many small phases: what the orchestrator needs does not depend on how many it has run."""
    project.commands(*({"number": number, "name": f"p{number}", "run": "true", "needs": []} for number in range(1, 81)))
    run = project.start("run", "--jobs", "4")
    most = 0
    while not run.is_over:
        try:
            most = max(most, len(os.listdir(f"/proc/{run.pid}/fd")))
        except OSError:
            break
        time.sleep(0.02)
    assert run.wait().code == 0
    assert 0 < most < 60
