"""Soak: one run that never rests, and nights that are broken off again and again, for as long as asked. Nothing grows."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from orchestrator import process
from tests.driving import Project, Started, seeded, times, wait_for

SECONDS = float(os.environ.get("ORCH_TEST_SOAK") or times(14, 600))
SAMPLES = 8  # after each night
MEBIBYTE = 1024 * 1024
MEMORY_AN_HOUR = 10 * MEBIBYTE
MEMORY_AT_LEAST = 1 * MEBIBYTE  # pages that come and go between two looks
FILES_MORE = 12  # that one moment may have beyond another: drafts, an agent's folder, answers
MOST_TRIES = 1000
APART = max(0.05, SECONDS / MOST_TRIES * 1.3)  # seconds between two tries, so that they last
SETTINGS = f"""
kill_grace = "0.3s"
[logs]
keep = 3
structured_bytes = 65536
phase_bytes = 65536
[retry.TRANSIENT]
tries = {MOST_TRIES}
factor = 1
delay = {APART}
cap = {2 * APART}
[retry.INTERRUPTED]
delay = "0s"
"""
RESTLESS = """
from orchestrator import Transient, phase

@phase(2, needs=[])
def python(ctx):
    for step in ctx.track(range(20)):
        print("x" * 1000)
    raise Transient("again")
"""
WORK = """
from orchestrator import phase

@phase(4, needs=[1, 2])
def python(ctx):
    with open(f"did-{ctx.run}", "a") as file:
        file.write("4\\n")
    return {"x": "y" * 1000}
"""


class Sample(NamedTuple):
    memory: int
    descriptors: int
    threads: int


# ---- one run that never rests


def sample(pid: int) -> Sample:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Sample(pages * 4096, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")))


def restless(project: Project) -> Started:
    """Three phases that fail and are tried again, some twenty times a second where the soak is short, without an end."""
    project.settings(SETTINGS)
    project.commands(
        {"number": 1, "needs": [], "run": "seq 1 20000; echo '::progress 1/2 half'; exit 75"},
        {"number": 3, "needs": [], "run": "sleep 0.05 & exit 75"},
    )
    project.file("phases/restless.py", RESTLESS)
    return project.start("run", "--jobs", "3")


def lasting(project: Project, run: Started) -> dict[str, int]:
    """Who lives as long as the run: the orchestrator, its agent, the template."""
    agents = project.agents()
    templates = sorted(pid for pid in project.processes() if "agent.template" in process.describe(pid, 1000))
    if not agents or not templates:
        return {}
    return {"orchestrator": run.pid, "agent": agents[0], "template": templates[0]}


IN_HAND = 4  # descriptors of attempts that are always in hand on a machine that is busy; a leak is one a phase


def grown(samples: list[Sample]) -> list[str]:
    """The last third against the one before it: the first is for what is loaded once."""
    third = len(samples) // 3
    before, after = samples[third : 2 * third], samples[2 * third :]
    allowed = max(MEMORY_AT_LEAST, MEMORY_AN_HOUR * SECONDS / 3 / 3600)
    found = []
    for name in Sample._fields:
        usual = median if name == "memory" else min  # an attempt in hand has descriptors of its own
        first, last = (usual(getattr(one, name) for one in part) for part in (before, after))
        if last - first > (allowed if name == "memory" else IN_HAND):
            found.append(f"{name}: {first:g} -> {last:g}")
    return found


# ---- nights that are broken off


def pipeline(project: Project) -> None:
    project.settings(SETTINGS)
    did = 'echo {} >> "did-$ORCH_RUN"'
    project.commands(
        {"number": 1, "needs": [], "run": f"sleep 0.1; {did.format(1)}"},
        {"number": 2, "needs": [], "run": f'test "$ORCH_ATTEMPT" != "$(cat last)" || exit 75; {did.format(2)}'},
        {"number": 3, "needs": [1], "run": f"(sleep 5 &) ; {did.format(3)}; seq 1 2000"},
        {"number": 5, "needs": [4], "run": did.format(5)},
    )
    project.file("last", "x")
    project.file("phases/work.py", WORK)


def kill_orchestrator(project: Project, run: Started) -> None:
    run.kill()


def kill_agent(project: Project, run: Started) -> None:
    _signal(project.agents(), signal.SIGKILL)


def kill_all(project: Project, run: Started) -> None:
    everybody = project.processes()
    _signal(everybody, signal.SIGSTOP)
    _signal(everybody, signal.SIGKILL)
    run.wait()


def cancel(project: Project, run: Started) -> None:
    assert project.orch("cancel").code in (0, 1)  # it may be over already


def terminate(project: Project, run: Started) -> None:
    run.send(signal.SIGTERM)


def tear_journal(project: Project, run: Started) -> None:
    """What a power cut may leave: half a line behind the last."""
    run.kill()
    for newest in sorted((project.system / "journal").glob("*.jsonl"))[-1:]:
        with open(newest, "ab") as file:
            file.write(b'{"v":1,"seq":')


def lose_snapshot(project: Project, run: Started) -> None:
    run.kill()
    (project.system / "state.json").unlink(missing_ok=True)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        who = process.identity(pid)
        if who is not None:
            process.send(who, number)


FAULTS: tuple[Callable[[Project, Started], None], ...] = (
    kill_orchestrator, kill_agent, kill_all, cancel, terminate, tear_journal, lose_snapshot,
)  # fmt: skip


def night(project: Project, fault: Callable[[Project, Started], None], chance: random.Random) -> None:
    """A new run, broken off somewhere; then `orch run` until all is done."""
    for path in project.root.glob("did-*"):
        path.unlink()
    before = project.status()["run"]["id"]
    run = project.start("run", "--new", "--quiet")
    run.wait_until_over_or(lambda: bool({*project.processes()} - {run.pid}))
    time.sleep(chance.uniform(0.0, 0.8))
    fault(project, run)
    run.wait()
    has_begun = project.status()["run"]["id"] != before  # it may have been killed before it wrote that down
    last = project.orch("run", "--quiet", *(() if has_begun else ("--new",)), seconds=60)
    assert last.code == 0, (fault.__name__, last)
    assert set(project.statuses().values()) == {"completed"}, fault.__name__
    did = Counter(line for path in project.root.glob("did-*") for line in path.read_text().split())
    assert set(did) == {"1", "2", "3", "4", "5"}, (fault.__name__, did)
    if fault in (
        kill_orchestrator,
        tear_journal,
        lose_snapshot,
    ):  # the agent lived: nothing was lost, so nothing is done twice
        assert set(did.values()) == {1}, (fault.__name__, did)
    project.assert_nothing_left()


def files_in(system: Path) -> tuple[int, int]:
    """What is being written goes by the time that one looks."""
    found = []
    for folder, _, names in os.walk(system):
        for name in names:
            with suppress(FileNotFoundError):
                found.append(os.lstat(os.path.join(folder, name)).st_size)
    return len(found), sum(found)


# ---- both at once


@pytest.mark.timeout(SECONDS * 2 + 180)
def test_nothing_grows_and_nothing_is_lost_however_long_it_goes_on(projects: Callable[[str], Project]) -> None:
    chance, until = seeded(), time.monotonic() + SECONDS
    steady, nights = projects("steady"), projects("nights")
    run = restless(steady)
    who = wait_for(lambda: lasting(steady, run), why="agent and template of the steady run")
    pipeline(nights)
    samples: dict[str, list[Sample]] = {name: [] for name in who}
    files: list[tuple[int, int]] = []
    fired: Counter[str] = Counter()
    faults = list(FAULTS)
    chance.shuffle(faults)
    while time.monotonic() < until or len(files) < 4:
        fault = faults[len(files) % len(faults)]
        night(nights, fault, chance)
        fired[fault.__name__] += 1
        files.append(files_in(nights.system))
        assert not run.is_over, run.err
        for _ in range(SAMPLES):
            for name, pid in who.items():
                samples[name].append(sample(pid))
            time.sleep(0.03)
    attempts = sum(phase["attempts"] for phase in steady.phases().values())
    steady_files = files_in(steady.system)
    assert steady.orch("cancel").code == 0
    run.wait()
    print(f"{len(files)} nights, faults {dict(fired)}; {attempts} attempts in the run that never rested")
    print({name: (found[0], found[-1]) for name, found in samples.items()}, files[0], files[-1], steady_files)
    assert attempts > 3 * 0.3 * SECONDS / (APART + 0.3), "it rested: the test proves nothing"
    assert {name: told for name, found in samples.items() if (told := grown(found))} == {}
    half = len(files) // 2
    assert max(many for many, _ in files[half:]) <= max(many for many, _ in files[: half + 1]) + FILES_MORE, files
    assert steady_files[0] < 60, "logs of attempts are kept for ever"
    assert files[-1][1] < 5 * MEBIBYTE
    steady.assert_nothing_left()
