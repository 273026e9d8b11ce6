"""How a run is ended by a person, and what does not end it: signals, terminals, pipes, and a poor environment."""

from __future__ import annotations

import os
import signal
import stat
import time

import pytest

from tests.driving import FAST, ORCH, Project, Started

LONG = "echo $$ > began; while :; do sleep 0.05; done"


def long(project: Project, run: str = LONG, settings: str = FAST) -> None:
    project.settings(settings)
    project.commands(
        {"number": 1, "name": "long", "run": run, "needs": []},
        {"number": 2, "name": "after", "run": "echo 2 >> ran"},
    )


def at_work(project: Project, run: Started) -> None:
    run.until(lambda: project.lines("began"))


def quick(project: Project, seconds: float = 0.3) -> None:
    """Three phases, one after the other."""
    project.commands(
        *(
            {"number": number, "name": f"p{number}", "run": f"sleep {seconds}; echo {number} >> ran"}
            for number in (1, 2, 3)
        )
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_work_properly_and_says_what_is_next(project: Project, number: int, code: int) -> None:
    long(project, f"trap 'echo tidy > tidy; exit 1' TERM; {LONG}", 'kill_grace = "20s"\n')
    run = project.start("run")
    at_work(project, run)
    run.send(number)
    ended = run.wait()
    assert ended.code == code, ended
    assert project.lines("tidy") == ["tidy"], "the phase was not asked before it was killed"
    assert (
        f"{signal.Signals(number).name}: ending 1 attempt; once more insists; `orch run` goes on from here" in ended.out
    )
    assert "Traceback" not in ended.text
    project.assert_nothing_left()
    phase = project.phases()[1]
    assert (phase["status"], phase["error"]) == ("cancelled", None)
    assert project.status()["run"]["verdict"] == "cancelled"
    project.commands(
        {"number": 1, "name": "long", "run": "true", "needs": []},
        {"number": 2, "name": "after", "run": "echo 2 >> ran"},
    )
    assert project.orch("run").code == 0
    assert project.lines("ran") == ["2"]
    assert project.state()["phases"]["1"]["retry_count"] == 0, "an end that was asked for costs no try"


def test_twice_insists(project: Project) -> None:
    long(project, f"trap '' TERM; {LONG}", 'kill_grace = "1h"\n')
    run = project.start("run")
    at_work(project, run)
    run.send(signal.SIGINT)
    run.wait_for("once more insists")
    time.sleep(0.3)
    assert not run.is_over
    run.send(signal.SIGINT)
    assert run.wait().code == 130
    project.assert_nothing_left()
    assert project.statuses() == {1: "cancelled", 2: "pending"}


def test_ctrl_c_on_a_terminal(project: Project) -> None:
    """The whole foreground gets it; the agent and the work, in sessions of their own, are ended by the loop alone."""
    long(project, f"trap 'echo tidy > tidy; exit 1' TERM; trap 'echo int > int' INT; {LONG}", 'kill_grace = "20s"\n')
    run = project.terminal("run", env={"TERM": "xterm"})
    at_work(project, run)
    run.type(b"\x03")
    ended = run.wait()
    assert ended.code == 130, ended
    assert "`orch run` goes on from here" in ended.out
    assert project.lines("tidy") == ["tidy"]
    assert project.lines("int") == []
    project.assert_nothing_left()


def test_ctrl_c_twice_on_a_terminal(project: Project) -> None:
    long(project, f"trap '' TERM; {LONG}", 'kill_grace = "1h"\n')
    run = project.terminal("run", env={"TERM": "xterm"})
    at_work(project, run)
    run.type(b"\x03")
    run.wait_for("once more")
    run.type(b"\x03")
    assert run.wait().code == 130
    project.assert_nothing_left()


def test_a_closed_terminal_ends_nothing(project: Project) -> None:
    quick(project)
    run = project.terminal("run", env={"TERM": "xterm"})
    run.wait_for("p1")
    run.close()
    assert run.popen.wait(30) == 0
    assert project.lines("ran") == ["1", "2", "3"]
    project.assert_nothing_left()


def test_a_hangup_ends_nothing(project: Project) -> None:
    quick(project)
    run = project.start("run")
    run.wait_for("p1")
    run.send(signal.SIGHUP)
    assert run.wait().code == 0
    assert project.lines("ran") == ["1", "2", "3"]


def test_a_reader_that_leaves_ends_nothing(project: Project) -> None:
    quick(project)
    ended = project.shell("{ $ORCH run; echo $? > code; } | head -1")
    assert ended.out.count("\n") == 1
    assert "begins" in ended.out
    assert project.lines("code") == ["0"]
    assert project.lines("ran") == ["1", "2", "3"]
    assert ended.err == ""


def test_a_pipe_is_closed_when_the_run_is_over_and_not_held_by_the_agent(project: Project) -> None:
    """Phase 1 leaves a child that would hold every descriptor it has been given."""
    project.commands({"number": 1, "name": "one", "run": "setsid sleep 1000 & echo 1 >> ran", "needs": []})
    began = time.monotonic()
    ended = project.shell("$ORCH run | cat")
    assert time.monotonic() - began < 25
    assert "completed   1 one" in ended.out
    assert "left running, and was ended: " in ended.out
    project.assert_nothing_left()


def test_a_cut_orchestrator_leaves_no_pipe_open(project: Project) -> None:
    """Whoever captures the output (cron, ssh) is not kept waiting by the agent that works on."""
    long(project, f"{LONG.replace(':', '! test -e go')}")
    began = time.monotonic()
    ended = project.shell(
        "$ORCH run & pid=$!; until test -e began; do sleep 0.02; done; kill -9 $pid; wait $pid", seconds=20
    )
    assert time.monotonic() - began < 20
    assert ended.code == 137
    assert project.status()["run"]["state"] == "detached"
    project.file("go", "")
    project.assert_nothing_left()
    assert project.orch("run").code == 0


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_harm_nothing(project: Project, closing: str) -> None:
    """A file that is opened next would get the number of the closed one."""
    project.commands({"number": 1, "name": "one", "run": "echo out; echo err >&2; echo 1 >> ran", "needs": []})
    ended = project.shell(f"$ORCH run {closing}")
    assert ended.code == 0, ended
    assert project.lines("ran") == ["1"]
    assert "Traceback" not in ended.text
    assert project.orch("logs", "1").out == "out\nerr\n"
    assert project.statuses() == {1: "completed"}
    (journal,) = (project.system / "journal").glob("*.jsonl")
    assert all(line.startswith("{") for line in journal.read_text().splitlines())


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-"])
def test_closed_descriptors_harm_no_reader(project: Project, closing: str) -> None:
    project.commands({"number": 1, "name": "one", "run": "true", "needs": []})
    assert project.orch("run").code == 0
    for words in ("status", "plan", "logs 1", "config show", "recover"):
        ended = project.shell(f"$ORCH {words} {closing}")
        assert ended.code == 0, (words, ended)
        assert "Traceback" not in ended.text


def test_a_reader_of_a_reader_that_leaves_is_no_error(project: Project) -> None:
    many = 2000
    project.commands(
        *({"number": number, "name": f"phase-{number}", "run": "true", "needs": []} for number in range(many))
    )
    for words in ("plan", "plan --json", "status --all --json"):
        ended = project.shell(f"$ORCH {words} | head -1")
        assert ended.err == "", (words, ended)


def test_a_bare_environment(project: Project) -> None:
    """As cron gives it: no TERM, no LANG, no USER."""
    project.commands({"number": 1, "name": "größe", "run": "echo ä; echo 1 >> ran", "needs": []})
    environ = (
        f"env -i PATH='{os.environ['PATH']}' HOME='{project.scratch}' PYTHONPATH='{project.environ()['PYTHONPATH']}'"
    )
    for words in ("run", "status", "plan", "logs 1", "status --json"):
        ended = project.shell(f"{environ} {' '.join(ORCH)} {words}")
        assert ended.code == 0, ended
        assert ended.err == ""
    assert project.lines("ran") == ["1"]
    ended = project.shell(f"{environ} LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {' '.join(ORCH)} plan | cat")
    assert ended.code == 0, ended


def test_a_strict_umask_and_a_lax_one(project: Project) -> None:
    """What orch keeps is for its owner only, whatever the mask; what a phase makes follows the mask of the caller."""
    project.commands({"number": 1, "name": "one", "run": "echo 1 >> ran; mkdir made", "needs": []})
    for mask, made in (("077", 0o700), ("000", 0o777)):
        ended = project.shell(f"umask {mask}; $ORCH run --new")
        assert ended.code == 0, ended
        assert stat.S_IMODE((project.root / "made").stat().st_mode) == made
        (project.root / "made").rmdir()
        project.assert_nothing_left()  # the agent takes its folder with it
        for path in [project.system, *project.system.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode & 0o077 == 0, (mask, path, oct(mode))


def test_nothing_is_asked_of_standard_input(project: Project) -> None:
    """Neither by orch nor by a phase: an unattended run cannot answer."""
    project.commands({"number": 1, "name": "reads", "run": 'read line; echo "got <$line>"', "needs": []})
    run = project.terminal("run", env={"TERM": "xterm"})
    assert run.wait().code == 0, run.out
    assert project.orch("logs", "1").out == "got <>\n"


def test_python_is_found_although_path_has_none(project: Project) -> None:
    project.file("phases/p1.py", "from orchestrator import phase\n\n@phase(1)\ndef one(ctx):\n    print('here')\n")
    ended = project.orch("run", env={"PATH": "/nowhere"})
    assert ended.code == 0, ended
    assert project.orch("logs", "1").out == "here\n"
