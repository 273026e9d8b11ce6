"""What waits, in which order, how much of it; and what is said of it by a mere listing."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from orchestrator import clock, process
from orchestrator.core.names import iso
from orchestrator.core.outward import MISSED
from orchestrator.services import outbox as outboxes
from orchestrator.services.outbox import MOST, Letter, Outbox, take_turn, undelivered
from tests.services.given import ids, message


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path)


def only(outbox: Outbox, ident: str) -> Letter:
    return next(letter for letter in outbox.letters("ops") if letter.message.id == ident)


def test_what_is_put_in_comes_out_in_order_and_whole(outbox: Outbox) -> None:
    for ident in ("c", "a", "b"):
        outbox.put("ops", message(ident))
    assert ids(outbox) == ["c", "a", "b"]
    letter = outbox.first("ops")
    assert letter is not None
    assert (letter.message.text, letter.message.phases, letter.project) == (
        "this is c",
        ((3, "p3"),),
        outbox._root.name,
    )
    assert letter.path.stat().st_mode & 0o777 == 0o600
    outbox.done(letter)
    assert ids(outbox) == ["a", "b"]


def test_an_id_that_waits_is_not_put_in_twice(outbox: Outbox) -> None:
    outbox.put("ops", message("a"))
    outbox.put("ops", message("b"))
    outbox.put("ops", message("a"))
    assert ids(outbox) == ["a", "b"]


def test_the_order_holds_when_the_clock_is_set_back(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, now in enumerate((5000.0, 4000.0, 6000.0, 1.0)):
        monkeypatch.setattr(clock, "now", lambda now=now: now)
        outbox.put("ops", message(f"m{number}", at=now))
    assert ids(outbox) == ["m0", "m1", "m2", "m3"]


def test_what_is_for_later_comes_last_and_can_be_withdrawn(outbox: Outbox) -> None:
    later = iso(clock.now() + 3600)
    outbox.put("ops", message("later", after=later))
    outbox.put("ops", message("now"))
    assert ids(outbox) == ["now", "later"]
    assert only(outbox, "later").due == pytest.approx(clock.now() + 3600, abs=60)
    assert only(outbox, "now").due == 0.0
    outbox.withdraw("later")
    assert ids(outbox) == ["now"]


def test_too_many_are_given_up_and_one_message_says_how_many(outbox: Outbox) -> None:
    folder = outbox.folder / "waiting" / "ops"
    outbox.put("ops", message("m0"))
    data = json.loads(next(folder.iterdir()).read_text())
    for number in range(1, MOST):
        data["message"]["id"] = f"m{number}"
        (folder / f"{int(clock.now() * 1000) + number:014d}-m{number}.json").write_text(json.dumps(data))
    for number in range(150):
        outbox.put("ops", message(f"n{number}"))
    found = list(outbox.letters("ops"))
    assert len(found) <= MOST
    told = [letter.message for letter in found if letter.message.event == "dropped"]
    assert [one.text for one in told] == ["199 earlier messages could not be delivered, and are given up"]
    assert found[0].message == told[0]
    assert found[1].message.id == "m199"
    assert found[-1].message.id == "n149"


def test_what_was_missed_is_put_in_once_though_it_was_sent_by_now(outbox: Outbox) -> None:
    outbox.put("ops", message("missed.nightly.1", MISSED))
    outbox.done(only(outbox, "missed.nightly.1"))
    outbox.put("ops", message("missed.nightly.1", MISSED))
    outbox.put("other", message("missed.nightly.1", MISSED))
    assert ids(outbox) == []
    assert ids(outbox, "other") == ["missed.nightly.1"]


def test_what_cannot_be_read_is_put_aside_and_the_next_goes_on(outbox: Outbox) -> None:
    outbox.put("ops", message("a"))
    outbox.put("ops", message("b"))
    only(outbox, "a").path.write_text('{"mess')
    first = outbox.first("ops")
    assert first is not None and first.message.id == "b"
    assert [letter.reason for letter in outbox.refused()] == ["unreadable"]


def test_of_what_was_refused_the_last_hundred_are_kept(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outboxes, "MOST_REFUSED", 3)
    for number in range(5):
        outbox.put("ops", message(f"m{number}"))
        outbox.refuse(only(outbox, f"m{number}"), "HTTP 404")
    assert [letter.message.id for letter in outbox.refused()] == ["m2", "m3", "m4"]


def test_a_person_may_drop_one_or_all(outbox: Outbox) -> None:
    for ident in ("a", "b", "c"):
        outbox.put("ops", message(ident))
    outbox.refuse(only(outbox, "c"), "no")
    assert outbox.drop("b") == 1
    assert outbox.drop("b") == 0
    assert outbox.drop(None) == 2
    assert not outbox.waits()


def test_a_listing_says_what_is_undelivered(outbox: Outbox) -> None:
    system = outbox.folder.parent
    assert undelivered(system).as_document() == {
        "waiting": 0, "oldest_seconds": 0.0, "refused": 0, "last_error": None, "last_refusal": None, "held": 0,
        "stray": {},
    }  # fmt: skip
    outbox.put("ops", message("a"))
    outbox.put("asleep", message("b"))
    outbox.put("ops", message("c", after=iso(clock.now() + 3600)))
    told = {"ops": {"error": "HTTP 503"}, "asleep": {"held_until": iso(clock.now() + 60)}}
    (outbox.folder / "sender.json").write_text(json.dumps({"targets": told}))
    found = undelivered(system)
    assert (found.waiting, found.held, found.refused, found.last_error) == (1, 1, 0, "ops: HTTP 503")
    assert 0 <= found.oldest_seconds < 60
    outbox.refuse(only(outbox, "a"), "HTTP 404")
    found = undelivered(system)
    assert (found.waiting, found.refused, found.last_error, found.last_refusal) == (0, 1, "", "ops: HTTP 404")
    outbox.put("ops", message("d"))
    found = undelivered(system)
    assert (found.last_error, found.last_refusal) == ("ops: HTTP 503", "ops: HTTP 404"), "each has its own reason"


def test_what_is_for_a_target_that_is_gone_is_counted_apart_and_expires(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for target, ident in (("ops", "a"), ("old", "b"), ("old", "c")):
        outbox.put(target, message(ident))
    system = outbox.folder.parent
    found = undelivered(system, ["ops", "other"])
    assert (found.waiting, found.stray) == (1, (("old", 2),))
    assert found.told_of_stray == "2 messages for old, no target of the settings any more"
    assert undelivered(system).waiting == 3, "where the settings cannot be read nobody knows"
    outbox.drop("a")
    outbox.settle(60.0, ["ops"])  # it waits for none of these
    outbox.expire_strays(["ops"])
    assert ids(outbox, "old") == ["b", "c"]
    then = clock.now() + 8 * 86400
    monkeypatch.setattr(clock, "now", lambda: then)
    outbox.put("ops", message("d", at=then - 8 * 86400))
    outbox.expire_strays(["ops"])
    assert (ids(outbox), ids(outbox, "old")) == (["d"], [])
    assert [letter.reason for letter in outbox.refused()] == ["there has been no target old for 7 days"] * 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"targets": 3}', '{"targets": {"ops": {"held_until": "soon"}}}'])
def test_a_sender_that_says_nothing_sensible_is_not_heard(outbox: Outbox, text: str) -> None:
    outbox.put("ops", message("a"))
    (outbox.folder / "sender.json").write_text(text)
    assert undelivered(outbox.folder.parent).waiting == 1


def test_one_sends_at_a_time_and_nobody_is_woken_beside_it(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[list[str]]()
    monkeypatch.setattr(process, "spawn_detached", lambda argv, **how: started.append(argv) or 2**22)
    turn = take_turn(outbox.folder)
    assert turn is not None and take_turn(outbox.folder) is None
    outbox.wake()
    assert started == []
    os.close(turn)
    outbox.wake()
    assert len(started) == 1
    with open(outbox.folder / "sender.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # whoever only looked does not hold it


def test_a_sender_that_cannot_be_started_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **how: object) -> int:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(process, "spawn_detached", refuse)
    said = list[str]()
    Outbox(tmp_path, said.append).wake()
    assert said == [
        "notify: no sender could be started: Resource temporarily unavailable; what waits is sent by the next run"
    ]


def test_the_socket_of_the_service_manager_is_not_handed_on(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[dict[str, str]]()
    monkeypatch.setenv("NOTIFY_SOCKET", "@x")
    monkeypatch.setattr(process, "spawn_detached", lambda argv, **how: seen.append(how["env"]) or 2**22)
    outbox.wake()
    assert "NOTIFY_SOCKET" not in seen[0] and seen[0]["PATH"]
