"""orch health: each thing that can be wrong, made wrong; what it says, and the exit code that a monitor sees."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from orchestrator import checkup, clock
from orchestrator.cli.asking import ask
from orchestrator.config import settings
from orchestrator.core.due import skipped
from orchestrator.core.health import judge
from orchestrator.core.names import iso
from orchestrator.core.schedule import Schedule
from orchestrator.store import schedules
from orchestrator.store.queue import Queue
from tests.driving import FAST, MORTAL, Project, wait_for


def told(project: Project) -> tuple[int, dict[str, Any]]:
    ended = project.orch("health", "--json")
    assert ended.err == "", ended
    document: dict[str, Any] = json.loads(ended.out)
    return ended.code, document


def whats(project: Project) -> list[str]:
    return [one["what"] for one in told(project)[1]["findings"]]


def one(project: Project, run: str = "true", **keys: Any) -> None:
    project.commands({"number": 1, "name": "one", "run": run, "retries": 0, **keys})


def test_a_project_without_a_run_and_one_that_went_well_are_healthy(project: Project) -> None:
    one(project)
    for _ in range(2):
        ended = project.orch("health")
        assert ended.code == 0, ended
        assert ended.out == "healthy: 100 of 100 (state 40/40, agents 30/30, services 20/20, host 10/10)\n"
        project.orch("run", "-q")


def test_a_failed_run_degrades_and_names_its_phases(project: Project) -> None:
    one(project, "exit 1")
    project.orch("run", "-q")
    ended = project.orch("health")
    assert ended.code == 1
    assert "  state -20: the last run failed: phase 1\n      `orch status` tells why, `orch run` goes on" in ended.out
    one(project)
    project.orch("run", "-q")
    assert told(project)[0] == 0


def test_what_keeps_the_next_run_from_beginning_is_said(project: Project) -> None:
    one(project)
    project.settings("jbos = 3\n")
    project.file("phases/bad.py", "def (")
    code, document = told(project)
    assert code == 1 and document["score"] == 60
    assert [one["what"].split(":")[0] for one in document["findings"]] == ["the next run cannot begin"] * 2


def test_damage_is_bad_by_itself(project: Project) -> None:
    one(project)
    project.orch("run", "-q")
    for path in (project.system / "journal").iterdir():
        path.write_bytes(path.read_bytes()[:100] + b"x" + path.read_bytes()[101:])
    (project.system / "state.json").write_text("{}")
    code, document = told(project)
    assert code == 6 and document["findings"][0]["critical"] and "damaged" in document["findings"][0]["what"]


def test_an_orchestrator_that_is_silent_is_bad_once_it_counts_as_hung(project: Project) -> None:
    project.settings('heartbeat_timeout = "1s"\nbeat_interval = "0.2s"\n' + FAST)
    one(project, "until [ -e go ]; do sleep 0.02; done")
    run = project.start("run", "-q")
    wait_for(lambda: project.system.exists() and 1 in project.statuses() and project.statuses()[1] == "in_progress")
    assert told(project)[0] == 0, "while it runs and beats all is well"
    run.send(signal.SIGSTOP)
    wait_for(lambda: told(project)[0] == 6)
    assert whats(project) == ["the orchestrator was stopped with a signal"]
    run.send(signal.SIGCONT)
    project.file("go", "")
    assert run.wait().code == 0
    assert told(project)[0] == 0


def test_what_was_cut_off_is_said_until_somebody_goes_on_with_it(project: Project) -> None:
    one(project, "until [ -e go ]; do sleep 0.02; done")
    run = project.start("run", "-q")
    wait_for(lambda: project.system.exists() and project.statuses().get(1) == "in_progress")
    project.end_all(but=[os.getpid()])
    run.popen.wait(30)
    assert told(project)[0] == 1
    assert any("phase 1 lost with their agent" in what for what in whats(project)) or "cut off" in str(whats(project))
    project.file("go", "")
    assert project.orch("run", "-q").code == 0
    assert told(project)[0] == 0


def test_a_schedule_that_nobody_starts_is_said_and_what_was_missed_last(project: Project) -> None:
    one(project)
    project.orch("run", "-q")
    schedules.write(project.system, Schedule("nightly", "* * * * *", since=iso(time.time() - 3600)))
    code, document = told(project)
    assert code == 6 and "schedule nightly: nothing began" in document["findings"][0]["what"]
    assert document["findings"][1]["part"] == "services", "nothing would begin it either"
    assert project.orch("cron", "fire", "nightly").code == 0
    assert [one["part"] for one in told(project)[1]["findings"]] == ["services"], "what was missed is in the history"
    schedules.path_of(project.system, "nightly").write_text("{")
    assert any("nightly.json cannot be read" in what for what in whats(project))


def test_what_is_still_to_be_caught_up_is_no_alarm_while_a_run_goes_on(project: Project) -> None:
    one(project, "touch begun; until test -e go; do sleep 0.02; done")
    now = time.time()
    minutes = sorted({time.gmtime(now - 60 * many).tm_min for many in (25, 20, 15)})
    at = f"{','.join(map(str, minutes))} * * * *"
    how = {"overlap": "queue", "catch_up": 3600.0, "catch_up_all": True, "tz": "UTC"}
    schedules.write(project.system, Schedule("nightly", at, since=iso(now - 1800), **how))
    assert any("nothing began" in what for what in whats(project))
    fired = project.start("cron", "fire", "nightly")
    fired.until((project.root / "begun").exists)
    assert not any("nothing began" in what for what in whats(project))
    project.file("go", "")
    assert fired.wait().code == 0


def test_one_that_waits_and_does_not_take_its_turn_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    one(project)
    assert project.orch("run", "-q").code == 0
    now = time.time()
    schedules.write(project.system, Schedule("nightly", "* * * * *", overlap="queue", since=iso(now)))
    queue = Queue(project.system, "nightly")
    assert queue.enter(now)
    for later, is_said in ((60.0, False), (1200.0, True)):
        monkeypatch.setattr(clock, "now", lambda later=later: now + later)
        found = [finding.what for finding in checkup.findings(project.root, {})]
        assert any("does not take it" in what for what in found) is is_said, found
    queue.leave()
    assert not any("does not take it" in finding.what for finding in checkup.findings(project.root, {}))


def test_a_run_by_hand_makes_up_for_what_was_missed_as_the_remedy_says(project: Project) -> None:
    one(project)
    minute = time.gmtime(time.time() - 1200).tm_min
    schedules.write(project.system, Schedule("nightly", f"{minute} * * * *", tz="UTC", since=iso(time.time() - 1800)))
    assert project.orch("cron", "fire", "nightly").code == 0
    assert any("1 missed" in what for what in whats(project))
    assert project.orch("run", "--new", "-q").code == 0
    assert not any("missed" in what for what in whats(project))


def test_a_disk_that_fills_up_and_one_that_is_full(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    one(project)
    project.orch("run", "-q")
    real = os.statvfs(project.system)

    def disk(share: float, size: int = 100_000_000_000, names: float = 0.5) -> Any:
        blocks = size // 4096
        fields = (
            4096,
            4096,
            blocks,
            int(blocks * share),
            int(blocks * share),
            1000,
            int(1000 * names),
            int(1000 * names),
        )
        return os.statvfs_result((*fields, real.f_flag, 255))

    cases = [(disk(0.5), 0), (disk(0.04), 1), (disk(0.005), 6), (disk(0.5, names=0.001), 6), (disk(0.02, 10**9), 6)]
    for found, code in cases:
        monkeypatch.setattr(checkup.os, "statvfs", lambda path, found=found: found)
        assert judge(checkup.findings(project.root, {})).exit_code == code


def test_a_folder_that_may_not_be_written_is_bad(project: Project) -> None:
    one(project)
    project.orch("run", "-q")
    project.system.chmod(0o500)
    try:
        ended = project.orch("health", before=MORTAL)
    finally:
        project.system.chmod(0o700)
    assert ended.code == 6 and "cannot be written" in ended.out


def test_it_writes_nothing(project: Project) -> None:
    one(project)
    project.orch("run", "-q")
    project.assert_nothing_left()  # its agent leaves a moment after it
    before = {path: path.lstat().st_mtime_ns for path in project.system.rglob("*")}
    assert told(project)[0] == 0
    assert {path: path.lstat().st_mtime_ns for path in project.system.rglob("*")} == before


def test_what_people_were_not_told_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.settings(FAST + '[notify.ops]\nurl = "http://127.0.0.1:9/x"\n')
    one(project, "exit 1")
    project.orch("run", "-q")
    assert project.status()["notifications"]["waiting"] == 1
    assert [one["part"] for one in told(project)[1]["findings"]] == ["state"], "for a moment that is no news"
    monkeypatch.setattr(checkup, "UNTOLD", -1.0)
    found = [one for one in checkup.findings(project.root, {}) if one.part == "services"]
    assert [one.cost for one in found] == [10] and "undelivered: 1 message for" in found[0].what
    project.orch("notify", "drop", "--all")


def test_work_without_its_orchestrator_is_said_while_it_goes_on(project: Project) -> None:
    one(project, "until [ -e go ]; do sleep 0.02; done")
    run = project.start("run", "-q")
    wait_for(lambda: project.system.exists() and project.statuses().get(1) == "in_progress")
    run.kill()
    code, document = told(project)
    assert code == 1 and "is gone, its agent works on" in document["findings"][0]["what"]
    project.file("go", "")
    assert project.orch("run", "-q").code == 0
    assert told(project)[0] == 0


def test_the_file_of_a_secret_that_cannot_be_used_is_said(project: Project) -> None:
    project.settings(FAST + '[secrets]\ntoken = { file = ".token" }\nother = { env = "NOT_HERE" }\n')
    one(project)
    assert "does not exist" in whats(project)[0]
    project.file(".token", "something").chmod(0o600)
    assert told(project)[0] == 0, "what a monitor has in its environment says nothing of what a run has"


def test_starts_that_are_left_out_again_and_again_are_said(project: Project) -> None:
    one(project)
    project.orch("run", "-q")
    now = time.time() // 60 * 60
    schedules.write(project.system, Schedule("nightly", "* * * * *", since=iso(now - 30)))
    for place in range(3):
        instant = skipped("nightly", [now - 180 + 60 * place], "run r1 was still going on")
        ask(project.root, settings(project.root, {}, {}), "settle", None, options=[json.dumps(instant.as_dict())])
    found = [one.what for one in checkup.findings(project.root, {}) if one.part == "state"]
    assert found == ["schedule nightly: the last 3 were left out: run r1 was still going on"]


def test_what_may_not_be_read_is_bad_and_says_so(project: Project) -> None:
    one(project)
    project.orch("run", "-q")
    schedules.write(project.system, Schedule("nightly", "0 3 * * *", since=iso(time.time())))
    for name in ("schedules", "."):
        folder = project.system / name
        folder.chmod(0)
        try:
            ended = project.orch("health", "--json", before=MORTAL)
        finally:
            folder.chmod(0o700)
        assert ended.code == 6, ended
        assert any("cannot be looked at" in one["what"] for one in json.loads(ended.out)["findings"])
