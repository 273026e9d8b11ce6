"""Asks and heartbeats that somebody left behind: what is dismissed, kept, and told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import clock, disk, process
from orchestrator.core.eta import Eta
from orchestrator.core.names import Moment
from orchestrator.core.observations import Asked
from orchestrator.core.state import State
from orchestrator.store import asks as asking
from orchestrator.store import heartbeat
from orchestrator.store.asks import Asks, Petition
from orchestrator.store.heartbeat import Heartbeat
from tests.core.given import ME, NOW
from tests.store.given import (
    descriptors,
    no_sync,
    opening,
)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return tmp_path / "system"


# ---- asks


@pytest.fixture
def asks(tmp_path: Path) -> Iterator[Asks]:
    opened = Asks(tmp_path)
    yield opened
    opened.close()


def petition(system: Path, ask: str) -> Petition:
    return Petition(system, Asked(ask, "retry", "ann", 3), NOW)


def names(system: Path) -> set[str]:
    return {path.name for path in (system / "asks").iterdir()} - {"bell"}


def test_what_they_asked_who_are_gone_is_dropped_and_nobody_elses(tmp_path):
    for ask in ("gone", "heard", "other", "waits"):
        petition(tmp_path, ask)
    folder, dead = tmp_path / "asks", process.myself().replace(ticks=1).as_dict()
    for ask, changes in (("gone", {}), ("heard", {"by": "bob"}), ("other", {"ask": "another"})):
        path = folder / f"{ask}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "asker": dead, **changes}))
    (folder / ".gone.json").write_text((folder / "gone.json").read_text())  # not one that orch wrote
    (folder / "heard.json").rename(folder / "heard.taken")
    (folder / "half.json").write_text("{")
    asks = Asks(tmp_path)
    told = "dropped, as nobody had heard it and whoever asked is gone: "
    assert len(asks.notices) == 1 and asks.notices[0].startswith(told) and "ann" in asks.notices[0]
    assert names(tmp_path) == {"waits.json", "half.json", ".gone.json"}
    assert [ask.ask for ask in asks.take()] == ["waits"]
    assert names(tmp_path) == {"waits.taken", "half.unreadable", ".gone.json"}
    asks.close()


def test_an_answered_one_is_passed_over_and_what_comes_behind_is_taken(tmp_path, asks):
    petition(tmp_path, "k1")
    petition(tmp_path, "k2")
    (tmp_path / "asks" / "k1.json").rename(tmp_path / "asks" / "k1.taken")
    (tmp_path / "asks" / "k1.answer").write_text("{}")
    assert [ask.ask for ask in asks.take()] == ["k2"] and names(tmp_path) == {"k1.answer", "k2.taken"}


def test_a_folder_that_changed_just_now_is_looked_at_again_although_its_time_is_the_same(tmp_path, asks, monkeypatch):
    folder, now = tmp_path / "asks", clock.now()
    monkeypatch.setattr(asking.clock, "now", lambda: now)
    for age, looks in ((0.0, True), (0.6, False)):
        stamp = int((now - age) * 1e9)
        os.utime(folder, ns=(stamp, stamp))
        assert list(asks.take()) == []
        mine = petition(tmp_path, "k1")
        os.utime(folder, ns=(stamp, stamp))
        assert bool(list(asks.take())) == looks
        mine.withdraw()
        (folder / "k1.taken").unlink(missing_ok=True)


def test_an_ask_of_a_newer_format_is_answered_by_name(tmp_path, asks):
    newer = {"version": 99, "ask": "k1", "verb": "dance", "by": "ann"}
    (tmp_path / "asks" / "k1.json").write_text(json.dumps(newer))
    (ask,) = asks.take()
    assert ask.ask == "k1" and ask.by == "ann" and "of format 99 (dance)" in ask.verb


def test_an_answer_needs_no_sync_and_its_asker_may_be_gone(tmp_path, asks, monkeypatch):
    no_sync(monkeypatch)
    asks.answer("k1", accepted=True, text="yes")
    assert names(tmp_path) == {"k1.answer"}


def test_one_that_was_claimed_is_not_withdrawn(tmp_path, asks):
    mine = petition(tmp_path, "k1")
    list(asks.take())
    assert mine.withdraw() is False


def test_a_draft_that_is_renamed_under_our_eyes_keeps_none_of_the_others(tmp_path, monkeypatch):
    disk.make_folder(tmp_path / "asks")
    for number in range(3):
        (tmp_path / "asks" / f".k{number}.answer.77.new").touch()
    real, calls = Path.unlink, list[str]()

    def unlink(self: Path, missing_ok: bool = False) -> None:
        calls.append(self.name)
        real(self)
        if len(calls) == 1:
            raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "unlink", unlink)
    Asks(tmp_path).close()
    assert len(calls) == 3 and names(tmp_path) == set()


def test_neither_the_bell_nor_ringing_it_keeps_a_file_open(tmp_path):
    before = descriptors()
    asks = Asks(tmp_path)
    for number in range(3):
        petition(tmp_path, f"k{number}")
    asks.close()
    assert descriptors() == before


# ---- the heartbeat


class Heart:
    """One that beats at a tick with an eta; says whether that was written."""

    def __init__(self, system: Path) -> None:
        self._path, self._eta = system / "logs" / "heartbeat.json", Eta(0.0, 0.0, 0.0)
        self._heart = Heartbeat(system, ME, 120.0, lambda state, moment: self._eta, lambda: 1 / 3)

    def writes(self, tick: float, *eta: float) -> bool:
        self._eta = Eta(*eta)
        self._path.unlink(missing_ok=True)
        self._heart.beat(State(), Moment(NOW + tick, tick))
        return self._path.exists()


@pytest.mark.parametrize(
    ("eta", "news"),
    [
        ((290.0, 300.0, 310.0), False),
        ((290.0, 310.0, 310.0), False),  # a thirtieth
        ((290.0, 340.0, 310.0), True),  # an eighth
        ((290.0, 260.0, 310.0), True),
        ((320.0, 300.0, 340.0), False),  # both its ends, and it is as likely as before
        ((330.0, 300.0, 350.0), True),
        ((330.0, 300.0, 270.0), True),
        ((250.0, 300.0, 350.0), True),
    ],
)
def test_news_is_what_moves_the_end_by_a_good_part_of_what_is_left(tmp_path, eta, news):
    heart = Heart(tmp_path)
    assert heart.writes(0.0, 300.0, 310.0, 320.0)
    assert heart.writes(10.0, *eta) == news


@pytest.mark.parametrize(
    ("eta", "news"),
    [
        ((11.0, 10.0, 11.0), False),
        ((11.0, 12.0, 11.0), False),
        ((11.0, 9.0, 11.0), True),
        ((11.0, 13.5, 11.0), True),
        ((9.0, 10.0, 13.0), False),
        ((8.5, 10.0, 13.0), True),
    ],
)
def test_towards_the_end_a_second_is_no_news_and_two_are(tmp_path, eta, news):
    heart = Heart(tmp_path)
    heart.writes(0.0, 13.0, 13.0, 13.0)
    assert heart.writes(2.0, *eta) == news


def test_a_pulse_has_no_more_digits_than_anybody_reads_and_needs_no_sync(tmp_path, monkeypatch):
    disk.make_folder(tmp_path / "logs")
    no_sync(monkeypatch)
    Heart(tmp_path).writes(0.0, 1 / 3, 2 / 3, 4 / 3)
    document = json.loads((tmp_path / "logs" / "heartbeat.json").read_text())
    assert document["eta_seconds"] == {"low": 0.333, "likely": 0.667, "high": 1.333} and document["awake"] == 0.333


def test_the_run_that_beat_last_is_named_if_any_can_be(tmp_path):
    assert heartbeat.run_of(tmp_path) == ""
    state = State()
    for event in opening().events:
        state.apply(event, NOW)
    Heartbeat(tmp_path, ME, 120.0).beat(state, Moment(NOW, 0.0))
    assert heartbeat.run_of(tmp_path) == "r1"


def test_on_the_same_boot_its_age_is_that_of_the_clock_that_nobody_sets(tmp_path):
    me = process.myself()
    Heartbeat(tmp_path, me, 120.0, awake=lambda: clock.awake() - 500).beat(State(), Moment(NOW, 0.0))
    pulse = heartbeat.read(tmp_path, NOW + 9000)
    assert pulse is not None and pulse.age == pytest.approx(500, abs=30)
    path = tmp_path / "logs" / "heartbeat.json"
    document = json.loads(path.read_text())
    del document["awake"]  # as an older orch wrote it
    path.write_text(json.dumps(document))
    pulse = heartbeat.read(tmp_path, NOW + 9000)
    assert pulse is not None and pulse.age == 9000
