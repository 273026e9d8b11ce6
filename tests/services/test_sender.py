"""The sender: in order, each target by itself, again until it is heard, and killed at every step of it."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from orchestrator import clock
from orchestrator.core.names import iso
from orchestrator.core.telling import BEGUN, ENDED_WELL
from orchestrator.services import sender as senders
from orchestrator.services import webhook
from orchestrator.services.outbox import Outbox, fares, names, undelivered
from orchestrator.services.sender import Sender, main
from tests.crash.injecting import spread
from tests.driving import seeded, times, wait_for
from tests.services.given import ended, forked, hurry, ids, message, project_of, steps, woken
from tests.services.listening import OK, UNWELL, Server


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def target(server: Server, name: str = "ops", path: str = "/hook", more: str = "") -> str:
    return f'[notify.{name}]\nurl = "{server.url(path)}"\n{more}\n'


def run(outbox: Outbox, patience: float = 30.0) -> list[str]:
    """One sender, from its beginning to its end, in here; what it noted."""
    notes = list[str]()
    Sender(outbox._root, notes.append, patience).run()
    return notes


def heard(server: Server, path: str = "/hook") -> list[str]:
    return [one.ident for one in server.of(path)]


def test_messages_arrive_in_order_with_their_ids_and_words(tmp_path: Path, server: Server) -> None:
    outbox = project_of(tmp_path / "nightly", target(server, more='template = "{project}/{event}: {text} ({phases})"'))
    for ident in ("a", "b", "c"):
        outbox.put("ops", message(ident))
    run(outbox)
    assert heard(server) == ["a", "b", "c"]
    document = server.heard[0].document
    assert {**document, "at": "", "host": ""} == {
        "id": "a", "event": "failed", "project": "nightly", "host": "", "run": "r1",
        "phases": [{"number": 3, "name": "p3"}], "text": "nightly/failed: this is a (3 p3)", "at": "",
    }  # fmt: skip
    assert not outbox.waits()


def test_a_target_that_is_unwell_in_every_way_is_told_in_order_and_once(tmp_path: Path, server: Server) -> None:
    chance = seeded()
    server.script = [how for _ in range(2) for how in chance.sample((*UNWELL, *[OK] * 2), len(UNWELL) + 2)]
    outbox = project_of(tmp_path, target(server))
    wanted = [f"m{number}" for number in range(8)]
    for ident in wanted:
        outbox.put("ops", message(ident))
    run(outbox)
    assert heard(server) == wanted
    assert undelivered(tmp_path / "system").as_document()["last_error"] is None


def test_a_target_that_hangs_holds_up_no_other(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT", 20.0)
    outbox = project_of(tmp_path, target(server, "slow", "/slow") + target(server))
    server.script = ["silent"]
    outbox.put("slow", message("s"))
    with woken(outbox):
        wait_for(lambda: [one.path for one in server.heard] == ["/slow"])
        began = time.monotonic()
        for number in range(5):
            outbox.put("ops", message(f"m{number}"))
        wait_for(lambda: len(heard(server)) == 5)
        assert time.monotonic() - began < 10.0
        assert ids(outbox, "slow") == ["s"]


def test_what_is_refused_is_put_aside_and_the_next_goes_on(tmp_path: Path, server: Server) -> None:
    server.script = ["500", "404"]
    outbox = project_of(tmp_path, target(server, path="/T0SECRET"))
    for ident in ("a", "b"):
        outbox.put("ops", message(ident))
    notes = run(outbox)
    assert heard(server, "/T0SECRET") == ["b"]
    assert [(letter.message.id, letter.reason) for letter in outbox.refused()] == [
        ("a", f"http://127.0.0.1:{server.port}/...: HTTP 404 Unwell no")
    ]
    assert any("a is refused" in note for note in notes)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "system").rglob("*") if path.is_file())
    assert b"SECRET" not in everything and not any("SECRET" in note for note in notes)


def test_a_target_may_ask_for_rest(tmp_path: Path, server: Server) -> None:
    server.script, server.headers = ["429"], {"Retry-After": "1"}
    outbox = project_of(tmp_path, target(server))
    outbox.put("ops", message("a"))
    began = time.monotonic()
    run(outbox)
    assert heard(server) == ["a"] and time.monotonic() - began >= 1.0


def test_it_gives_up_after_nothing_but_failure_and_the_next_begins_again(tmp_path: Path, server: Server) -> None:
    server.down()
    outbox = project_of(tmp_path, target(server))
    outbox.put("ops", message("a"))
    assert any("given up for now" in note for note in run(outbox, patience=0.3))
    found = undelivered(tmp_path / "system")
    assert (found.waiting, found.refused) == (1, 0)
    assert "Connection refused" in found.last_error
    server.up()
    run(outbox)
    assert heard(server) == ["a"]
    assert undelivered(tmp_path / "system").last_error == ""


def test_what_nobody_needs_any_more_is_put_aside(tmp_path: Path, server: Server) -> None:
    outbox = project_of(tmp_path, target(server))
    outbox.put("ops", message("old", at=clock.now() - 8 * 86400))
    outbox.put("ops", message("new"))
    run(outbox)
    assert heard(server) == ["new"]
    assert [letter.reason for letter in outbox.refused()] == ["it could not be delivered for 7 days"]


def test_quiet_hours_hold_all_until_their_end(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over midnight: by a clock that goes ten hours each second."""
    began, real = time.monotonic(), 1795305600.0 - 2 * 3600  # 22:00 in UTC
    monkeypatch.setattr(clock, "now", lambda: real + (time.monotonic() - began) * 36000)
    outbox = project_of(tmp_path, target(server, more='quiet = "22:00-07:00"\ntz = "UTC"'))
    when = list[float]()
    server.on_request = lambda: when.append(clock.now())
    for ident in ("a", "b"):
        outbox.put("ops", message(ident))
    with woken(outbox):
        held = wait_for(lambda: fares(tmp_path / "system").get("ops", {}).get("held_until"))
        assert held == "2026-11-22T07:00:00.000Z"
        assert undelivered(tmp_path / "system").held == 2
        wait_for(lambda: heard(server) == ["a", "b"])
    assert min(when) >= real + 9 * 3600


def test_what_is_dropped_in_quiet_hours_is_not_waited_for_until_their_end(tmp_path: Path, server: Server) -> None:
    begin, end = (iso(clock.now() + seconds)[11:16] for seconds in (-3600, 7200))
    outbox = project_of(tmp_path, target(server, more=f'quiet = "{begin}-{end}"\ntz = "UTC"'))
    outbox.put("ops", message("a"))
    pid = forked(lambda: main(["--project", str(tmp_path)]))
    wait_for(lambda: fares(tmp_path / "system").get("ops", {}).get("held_until"))
    assert outbox.drop(None) == 1
    assert ended(pid) == 0 and server.heard == []


def test_a_message_for_later_lets_others_pass_and_comes_in_its_time(tmp_path: Path, server: Server) -> None:
    outbox = project_of(tmp_path, target(server))
    outbox.put("ops", message("later", after=iso(clock.now() + 0.8)))
    outbox.put("ops", message("far", after=iso(clock.now() + 3 * 86400)))
    with woken(outbox):
        time.sleep(0.1)
        outbox.put("ops", message("now"))
        wait_for(lambda: heard(server) == ["now", "later"])
        wait_for(lambda: ids(outbox) == ["far"])  # who has heard it has yet to be heard


def test_what_is_withdrawn_or_dropped_meanwhile_is_not_sent(tmp_path: Path, server: Server) -> None:
    server.down()
    outbox = project_of(tmp_path, target(server))
    outbox.put("ops", message("a"))
    outbox.put("ops", message("b"))
    with woken(outbox):
        wait_for(lambda: fares(tmp_path / "system").get("ops"))
        outbox.drop("a")
        server.up()
        wait_for(lambda: heard(server))
    assert heard(server) == ["b"]


def test_a_switch_is_told_only_how_it_stands_now(tmp_path: Path, server: Server) -> None:
    outbox = project_of(tmp_path, f'[notify.alive]\nping = "{server.url("/p?k=v")}"\n')
    outbox.put("alive", message("1", BEGUN))
    run(outbox)
    outbox.put("alive", message("2", ENDED_WELL))
    outbox.put("alive", message("3", "fail"))
    run(outbox)
    outbox.put("alive", message("4", ENDED_WELL))
    run(outbox)
    assert [(one.path, one.ident) for one in server.taken] == [
        ("/p/start?k=v", "1"), ("/p/fail?k=v", "3"), ("/p?k=v", "4"),
    ]  # fmt: skip


def test_an_address_that_was_put_right_is_used_at_once(tmp_path: Path, server: Server) -> None:
    outbox = project_of(tmp_path, '[notify.ops]\nurl = "http://127.0.0.1:1/wrong"\n')
    outbox.put("ops", message("a"))
    with woken(outbox):
        wait_for(lambda: fares(tmp_path / "system").get("ops"))
        (tmp_path / "orch.toml").write_text("jobs = nonsense [")
        time.sleep(0.1)
        (tmp_path / "orch.toml").write_text(target(server))
        wait_for(lambda: heard(server) == ["a"])


def test_the_address_may_be_a_secret(tmp_path: Path, server: Server) -> None:
    (tmp_path / "hook").touch(0o600)
    (tmp_path / "hook").write_text(server.url("/T0SECRET") + "\n")
    outbox = project_of(tmp_path, '[secrets]\nhook = { file = "hook" }\n[notify.ops]\nsecret = "hook"\n')
    server.script = ["404"]
    outbox.put("ops", message("a"))
    outbox.put("ops", message("b"))
    run(outbox)
    assert heard(server, "/T0SECRET") == ["b"]
    assert "SECRET" not in outbox.refused()[0].reason


def test_what_was_put_aside_is_no_reason_of_those_that_wait(tmp_path: Path, server: Server) -> None:
    server.script = ["404"]
    outbox = project_of(tmp_path, target(server))
    outbox.put("ops", message("a"))
    run(outbox)
    outbox.put("ops", message("b"))
    found = undelivered(tmp_path / "system")
    assert (found.waiting, found.refused, found.last_error) == (1, 1, "") and "404" in found.last_refusal


def test_a_secret_that_cannot_be_had_yet_is_waited_for(tmp_path: Path, server: Server) -> None:
    outbox = project_of(tmp_path, '[secrets]\nhook = { file = "hook" }\n[notify.ops]\nsecret = "hook"\n')
    outbox.put("ops", message("a"))
    with woken(outbox):
        wait_for(lambda: "does not exist" in undelivered(tmp_path / "system").last_error)
        (tmp_path / "hook.new").touch(0o600)
        (tmp_path / "hook.new").write_text(server.url())
        (tmp_path / "hook.new").rename(tmp_path / "hook")
        wait_for(lambda: heard(server) == ["a"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what apprise imports
def test_apprise_sends_to_what_is_no_plain_webhook(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("apprise", reason="apprise is not installed: pip install 'orch[notify]'")
    monkeypatch.setattr(webhook, "TIMEOUT", 5.0)
    outbox = project_of(tmp_path, f'[notify.ops]\nurl = "json://127.0.0.1:{server.port}/T0SECRET"\n')
    server.script = ["500"]
    outbox.put("ops", message("a"))
    notes = run(outbox)
    documents = [one.document for one in server.taken if one.path.startswith("/T0SECRET")]
    assert [one["message"] for one in documents] == [f"{tmp_path.name}: this is a\n[a]"]
    assert documents[0]["title"] == f"{tmp_path.name}: failed"
    assert not any("SECRET" in note for note in notes), notes


def test_without_apprise_it_is_said_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    outbox = project_of(tmp_path, '[notify.ops]\nurl = "tgram://12345:T0SECRET/chat"\n')
    outbox.put("ops", message("a"))
    run(outbox, patience=0.1)
    assert undelivered(tmp_path / "system").last_error == ("ops: apprise is not installed: pip install 'orch[notify]'")


def test_a_fault_of_ours_costs_that_target_only(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = project_of(tmp_path, target(server) + target(server, "other", "/other"))
    outbox.put("ops", message("a"))
    outbox.put("other", message("b"))
    real = senders.send

    def send(aim: Any, *others: Any) -> str:
        if aim.url.endswith("/other"):
            raise ZeroDivisionError("no")
        return real(aim, *others)

    monkeypatch.setattr(senders, "send", send)
    notes = run(outbox)
    assert heard(server) == ["a"] and ids(outbox, "other") == ["b"]
    assert any("other: given up for now: ZeroDivisionError" in note for note in notes)


# ---- as a process


def test_of_many_that_are_started_one_sends_and_what_comes_as_it_leaves_is_sent(tmp_path: Path, server: Server) -> None:
    outbox, many = project_of(tmp_path, target(server)), times(12, 100)
    pids = list[int]()
    for number in range(many):
        outbox.put("ops", message(f"m{number}"))
        pids.append(forked(lambda: main(["--project", str(tmp_path)])))
        time.sleep(random.choice((0.0, 0.01, 0.03)))
    assert [ended(pid) for pid in pids] == [0] * many
    assert heard(server) == [f"m{number}" for number in range(many)]


def test_what_comes_between_its_last_look_and_its_leaving_is_sent(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever puts it there finds the turn taken, and starts nobody."""
    outbox, real = project_of(tmp_path, target(server)), Sender.run
    outbox.put("ops", message("a"))
    late = ["b"]

    def run_and_more(sender: Sender) -> set[str]:
        seen = real(sender)
        while late:
            outbox.put("ops", message(late.pop()))
        return seen

    monkeypatch.setattr(Sender, "run", run_and_more)
    assert main(["--project", str(tmp_path)]) == 0
    assert heard(server) == ["a", "b"]


def test_what_comes_between_the_last_look_of_a_carrier_and_its_end_is_sent(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox, put, may_end = project_of(tmp_path, target(server)), Event(), Event()
    outbox.put("ops", message("a"))

    class Slow(senders.Carrier):
        def run(self) -> None:
            super().run()
            if not put.is_set():
                outbox.put("ops", message("b"))
                put.set()
                may_end.wait(30)

        def is_alive(self) -> bool:
            """It ends between this look at it and the next."""
            alive = super().is_alive()
            if alive and put.is_set():
                may_end.set()
                self.join()
            return alive

    monkeypatch.setattr(senders, "Carrier", Slow)
    assert main(["--project", str(tmp_path)]) == 0
    assert heard(server) == ["a", "b"]


def test_what_waits_is_told_apart_by_its_target_too(tmp_path: Path, server: Server) -> None:
    outbox = project_of(tmp_path, target(server))
    for name in ("ops", "others"):
        outbox.put(name, message("a"))
    (first,) = names(outbox.folder / "waiting" / "ops")
    (second,) = (outbox.folder / "waiting" / "others").iterdir()
    second.rename(second.with_name(first))
    assert len(senders.waiting(outbox)) == 2


@pytest.mark.timeout(900)
def test_killed_at_every_step_it_loses_nothing_and_says_nothing_twice_but_under_the_same_id(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that is unwell, one message that is refused: each step of ours is the last of one sender."""
    monkeypatch.setattr(senders, "LOOK_EVERY", 0.005)
    wanted, unwell = ["a", "b", "c"], ["503", OK, "404"]

    def begun(name: str) -> Outbox:
        outbox = project_of(tmp_path / name, target(server, path=f"/{name}"))
        for ident in wanted:
            outbox.put("ops", message(ident))
        server.script = list(unwell)
        return outbox

    counting = begun("counting")
    assert ended(forked(lambda: steps(counting._root, 0))) == 0
    total = int((counting._root / "steps").read_text())
    assert total > 300
    chosen, doubled = spread(total, times(20, 1000)), 0
    for at in chosen:
        outbox, name = begun(f"at{at}"), f"/at{at}"
        killed = ended(forked(lambda outbox=outbox, at=at: steps(outbox._root, at + 1)))  # type: ignore[misc]
        assert killed in (0, -signal.SIGKILL)
        wait_for(lambda: not any(thread.is_alive() for thread in server._threads))  # what was on its way is heard
        server.script = [] if killed else server.script
        assert ended(forked(lambda outbox=outbox: main(["--project", str(outbox._root)]))) == 0  # type: ignore[misc]
        yes = heard(server, name)
        refused = [letter.message.id for letter in outbox.refused()]
        assert {*yes, *refused} == {*wanted}, f"step {at}: {yes}, refused {refused}"
        assert [one for number, one in enumerate(yes) if one not in yes[:number]] == sorted({*yes}), f"step {at}: {yes}"
        assert all(yes.count(one) <= 2 for one in wanted), f"step {at}: {yes}"
        assert not outbox.waits(), f"step {at}"
        doubled += len(yes) - len({*yes})
        assert all(json.loads(path.read_text()) for path in outbox.folder.rglob("*.json") if path.name[0] != ".")
    print(f"{total} steps, {len(chosen)} killed, {doubled} told again under the same id")


@pytest.mark.parametrize("how", [OK, "500", "half"])
def test_killed_while_the_target_listens_it_is_told_again_under_the_same_id(
    tmp_path: Path, server: Server, how: str
) -> None:
    """Between the request and its answer: nobody can know whether it was heard."""
    outbox, pids = project_of(tmp_path, target(server)), list[int]()
    outbox.put("ops", message("a"))
    server.script, server.on_request = [how], lambda: os.kill(pids.pop(), signal.SIGKILL) if pids else None
    gate = os.pipe()
    pids.append(forked(lambda: (os.read(gate[0], 1), main(["--project", str(tmp_path)]))[1]))
    pid = pids[0]
    os.write(gate[1], b".")
    assert ended(pid) == -signal.SIGKILL
    assert names(outbox.folder / "waiting" / "ops")
    run(outbox)
    assert {*heard(server)} == {"a"}
    assert not outbox.waits()
