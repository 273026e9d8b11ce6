"""A phase that does all it can to stay: every descendant is gone in time, by its deadline and by `orch cancel`."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.driving import Project, times

TIMEOUT, GRACE, PROMISED = 0.8, 0.3, 1.0
MARGIN = 3.0  # for a machine that does other things as well
ROUNDS = times(1, 50)  # for each of the two: with a cgroup where there may be one, and without

STUBBORN = r'''
"""Daemonizes, leaves its session with an empty environment, ignores SIGTERM, stops itself, keeps forking."""
import os, signal, time

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)


def away(what):
    """Twice forked, in a session of its own: nobody's child and in nobody's group."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for fd in range(256):
        try:
            os.close(fd)
        except OSError:
            pass
    what()
    os._exit(0)


def nameless():
    os.execve("/bin/sleep", ["sleep", "1000.75"], {})


def stopped():
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1000)


def chain():
    """Each lives a moment, and is always replaced."""
    while True:
        if os.fork():
            os._exit(0)
        os.setsid()


def bush():
    while True:
        if os.fork() == 0:
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(1000)
        time.sleep(0.05)


for what in (nameless, stopped, chain, bush):
    away(what)
with open("began", "w") as file:
    file.write(repr(time.time()))
os.kill(os.getpid(), signal.SIGSTOP)
while True:
    time.sleep(1000)
'''
AS_PHASE = """
import runpy
from orchestrator import phase

@phase(2, needs=[])
def python(ctx):
    runpy.run_path("stubborn.py")
"""
CGROUP = pytest.mark.parametrize("no_cgroup", ["", "1"], ids=["cgroup", "no-cgroup"])
KIND = pytest.mark.parametrize("number", [1, 2], ids=["command", "python"])


def stubborn(project: Project, timeout: float, grace: float = GRACE) -> None:
    project.settings(f'kill_grace = "{grace}s"\ntimeout = "{timeout}s"\n')
    project.file("stubborn.py", STUBBORN)
    project.commands({"number": 1, "name": "command", "run": "exec python3 -I -S stubborn.py", "needs": []})
    project.file("phases/p2.py", AS_PHASE)


def survivors(project: Project) -> list[int]:
    """Whoever is not orch; one that forks all the time may be between two pids at a look, so there are several."""
    found: set[int] = set()
    for _ in range(5):
        found |= set(project.workers())
    return sorted(found)


@pytest.mark.timeout(60 + 10 * ROUNDS)
@CGROUP
@KIND
def test_every_descendant_is_gone_soon_after_the_deadline(project: Project, number: int, no_cgroup: str) -> None:
    stubborn(project, TIMEOUT)
    worst = 0.0
    for _ in range(ROUNDS):
        (project.root / "began").unlink(missing_ok=True)
        run = project.start("run", "--only", str(number), "--force", env={"ORCH_NO_CGROUP": no_cgroup})
        began = float(run.until(lambda: (project.lines("began") or [""])[0]))
        assert len(survivors(project)) >= 4, "it is not as stubborn as it should be"
        run.wait_until_over_or(lambda: not survivors(project))
        took = time.time() - began
        worst = max(worst, took)
        assert not survivors(project)
        ended = run.wait()
        assert ended.code == 1
        assert f"FAILED      {number}" in ended.out
        assert "TIMEOUT" in ended.out
        assert took < TIMEOUT + GRACE + PROMISED + MARGIN
        project.assert_nothing_left()
    print(f"at most {worst:.2f} s after its start, deadline {TIMEOUT} s, grace {GRACE} s")


@pytest.mark.timeout(60 + 10 * ROUNDS)
@CGROUP
@KIND
def test_cancel_returns_when_all_are_gone(project: Project, number: int, no_cgroup: str) -> None:
    stubborn(project, 600, grace=4.0)  # who does not wait for the end is back long before it
    for turn in range(number, number + ROUNDS):
        (project.root / "began").unlink(missing_ok=True)
        run = project.start("run", "--only", str(number), "--force", env={"ORCH_NO_CGROUP": no_cgroup})
        run.until(lambda: project.lines("began"))
        assert len(survivors(project)) >= 4
        words = ["cancel", str(number)] if turn % 2 else ["cancel"]
        cancelled = project.orch(*words)
        left = survivors(project)
        assert (cancelled.code, left) == (0, []), cancelled
        assert cancelled.out.rstrip().endswith("; gone")
        assert run.wait().code == 1
        assert project.statuses()[number] == "cancelled"
        project.assert_nothing_left()


@CGROUP
def test_cancel_without_an_orchestrator_ends_what_its_agent_works_on(project: Project, no_cgroup: str) -> None:
    stubborn(project, 600)
    run = project.start("run", "--only", "1", env={"ORCH_NO_CGROUP": no_cgroup})
    run.until(lambda: project.lines("began"))
    run.kill()
    assert project.status()["run"]["state"] == "detached"
    cancelled = project.orch("cancel")
    left = survivors(project)
    assert (cancelled.code, left) == (0, []), cancelled
    assert project.statuses()[1] == "cancelled"
    project.assert_nothing_left()


def test_a_killed_agent_takes_the_work_with_it_at_once(project: Project) -> None:
    """`kill -9` of the agent: its orchestrator is alive, ends what is left, and runs the phase again."""
    stubborn(project, 600)
    project.settings(f'kill_grace = "{GRACE}s"\n')
    run = project.start("run", "--only", "1")
    run.until(lambda: project.lines("began"))
    first = survivors(project)
    (project.root / "stubborn.py").write_text("open('again', 'w').write('1')\n")
    (agent,) = project.agents()
    os.kill(agent, signal.SIGKILL)
    ended = run.wait()
    assert ended.code == 0, ended
    assert "INTERRUPTED" in ended.out
    assert project.lines("again")
    assert len(first) >= 4
    assert not survivors(project)
    project.assert_nothing_left()
