"""kill -9 of the agent, the template, the orchestrator, any two, all: no orphan, no work done twice, all done in the end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from itertools import combinations

import pytest

from orchestrator import process
from orchestrator.bridge.survey import identity_document
from orchestrator.core.events import AgentEngaged, AttemptStarted
from orchestrator.core.names import Identity
from tests.core.given import intended
from tests.crash.warm import Command, Warm, warm
from tests.driving import Project, seeded, times, wait_for
from tests.store.given import commit_all, decision, opening, store_of

__all__ = ["warm"]

AGENT, TEMPLATE, ORCHESTRATOR = "agent", "template", "orchestrator"
ALL = (AGENT, TEMPLATE, ORCHESTRATOR)
LOSSES = [who for many in (1, 2, 3) for who in combinations(ALL, many)]
ROUNDS = times(1, 100)  # for each of the seven, at work
STUCK, PROMISED, MARGIN = 1_000, 1.0, 3.0
MOMENTS = times(7, 700)  # of all of them, at any moment
WORK, AFTER = (1, 2, 3, 4), 5

# Whoever works holds a lock that all it starts inherit: two trees of one phase cannot both have it.
COMMAND = "exec 9>>lock-{n}; flock -n 9 || echo doubled {n} >> ran; echo begin {n} >> ran; {wait}; echo end {n} >> ran"
GATE = "until test -e go; do sleep 0.02; done"
PYTHON = """
import fcntl, os, time
from orchestrator import phase

def note(text):
    fd = os.open("ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, (text + "\\n").encode())
    os.close(fd)

def work(number, gated):
    held = open(f"lock-{number}", "a")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        note(f"doubled {number}")
    note(f"begin {number}")
    while gated and not os.path.exists("go"):
        time.sleep(0.02)
    note(f"end {number}")

@phase(3, needs=[])
def third(ctx):
    work(3, True)

@phase(4, needs=[])
def fourth(ctx):
    work(4, True)

@phase(5, needs=[1, 2, 3, 4])
def after(ctx):
    work(5, False)
"""


def pipeline(project: Project) -> None:
    """Two commands (one with a tree that left its session), two of Python, all wait at a gate; then one after them."""
    deep = f"setsid sh -c '{GATE}' & wait"
    project.settings('kill_grace = "0.3s"\nbeat_interval = "0.5s"\n')
    project.commands(
        {"number": 1, "name": "plain", "needs": [], "run": COMMAND.format(n=1, wait=GATE)},
        {"number": 2, "name": "deep", "needs": [], "run": COMMAND.format(n=2, wait=deep)},
    )
    project.file("phases/python.py", PYTHON)


def counts(project: Project, word: str) -> Counter[int]:
    return Counter(int(line.split()[1]) for line in project.lines("ran") if line.startswith(word))


class Scene:
    """One run that loses somebody, and the run that ends it."""

    def __init__(self, project: Project, warm: Warm, chance: random.Random) -> None:
        self.project, self.warm, self.chance = project, warm, chance
        for name in ("go", "ran"):
            (project.root / name).unlink(missing_ok=True)
        self.run = warm.start(project, "run", "--new")
        self.trees: list[Identity] = []
        self.roots: list[Identity] = []  # of them, whom the agent itself has as children
        self.killed: set[str] = set()
        self.at_once = False

    def wait_until_all_work(self) -> None:
        self.run.until(lambda: set(counts(self.project, "begin")) == set(WORK))
        phases = {str(number) for number in WORK}
        wait_for(lambda: {n for n, one in self.project.state()["phases"].items() if one["step"] == "running"} == phases)

    def lose(self, who: tuple[str, ...]) -> None:
        """At the same instant, as far as they can tell, or one shortly after the other."""
        self.trees = [found for pid in self.project.workers() if (found := process.identity(pid))]
        agents = {*self.project.agents()}
        self.roots = [one for one in self.trees if (it := process.entry_of(one.pid)) and it.parent in agents]
        there = {name: pid for name in who if (pid := self.pid_of(name))}
        self.killed = set(there)
        self.at_once = self.chance.random() < 0.6
        for pid in there.values() if self.at_once else ():
            _kill(pid, signal.SIGSTOP)
        for pid in self.chance.sample([*there.values()], len(there)):
            _kill(pid, signal.SIGKILL)
            time.sleep(0.0 if self.at_once else self.chance.uniform(0.0, 0.03))

    def pid_of(self, name: str) -> int:
        if name == ORCHESTRATOR:
            return 0 if self.run.is_over else self.run.pid
        if name == AGENT:
            return next(iter(self.project.agents()), 0)
        born = [(found.ticks, pid) for pid in self.project.templates() if (found := process.identity(pid))]
        return min(born, default=(0, 0))[1]

    def go_on(self) -> Command:
        """The orchestrator that is there, or the next; by then it has made up its mind about what it found."""
        if ORCHESTRATOR not in self.killed:
            return self.run
        self.run.wait()
        following = self.warm.start(self.project, "run")
        wait_for(lambda: following.is_over or following.pid in self.owners())
        return following

    def owners(self) -> set[int]:
        """Of the run that the state tells of; nobody before there is one."""
        try:
            return {self.project.state()["run"]["owner"]["pid"]}
        except (FileNotFoundError, TypeError):
            return set()

    def until_roots_are_gone(self) -> float:
        """Seconds after the loss of their agent; nobody else has to do anything for that."""
        began = time.monotonic()
        wait_for(lambda: all(process.is_alive(one) == process.DEAD for one in self.roots))
        return time.monotonic() - began


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def interrupted(project: Project) -> set[int]:
    phases = project.state()["phases"]
    return {int(n) for n, one in phases.items() if any(error["code"] == "INTERRUPTED" for error in one["errors"])}


def assert_all_done_once(project: Project) -> None:
    assert not counts(project, "doubled"), project.lines("ran")
    assert counts(project, "end") == dict.fromkeys((*WORK, AFTER), 1), project.lines("ran")
    assert {one["status"] for one in project.state()["phases"].values()} == {"completed"}


@pytest.mark.timeout(60 + 10 * ROUNDS)
@pytest.mark.parametrize("who", LOSSES, ids="+".join)
def test_lost_at_work(project: Project, warm: Warm, who: tuple[str, ...]) -> None:
    """Whatever was in hand when the agent died is run again, and said; whatever else died, it goes on undisturbed."""
    chance, slowest, fired = seeded(), 0.0, 0
    pipeline(project)
    for _ in range(ROUNDS):
        scene = Scene(project, warm, chance)
        scene.wait_until_all_work()
        scene.lose(who)
        assert scene.killed == set(who), "somebody was not there to be killed"
        fired += len(scene.killed)
        if AGENT in who:
            assert len(scene.roots) >= len(WORK)
            slowest = max(slowest, scene.until_roots_are_gone())
        following = scene.go_on()
        lost = set(WORK) if AGENT in who else set[int]()
        again = len(WORK) + len(lost)
        following.until(lambda many=again: counts(project, "begin").total() == many)
        gone = [one for one in scene.trees if process.is_alive(one) == process.DEAD]
        assert not lost or len(gone) == len(scene.trees), "somebody outlived the agent, and its phase runs again"
        project.file("go", "")
        ended = following.wait()
        assert ended.code == 0, (who, ended)
        assert counts(project, "begin") == {number: 1 + (number in lost) for number in (*WORK, AFTER)}
        assert interrupted(project) == lost
        if lost and scene.at_once:  # else the first may have written it down, and died before it said so
            assert "INTERRUPTED" in ended.text, ended
        assert_all_done_once(project)
        project.assert_nothing_left()
    print(f"{ROUNDS} times, {fired} killed; what an agent had started was gone at most {slowest:.3f} s after it")


@pytest.mark.timeout(60 + 10 * MOMENTS)
def test_lost_at_any_moment(project: Project, warm: Warm) -> None:
    """Also before there is an agent, a template, an attempt; while attempts begin, and while they end."""
    chance, met, interruptions = seeded(), Counter[str](), 0
    pipeline(project)
    for turn in range(MOMENTS):
        who = LOSSES[turn % len(LOSSES)]
        scene = Scene(project, warm, chance)
        if turn % 3:  # soon after they are there
            scene.run.until(lambda one=scene, those=who: all(map(one.pid_of, those)))
            time.sleep(chance.uniform(0.0, 0.1))
        else:
            if chance.random() < 0.5:
                project.file("go", "")
            time.sleep(chance.uniform(0.0, 0.6))
        scene.lose(who)
        met.update(scene.killed)
        following = scene.go_on()
        project.file("go", "")
        ended = following.wait()
        assert ended.code == 0, (who, ended)
        assert not counts(project, "doubled"), project.lines("ran")
        began, lost = counts(project, "begin"), interrupted(project)
        assert all(many <= 1 + (number in lost) for number, many in began.items()), (began, lost)
        assert not lost or AGENT in scene.killed, (who, lost)
        assert {one["status"] for one in project.state()["phases"].values()} == {"completed"}
        interruptions += len(lost)
        project.assert_nothing_left()
    print(f"{MOMENTS} times at any moment; killed {dict(met)}; {interruptions} attempts were lost and run again")
    assert {*met} == {*ALL}, "one of the three was never killed"


def test_a_thousand_stuck_phases_are_recovered_at_once(project: Project, warm: Warm) -> None:
    """Their agent is dead; of two that recover them together, each phase is recovered by one."""
    project.commands(
        *({"number": number, "name": f"p{number}", "run": "true", "needs": []} for number in range(1, STUCK + 1))
    )
    dead = process.myself().replace(ticks=1)
    folder = project.system / "agents" / "a1"
    folder.mkdir(parents=True)
    (folder / "identity.json").write_bytes(identity_document("a1", dead))
    store = store_of(project.system)
    numbers = range(1, STUCK + 1)
    commit_all(store, [opening(STUCK), decision(AgentEngaged("a1", dead))])
    commit_all(store, [decision(*map(intended, numbers[at : at + 250])) for at in range(0, STUCK, 250)], settle=False)
    commit_all(store, [decision(*(AttemptStarted(n, 1, 4_000_000 + n, 1) for n in numbers))])
    store.close()
    both = [warm.start(project, "recover") for _ in range(2)]
    ended = [each.wait() for each in both]
    used = max(each.processor_seconds for each in both)
    print(f"{STUCK} stuck phases recovered in {used:.2f} s of a processor, after imports")
    assert used < PROMISED * MARGIN
    assert [each.code for each in ended] == [0, 0], ended
    assert sorted(each.out.count("failed, INTERRUPTED") for each in ended) == [0, STUCK]
    assert {one["status"] for one in project.state()["phases"].values()} == {"failed"}
