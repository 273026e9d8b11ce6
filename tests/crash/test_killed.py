"""kill -9 at random moments: nothing that was finished is done again, nothing that runs is started twice."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator import process
from orchestrator.store.reading import read_lines, read_state
from tests.crash.warm import Warm, warm
from tests.driving import TIMES, Project, seeded, times

__all__ = ["warm"]

PHASES = 60
KILLS = times(5, 25)
RANDOM_KILLS = times(30, 1000)  # of two commands each
PACE = 0.6 if TIMES else 0.25  # seconds that a phase takes
PYTHON = f"""
import os, time
from orchestrator import phase

def note(text):
    fd = os.open("ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, (text + "\\n").encode())
    os.close(fd)

def make(number, needs):
    @phase(number, needs=needs, name=f"p{{number}}")
    def work(ctx):
        note(f"begin {{number}}")
        for _ in ctx.track(range(10)):
            time.sleep({PACE / 10})
        note(f"end {{number}}")
        return {{"number": number}}

for number in range(2, {PHASES + 1}, 2):
    make(number, [need for need in (number - 7, number - 4) if need > 0])
"""


def graph(project: Project) -> None:
    """Half of it commands, half Python, some six levels deep."""
    project.commands(
        *(
            {"number": number, "name": f"c{number}", "needs": [need for need in (number - 5, number - 8) if need > 0],
             "run": f"echo begin {number} >> ran; sleep {PACE}; echo end {number} >> ran"}
            for number in range(1, PHASES + 1, 2)
        )
    )  # fmt: skip
    project.file("phases/even.py", PYTHON)


class Looker:
    """Reads state.json again and again, as a program that knows nothing of orch would."""

    def __init__(self, path: Path) -> None:
        self.path, self.looks, self.faults = path, 0, list[str]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Looker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            try:
                text = self.path.read_bytes()
            except FileNotFoundError:
                continue
            self.looks += 1
            try:
                json.loads(text)["phases"]
            except (ValueError, KeyError) as fault:
                self.faults.append(f"{fault!r} in {text[:200]!r}")


@pytest.mark.timeout(60 + 12 * KILLS)
def test_a_run_that_is_killed_again_and_again_does_everything_once(project: Project) -> None:
    chance, cut_in_work = seeded(), 0
    graph(project)
    with Looker(project.system / "state.json") as looker:
        for turn in range(KILLS):
            run = project.start("run", "--jobs", "4")
            if turn % 2:  # on a slow machine, too, some must meet it at work
                already = len(project.lines("ran"))
                run.until(lambda before=already: len(project.lines("ran")) > before)
            time.sleep(chance.uniform(0.05, 0.4 if turn % 2 else 1.0))
            assert not run.is_over, (run.out, run.err)
            run.kill()
            began, ended = (sum(line.startswith(word) for line in project.lines("ran")) for word in ("begin", "end"))
            cut_in_work += began > ended
        last = project.orch("run", "--jobs", "4", seconds=120)
    assert last.code == 0, last
    assert cut_in_work, "no kill met a phase at work: the test proves nothing"
    ran = sorted(project.lines("ran"))
    assert ran == sorted(f"{word} {number}" for word in ("begin", "end") for number in range(1, PHASES + 1))
    assert project.statuses() == dict.fromkeys(range(1, PHASES + 1), "completed")
    # An attempt that never reached its agent, which had left by the time anybody asked, counts as interrupted.
    again = {number for number, phase in project.phases().items() if phase["attempts"] > 1}
    errors = project.state()["phases"]
    assert all(error["code"] == "INTERRUPTED" for number in again for error in errors[str(number)]["errors"])
    assert len(again) <= KILLS
    assert looker.looks > 10 * KILLS
    assert not looker.faults
    project.assert_nothing_left()


def _journal(project: Project) -> dict[str, bytes]:
    kept = [path for path in project.system.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in kept}


def _cut_down(project: Project) -> None:
    """Phase 1 is done, 2 (a command) and 3 (Python) are in progress, 4 waits for them; then all are killed."""
    project.commands(
        {"number": 1, "name": "done", "run": "echo 1 >> ran", "needs": []},
        {"number": 2, "name": "command", "run": "echo 2 >> ran; test -e short || sleep 1000", "needs": [1]},
        {"number": 4, "name": "after", "run": "echo 4 >> ran", "needs": [2, 3]},
    )
    project.file(
        "phases/p3.py",
        "import pathlib, time\nfrom orchestrator import phase\n\n@phase(3, needs=[1])\ndef python(ctx):\n"
        "    open('ran', 'a').write('3\\n')\n    time.sleep(0 if pathlib.Path('short').exists() else 1000)\n",
    )
    run = project.start("run")
    run.until(lambda: {"2", "3"} <= set(project.lines("ran")))
    run.until(lambda: set(project.statuses().values()) == {"completed", "in_progress", "pending"})
    project.end_all()
    run.wait()


MESSAGE = "is gone (its process is not there any more); it was in progress since"


def _told(errors: dict[int, dict[str, Any]]) -> None:
    assert set(errors) == {2, 3}
    for error in errors.values():
        assert error["code"] == "INTERRUPTED"
        assert MESSAGE in error["message"], error


def test_after_the_death_of_all_a_reader_shows_what_recovery_writes(project: Project) -> None:
    _cut_down(project)
    before = _journal(project)
    shown = project.status()
    text = project.orch("status")
    assert shown["run"]["state"] == "interrupted"
    assert {phase["number"]: phase["status"] for phase in shown["phases"]} == {
        1: "completed", 2: "failed", 3: "failed", 4: "pending",
    }  # fmt: skip
    assert {event["number"] for event in shown["recovery"] if event["event"] == "PhaseRecovered"} == {2, 3}
    assert "2 phases shown here as recovery would write it: `orch run` or `orch recover` does" in text.out
    _told(project.errors())
    assert _journal(project) == before, "a reader wrote something"
    assert project.state()["phases"]["2"]["status"] == "in_progress"

    began = time.monotonic()
    recovered = project.orch("recover")
    assert recovered.code == 0
    assert time.monotonic() - began < 10, "a lock was in the way"
    assert [line.partition(":")[0] for line in recovered.out.splitlines()[:2]] == ["phase 2", "phase 3"]
    assert recovered.out.count(MESSAGE) == 2
    assert project.state()["phases"]["2"]["status"] == "failed"
    again = project.orch("recover")
    assert (again.code, again.out) == (0, "nothing to recover\n")

    project.file("short", "")
    run = project.orch("run")
    assert run.code == 0, run
    assert project.lines("ran")[0] == "1"
    assert sorted(project.lines("ran")) == ["1", "2", "2", "3", "3", "4"]
    project.assert_nothing_left()


def test_the_next_run_recovers_by_itself_and_says_so(project: Project) -> None:
    _cut_down(project)
    project.file("short", "")
    began = time.monotonic()
    run = project.orch("run")
    assert run.code == 0, run
    assert time.monotonic() - began < 15
    assert run.out.count(MESSAGE) == 2, run
    assert sorted(project.lines("ran")) == ["1", "2", "2", "3", "3", "4"]
    phases = project.state()["phases"]
    assert [error["code"] for error in phases["2"]["errors"]] == ["INTERRUPTED"]


def test_what_outlived_its_agent_is_ended_by_the_next_holder(project: Project) -> None:
    """Orchestrator, agent and template die; the work, with its own session, does not notice."""
    project.commands(
        {"number": 1, "name": "work", "needs": [],
         "run": "test -e short && exit; setsid sleep 1000 & echo began > began; trap '' TERM; sleep 1000"}
    )  # fmt: skip
    run = project.start("run")
    run.until(lambda: project.lines("began"))
    workers = set(project.workers())
    assert len(workers) >= 3
    project.end_all(but=workers)
    run.wait()
    identities = [found for pid in workers if (found := process.identity(pid))]
    recovered = project.orch("recover")
    assert recovered.code == 0
    assert "phase 1: failed, INTERRUPTED" in recovered.out
    assert [who.pid for who in identities if process.is_alive(who) != process.DEAD] == []
    project.assert_nothing_left()


def test_killed_between_lock_and_work(project: Project) -> None:
    """At the start, where folders, lock, journal and agent come into being."""
    chance = seeded()
    project.commands({"number": 1, "name": "one", "run": "echo 1 >> ran", "needs": []})
    for _ in range(times(6, 60)):
        run = project.start("run", "--new")
        time.sleep(chance.uniform(0.1, 0.5))
        run.kill()
        ended = project.orch("status", "--json")
        assert ended.code == 0, ended
        json.loads(ended.out)
    assert project.orch("run").code == 0
    assert project.statuses() == {1: "completed"}
    project.assert_nothing_left()


OTHERS = (("run",), ("run", "--new"), ("recover",), ("retry", "1"), ("cancel",), ("fsck", "--repair"))


@pytest.mark.timeout(60 + RANDOM_KILLS)
def test_two_that_write_and_one_that_reads_while_both_are_killed_at_random(project: Project, warm: Warm) -> None:
    """Nothing that was decided is lost, whoever decided it."""
    chance, hit, last, pace, turns = seeded(), 0, 0, 0.25, 0
    project.commands(*({"number": number, "run": f"echo {number} >> ran"} for number in range(1, 7)))
    with Looker(project.system / "state.json") as looker:
        # Until enough was cut and enough was decided, however fast this machine is just now; the pace follows it.
        while turns < RANDOM_KILLS or (min(hit, last) <= RANDOM_KILLS and turns < 4 * RANDOM_KILLS):
            turns, before = turns + 1, hit
            writers = [warm.start(project, "run", "--new"), warm.start(project, *chance.choice(OTHERS))]
            for writer in chance.sample(writers, 2):
                time.sleep(chance.uniform(0.0, pace))
                hit += not writer.is_over
                writer.kill()
                assert "Traceback" not in writer.text
            seq = read_state(project.system, verify=True).position.seq
            assert seq >= last
            pace = min(1.5 * pace, 4.0) if seq <= last + 1 else pace / 1.5 if hit == before else pace
            last = seq
    print(f"{hit} of {2 * turns} killed while they ran, {last} decisions, {looker.looks} looks")
    assert hit > RANDOM_KILLS and last > RANDOM_KILLS
    assert not looker.faults
    ended = warm.orch(project, "run", "--new")
    assert ended.code == 0 and set(project.statuses().values()) == {"completed"}, ended
    told = warm.orch(project, "fsck", "--json")
    flaws = json.loads(told.out)["findings"]  # whoever asked and was killed half a minute ago may leave its draft
    assert all(re.fullmatch(r"system/asks/\..*\.new", flaw["file"]) for flaw in flaws), told
    assert [line.seq for line in read_lines(project.system)][-1] > last
    project.assert_nothing_left()
