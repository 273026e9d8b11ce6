from __future__ import annotations

import errno
import json
import os
import select
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import clock, disk, process
from orchestrator.core.observations import Asked
from orchestrator.errors import StateUnwritable
from orchestrator.inbox import Inbox
from orchestrator.store.asks import ANSWERS_KEPT, UNREAD_FOR, Asks, Petition
from tests.core.given import NOW

RETRY = Asked("k1", "retry", "ann", 3)


@pytest.fixture
def asks(tmp_path: Path) -> Iterator[Asks]:
    opened = Asks(tmp_path)
    yield opened
    opened.close()


def petition(system: Path, ask: str = "k1", verb: str = "retry", number: int | None = 3) -> Petition:
    return Petition(system, Asked(ask, verb, "ann", number), NOW)


def names(system: Path) -> set[str]:
    return {path.name for path in (system / "asks").iterdir()} - {"bell"}


def test_an_ask_is_claimed_answered_and_the_answer_read(tmp_path, asks):
    mine = petition(tmp_path)
    assert names(tmp_path) == {"k1.json"} and mine.answer() is None
    assert list(asks.take()) == [RETRY] and names(tmp_path) == {"k1.taken"} and mine.answer() is None
    asks.answer("k1", accepted=False, text="not now")
    assert names(tmp_path) == {"k1.answer"} and mine.answer() == (False, "not now")
    assert list(asks.take()) == []


def test_what_was_answered_by_one_that_was_cut_off_is_tidied_away_by_the_next(tmp_path, asks):
    mine = petition(tmp_path)
    assert list(asks.take()) == [RETRY]
    asks.answer("k1", accepted=True, text="yes")
    for name in ("k1.taken", ".k1.answer.77.new", ".k2.json.78.new"):  # it was killed here
        (tmp_path / "asks" / name).write_text("{}")
    after = Asks(tmp_path)
    assert list(after.take()) == [] and mine.answer() == (True, "yes")
    assert names(tmp_path) == {"k1.answer", ".k2.json.78.new"}, "somebody may be writing an ask just now"
    os.utime(tmp_path / "asks" / ".k2.json.78.new", (0, 0))
    after.close()
    Asks(tmp_path).close()
    assert names(tmp_path) == {"k1.answer"}


def test_an_ask_about_everything_has_no_number(tmp_path, asks):
    petition(tmp_path, verb="cancel", number=None)
    petition(tmp_path, "k2", number=-8)
    assert list(asks.take()) == [Asked("k1", "cancel", "ann"), Asked("k2", "retry", "ann", -8)]


def test_what_an_earlier_holder_claimed_and_did_not_answer_is_taken_again(tmp_path, asks):
    petition(tmp_path)
    assert list(asks.take()) == [RETRY]
    later = Asks(tmp_path)
    assert list(later.take()) == [RETRY]
    later.answer("k1", accepted=True, text="yes")
    later.close()
    third = Asks(tmp_path)
    assert list(third.take()) == []
    third.close()


def test_an_answer_that_was_written_before_the_holder_died_is_not_asked_for_again(tmp_path, asks):
    petition(tmp_path)
    list(asks.take())
    (tmp_path / "asks" / "k1.answer").write_text('{"accepted": true, "text": "yes"}')
    assert list(Asks(tmp_path).take()) == []


def test_nothing_new_is_seen_without_reading_the_folder(tmp_path, asks, monkeypatch):
    old = clock.now() - 60
    os.utime(tmp_path / "asks", (old, old))
    assert list(asks.take()) == []
    listed: list[Path] = []
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: listed.append(self) or real(self))
    assert list(asks.take()) == [] and not listed
    petition(tmp_path)
    assert list(asks.take()) == [RETRY] and listed


def test_asks_that_come_within_one_tick_of_the_folders_clock_are_all_seen(tmp_path, asks):
    for index in range(50):
        petition(tmp_path, f"k{index}")
        assert [ask.ask for ask in asks.take()] == [f"k{index}"]
        asks.answer(f"k{index}", accepted=True, text="")


# ---- withdrawn


def test_a_withdrawn_ask_is_never_claimed(tmp_path, asks):
    mine = petition(tmp_path)
    assert mine.withdraw() and names(tmp_path) == set() and list(asks.take()) == []
    assert not mine.withdraw()


def test_a_claimed_ask_cannot_be_withdrawn(tmp_path, asks):
    mine = petition(tmp_path)
    assert list(asks.take()) == [RETRY] and not mine.withdraw() and names(tmp_path) == {"k1.taken"}


def test_of_claim_and_withdrawal_exactly_one_wins(tmp_path, asks, monkeypatch):
    """The withdrawal comes after the folder was listed and before the rename."""
    mine = petition(tmp_path)
    other = petition(tmp_path, "k2")
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == "k1.json" and target.name == "k1.taken":
            monkeypatch.setattr(Path, "rename", real)
            assert mine.withdraw()
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert [ask.ask for ask in asks.take()] == ["k2"] and not other.withdraw()


# ---- what is no ask


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "null", "{}", '{"ask": "k1"}', '{"ask": "k1", "verb": "retry", "by": "ann", "number": "x"}',
     '{"ask": "../k1", "verb": "retry", "by": "ann"}', '{"ask": "other", "verb": "retry", "by": "ann"}'],
)  # fmt: skip
def test_what_cannot_be_read_is_set_aside_and_stands_in_nobodys_way(tmp_path, asks, text):
    (tmp_path / "asks" / "k1.json").write_text(text)
    petition(tmp_path, "k2")
    assert [ask.ask for ask in asks.take()] == ["k2"]
    assert names(tmp_path) == {"k1.unreadable", "k2.taken"}


def test_why_and_what_is_asked_for_besides_arrive_as_they_were_asked(tmp_path, asks):
    asked = Asked("k1", "reset", "ann", -8, 'the list was "old"', ("with-dependents", "lost"))
    Petition(tmp_path, asked, NOW)
    assert list(asks.take()) == [asked]


@pytest.mark.parametrize(
    "fields", [{"why": None}, {"why": 3}, {"why": ["x"]}, {"options": "lost"}, {"options": {"lost": 1}}, {"options": [1]},
               {"options": None}, {"options": [["lost"]]}],
)  # fmt: skip
def test_why_and_options_that_orch_did_not_write_are_set_aside_and_not_guessed_at(tmp_path, asks, fields):
    petition(tmp_path)
    path = tmp_path / "asks" / "k1.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    assert list(asks.take()) == [] and names(tmp_path) == {"k1.unreadable"}


def test_drafts_are_not_asks(tmp_path, asks):
    (tmp_path / "asks" / ".k1.json.77.new").write_text("{")
    (tmp_path / "asks" / ".k1.json").write_text("{")
    assert list(asks.take()) == [] and names(tmp_path) == {".k1.json.77.new", ".k1.json"}


# ---- the bell


def rings(asks: Asks) -> bool:
    return bool(select.select([asks.bell], [], [], 0)[0])


def test_the_bell_rings_for_each_ask_and_is_silent_once_it_was_taken(tmp_path, asks):
    assert not rings(asks)
    petition(tmp_path)
    assert rings(asks)
    list(asks.take())
    assert not rings(asks)


def test_the_bell_wakes_a_loop_that_sleeps(tmp_path, asks):
    inbox = Inbox()
    inbox.watch(asks.bell, lambda: list(asks.take()))
    pid = os.fork()
    if pid == 0:
        try:
            clock.pause(0.1)
            petition(tmp_path)
        finally:
            os._exit(0)
    since = clock.ticking()
    assert inbox.get(30.0) == [RETRY] and clock.ticking() - since < 15
    os.waitpid(pid, 0)
    inbox.close()


def test_an_ask_without_a_bell_is_found_by_looking(tmp_path, asks):
    (tmp_path / "asks" / "bell").unlink()
    petition(tmp_path)
    assert not rings(asks) and list(asks.take()) == [RETRY]


def test_who_asks_does_not_wait_for_anybody_to_listen(tmp_path):
    disk.make_folder(tmp_path / "asks")
    os.mkfifo(tmp_path / "asks" / "bell")
    petition(tmp_path)
    later = Asks(tmp_path)
    assert list(later.take()) == [RETRY]
    later.close()


def test_a_file_in_the_bells_place_is_no_bell_and_is_left_alone(tmp_path):
    disk.make_folder(tmp_path / "asks")
    (tmp_path / "asks" / "bell").write_text("a file")
    petition(tmp_path)
    assert (tmp_path / "asks" / "bell").read_text() == "a file"


def test_a_file_system_without_named_pipes_is_polled(tmp_path, monkeypatch):
    def mkfifo(*_: object) -> None:
        raise PermissionError("no pipes here")

    monkeypatch.setattr(os, "mkfifo", mkfifo)
    opened = Asks(tmp_path)
    petition(tmp_path)
    assert opened.bell is None and list(opened.take()) == [RETRY]
    opened.close()


# ---- kept and forgotten


def test_an_answer_is_there_for_whoever_asked_however_many_there_are(tmp_path, asks):
    asked = [petition(tmp_path, f"{999 - index:03d}") for index in range(ANSWERS_KEPT + 20)]
    for one in asked:
        list(asks.take())
        asks.answer(one.ask.ask, accepted=True, text="yes")
        assert one.answer() == (True, "yes"), "the name says nothing about the age"


def test_only_the_last_answers_are_kept(tmp_path, asks):
    now = clock.now()
    for index in range(ANSWERS_KEPT + 20):
        path = tmp_path / "asks" / f"k{index:03d}.answer"
        path.write_text("{}")
        os.utime(path, (now - 10 * UNREAD_FOR - index,) * 2)
    asks.answer("new", accepted=True, text="yes")
    assert names(tmp_path) == {"new.answer", *(f"k{index:03d}.answer" for index in range(ANSWERS_KEPT - 1))}


def test_an_ask_is_on_the_disk_before_anybody_is_told(tmp_path, monkeypatch):
    durable: list[bool] = []
    real = disk.replace

    def replace(path: Path, data: bytes, **how: bool) -> None:
        durable.append(how["durable"])
        real(path, data, **how)

    monkeypatch.setattr(disk, "replace", replace)
    petition(tmp_path)
    assert durable == [True]
    path = tmp_path / "asks" / "k1.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_an_ask_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "asks").write_text("a file")
    with pytest.raises(StateUnwritable):
        petition(tmp_path)


def test_half_an_answer_is_none(tmp_path):
    mine = petition(tmp_path)
    (tmp_path / "asks" / "k1.answer").write_text("")
    assert mine.answer() is None


def left_by_one_that_is_gone(system: Path, name: str, suffix: str = "json", **changes: object) -> None:
    """Asked from a shell that is closed by now."""
    petition(system, name)
    path = system / "asks" / f"{name}.json"
    document = {**json.loads(path.read_text()), "asker": process.myself().replace(ticks=1).as_dict(), **changes}
    path.write_text(json.dumps(document))
    path.rename(path.with_suffix(f".{suffix}"))


def test_what_nobody_heard_from_somebody_who_is_gone_is_dropped_and_said(tmp_path):
    left_by_one_that_is_gone(tmp_path, "k1")
    petition(tmp_path, "k2")
    opened = Asks(tmp_path)
    told = RETRY.replace(ask="k1").told()
    assert opened.notices == [f"dropped, as nobody had heard it and whoever asked is gone: {told}"]
    assert [ask.ask for ask in opened.take()] == ["k2"]
    opened.close()


@pytest.mark.parametrize(("suffix", "calls_itself"), [("taken", "k1"), ("json", "another")])
def test_what_may_have_been_done_or_cannot_be_read_is_dropped_in_silence(tmp_path, suffix, calls_itself):
    left_by_one_that_is_gone(tmp_path, "k1", suffix, ask=calls_itself)
    opened = Asks(tmp_path)
    assert opened.notices == [] and names(tmp_path) == set()
    opened.close()


def test_of_whom_nobody_can_say_that_they_are_gone_is_heard(tmp_path):
    for ask, asker in (("k1", process.myself().replace(host="far/1").as_dict()), ("k2", None), ("k3", {"pid": "x"})):
        left_by_one_that_is_gone(tmp_path, ask, asker=asker)
    left_by_one_that_is_gone(tmp_path, ".k4")
    opened = Asks(tmp_path)
    assert opened.notices == [] and [ask.ask for ask in opened.take()] == ["k1", "k2", "k3"]
    assert (tmp_path / "asks" / ".k4.json").exists(), "a draft is no ask"
    opened.close()


def test_a_folder_of_asks_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "asks").write_text("a file")
    with pytest.raises(StateUnwritable, match="asks"):
        Asks(tmp_path)


def test_an_answer_that_cannot_be_written_is_said_and_the_ask_stays_claimed(tmp_path, asks, monkeypatch):
    petition(tmp_path)
    list(asks.take())

    def full(*_: object, **how: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "replace", full)
        with pytest.raises(StateUnwritable, match="No space left on device"):
            asks.answer("k1", accepted=True, text="yes")
    assert names(tmp_path) == {"k1.taken"}, "whoever comes next answers it"


def test_a_draft_that_is_finished_while_others_are_tidied_away_is_an_ask(tmp_path, monkeypatch):
    disk.make_folder(tmp_path / "asks")
    for name in (".k1.json.77.new", ".k2.json.78.new"):
        (tmp_path / "asks" / name).write_text("{}")
        os.utime(tmp_path / "asks" / name, (0, 0))
    real = Path.glob

    def glob(self: Path, pattern: str) -> list[Path]:
        found = sorted(real(self, pattern))
        found[0].rename(self / "k1.json")
        return found

    monkeypatch.setattr(Path, "glob", glob)
    Asks(tmp_path).close()
    assert names(tmp_path) == {"k1.json"}


def test_an_answer_that_orch_did_not_write_is_none(tmp_path):
    mine = petition(tmp_path)
    for text in ("[]", '{"accepted": true}', "\xff"):
        (tmp_path / "asks" / "k1.answer").write_text(text)
        assert mine.answer() is None, text
