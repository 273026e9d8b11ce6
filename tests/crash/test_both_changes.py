"""The command that cron starts, on the nights when clocks are changed: due once, and not lost."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from orchestrator import clock
from orchestrator.core.names import epoch, iso
from orchestrator.core.schedule import Schedule
from orchestrator.store import schedules
from tests.crash.test_due_later import ONLY_THE_DATE, library
from tests.driving import Project


def fire_at(project: Project, moment: float) -> None:
    moved = {"LD_PRELOAD": library(), "FAKETIME": f"{moment - clock.now():+f}s"}
    ended = project.start("cron", "fire", "nightly", env=ONLY_THE_DATE | moved).wait(60)
    assert ended == (0, "", "")


@pytest.mark.timeout(180)
def test_half_past_two_comes_once_in_both_nights(project: Project) -> None:
    library()
    project.commands({"number": 1, "name": "late", "run": "echo $ORCH_DUE >> dues"})
    begun = datetime(2027, 3, 28, 1, 30, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    (project.system).mkdir(mode=0o700)
    schedules.write(project.system, Schedule("nightly", "30 2 * * *", tz="Europe/Berlin", since=iso(begun)))
    for text in ("2027-03-28T00:59:30Z", "2027-03-28T01:00:05Z", "2027-03-28T01:30:05Z"):
        fire_at(project, epoch(text))
    assert project.lines("dues") == ["2027-03-28T01:00:00.000Z"], "left out by the clocks: the first instant after"
    for text in ("2027-10-31T00:30:05Z", "2027-10-31T01:30:05Z"):
        fire_at(project, epoch(text))
    assert project.lines("dues")[1:] == ["2027-10-31T00:30:00.000Z"], "had twice by the clocks: the first of the two"
    records = project.state()["schedules"]["nightly"]
    assert [(record["how"], record["count"]) for record in records] == [("ran", 1), ("skipped", 216), ("ran", 1)]
