"""Ends of whole trees: each of these does what it can to survive its deadline."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import process
from tests.agent.driving import Driven, order, wait_for
from tests.driving import times

TIMEOUT, GRACE = 0.4, 0.3
ROUNDS = times(1, 20)

PYTHON = f"{sys.executable} -I -S -c"
CHAIN = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""
BUSH = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    if os.fork() == 0:
        os.setsid()
        time.sleep(0.02)
        os._exit(0) if os.fork() else time.sleep(100)
    time.sleep(0.005)
"""
EMPTY = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
for fd in range(3): os.close(fd)
os.execve("/bin/sleep", ["sleep", "1000.25"], {})
"""
MANY = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for i in range(200):
    if os.fork() == 0:
        if i % 2: os.setsid()
        time.sleep(1000)
time.sleep(1000)
"""
STUBBORN = {
    "ignores SIGTERM": "trap '' TERM; while :; do sleep 1000.25; done",
    "leaves its session": "trap '' TERM; setsid sleep 1000.25 & sleep 1000.25",
    "forks twice": "(setsid sh -c 'trap \"\" TERM; sleep 1000.25; sleep 1000.25' &) ; sleep 1000.25",
    "empty environment": f"{PYTHON} '{EMPTY}'; sleep 1000.25",
    "stops itself": "sh -c 'kill -STOP $$; sleep 1000.25' & kill -STOP $$; sleep 1000.25",
    "keeps forking": f"{PYTHON} '{CHAIN}' & exec sleep 1000.25",
    "keeps forking alone": f"exec {PYTHON} '{CHAIN}'",
    "grows": f"{PYTHON} '{BUSH}'",
    "200 children": f"{PYTHON} '{MANY}'",
    "prints much": "trap '' TERM; yes & sleep 1000.25",
    "holds the pipe": "trap '' TERM; (trap '' TERM; setsid sleep 1000.25) & wait",
}


def survivors(project: Path) -> list[str]:
    """Who still works in the project, or sleeps as our sleepers do, however it hides."""
    found = []
    for entry in process.scan().values():
        try:
            is_here = os.readlink(f"/proc/{entry.pid}/cwd") == str(project)
        except OSError:
            continue
        if is_here and not entry.is_over:
            found.append(process.describe(entry.pid))
    return found


@pytest.fixture(params=["0", "1"], ids=["cgroup", "no-cgroup"])
def stern(request: pytest.FixtureRequest, agents: Callable[..., Driven]) -> Driven:
    return agents(env={"ORCH_NO_CGROUP": request.param})


@pytest.mark.parametrize("name", STUBBORN)
def test_nobody_outlives_the_deadline(stern: Driven, name: str) -> None:
    for number in range(1, ROUNDS + 1):
        what = order(number, STUBBORN[name], timeout=TIMEOUT, kill_grace=GRACE)
        began = time.monotonic()
        outcome = stern.owner.run(what)
        took = time.monotonic() - began
        left = [each for each in survivors(stern.project) if "orchestrator/agent" not in each]
        assert not left
        if name == "keeps forking alone":
            assert outcome.kind in ("timed_out", "exited")  # its first process ends at once
        else:
            assert outcome.kind == "timed_out"
        assert took < TIMEOUT + GRACE + 1.0 + 1.0  # the last second for a busy machine


def test_a_leftover_of_a_success_is_ended_and_named(stern: Driven) -> None:
    outcome = stern.owner.run(order(1, "setsid sleep 1000.25 & exit 0", kill_grace=GRACE))
    assert outcome.succeeded
    assert len(outcome.leftovers) == 1
    assert "sleep 1000.25" in outcome.leftovers[0]
    assert [each for each in survivors(stern.project) if "sleep" in each] == []


def test_a_leftover_that_ignores_sigterm_costs_a_second_at_most(stern: Driven) -> None:
    began = time.monotonic()
    outcome = stern.owner.run(
        order(1, "sh -c 'trap \"\" TERM; setsid sleep 1000.25; sleep 1000.25' & sleep 0.1; exit 0", kill_grace=30)
    )
    assert outcome.succeeded
    assert outcome.insisted
    assert 0.9 < time.monotonic() - began < 6


def test_who_heeds_the_signal_may_tidy_up(stern: Driven) -> None:
    what = order(
        1, "trap 'sleep 0.2; echo tidy > tidy; exit 0' TERM; while :; do sleep 0.05; done", timeout=0.3, kill_grace=5
    )
    outcome = stern.owner.run(what)
    assert outcome.kind == "timed_out"
    assert not outcome.insisted
    assert (stern.project / "tidy").read_text() == "tidy\n"
    assert outcome.duration_seconds < 4


def test_the_neighbour_is_left_alone(stern: Driven) -> None:
    """The end of one tree must not touch another, even a part of it that has left session and parent."""
    calm = order(1, "setsid sh -c 'sleep 1.2; echo alive > calm' & wait", phase=4)
    stern.owner.start(calm)
    stern.owner.wait("started", calm)
    for number in range(1, 4):
        assert (
            stern.owner.run(order(number, f"{PYTHON} '{CHAIN}' & sleep 1000.25", timeout=0.1, kill_grace=0.1)).kind
            == "timed_out"
        )
    assert stern.owner.outcome(calm).succeeded
    assert (stern.project / "calm").read_text() == "alive\n"


def test_what_loses_its_parent_stays_below_its_attempt(stern: Driven) -> None:
    """Each attempt is subreaper of its own tree: whose child it is, is known as long as the attempt lives."""
    what = order(1, "(setsid sleep 1000.25 &) ; sleep 1000.25; :")
    stern.owner.start(what)
    pid = stern.owner.wait("started", what)["pid"]
    below = wait_for(lambda: (found := process.descendants(pid)) and len(found) == 2 and found)
    assert {process.entry_of(each).parent for each in below} == {pid}  # type: ignore[union-attr]
    stern.owner.stop(what, insist=True)
    assert stern.owner.outcome(what).kind == "stopped"


def test_stop_ends_the_tree_and_insisting_does_not_wait(stern: Driven) -> None:
    what = order(1, "trap '' TERM; setsid sleep 1000.25 & sleep 1000.25; sleep 1000.25", kill_grace=60)
    stern.owner.start(what)
    stern.owner.wait("started", what)
    time.sleep(0.2)
    stern.owner.stop(what)
    time.sleep(0.3)
    stern.owner.stop(what, insist=True)
    outcome = stern.owner.outcome(what, seconds=10)
    assert outcome.kind == "stopped"
    assert outcome.insisted
    assert [each for each in survivors(stern.project) if "sleep" in each] == []
