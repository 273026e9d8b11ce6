from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from orchestrator import disk
from orchestrator.core import formats
from orchestrator.core.schedule import Schedule
from orchestrator.errors import StateDamaged, StateUnwritable, UsageError
from orchestrator.store import schedules
from orchestrator.store.untidy import untidiness

NIGHT = Schedule("night", "0 3 * * *", tz="Europe/Berlin", options=("--from", "-8"), catch_up=3600.0)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    (tmp_path / "system").mkdir(0o700)
    return tmp_path / "system"


def test_what_is_written_is_read_again_and_only_its_owner_may(system: Path) -> None:
    schedules.write(system, NIGHT)
    schedules.write(system, Schedule("day", "@hourly"))
    schedules.write_next(system, "night", 1795000000.9)
    assert schedules.read(system, "night") == NIGHT
    assert schedules.read_all(system) == ([Schedule("day", "@hourly"), NIGHT], [])
    assert schedules.read_next(system, "night") == 1795000000.0 and schedules.read_next(system, "day") is None
    assert (system / "schedules" / "night.next").read_text() == "1795000000\n"
    for path in (system / "schedules").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((system / "schedules").stat().st_mode) == 0o700
    assert untidiness(system, is_live=False) == []


def test_a_schedule_is_on_the_disk_when_it_is_written(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(disk, "replace", lambda path, data, *, durable: asked.append(durable))
    schedules.write(system, NIGHT)
    schedules.write_next(system, "night", 1.0)
    assert asked == [True, True]


DAMAGED = {
    "torn": '{"version": 1, "name": "night", "at"',
    "no object": "[1]",
    "no version": '{"name": "night", "at": "@daily"}',
    "an unknown field": '{"version": 1, "name": "night", "at": "@daily", "colour": 1}',
    "another's name": '{"version": 1, "name": "day", "at": "@daily"}',
    "a bad expression": '{"version": 1, "name": "night", "at": "61 * * * *"}',
    "a wrong kind": '{"version": 1, "name": "night", "at": "@daily", "catch_up": "6h"}',
    "no text": b"\xff\xfe",
}


@pytest.mark.parametrize("what", DAMAGED)
def test_one_that_is_damaged_is_named_and_the_others_are_read(system: Path, what: str) -> None:
    schedules.write(system, Schedule("day", "@hourly"))
    text = DAMAGED[what]
    path = system / "schedules" / "night.json"
    disk.replace(path, text if isinstance(text, bytes) else text.encode(), durable=False)
    found, wrong = schedules.read_all(system)
    assert [one.name for one in found] == ["day"]
    assert [type(error) for error in wrong] == [StateDamaged] and str(path) in wrong[0].message
    assert "orch cron remove night" in wrong[0].remedy
    (flaw,) = untidiness(system, is_live=False)
    assert flaw.file == "system/schedules/night.json" and flaw.is_hopeless


def test_one_of_a_newer_format_is_refused_by_name(system: Path) -> None:
    schedules.write(system, NIGHT)
    path = system / "schedules" / "night.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": formats.VERSION + 1, "colour": "blue"}))
    with pytest.raises(StateDamaged, match=f"is of format {formats.VERSION + 1}"):
        schedules.read(system, "night")


def test_a_folder_or_a_pipe_in_its_place_harms_nobody(system: Path) -> None:
    disk.make_folder(system / "schedules")
    os.mkfifo(system / "schedules" / "night.json")
    assert [type(error) for error in schedules.read_all(system)[1]] == [StateDamaged]


def test_there_is_none_of_that_name(system: Path) -> None:
    with pytest.raises(UsageError) as none:
        schedules.read(system, "night")
    assert "orch cron add" in none.value.remedy
    schedules.write(system, NIGHT)
    with pytest.raises(UsageError) as near:
        schedules.read(system, "nihgt")
    assert near.value.remedy == "did you mean night?"


def test_removed_it_leaves_nothing_of_its_own_and_all_of_its_neighbours(system: Path) -> None:
    for name in ("night", "nightly"):
        schedules.write(system, Schedule(name, "@daily"))
        schedules.write_next(system, name, 1.0)
    assert schedules.remove(system, "night") and not schedules.remove(system, "night")
    assert sorted(path.name for path in (system / "schedules").iterdir()) == ["nightly.json", "nightly.next"]


def test_what_cannot_be_written_is_said_with_a_way_out(system: Path) -> None:
    (system / "schedules").write_text("in the way")
    with pytest.raises(StateUnwritable):
        schedules.write(system, NIGHT)
