from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import clock
from orchestrator.bridge.conversation import Backoff, Conversation, connect
from orchestrator.core.wire import ALONE_AFTER, VERSION, Link
from tests.core.given import ME


class Far:
    """The agent's end of the line."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.link = sock, Link()
        sock.settimeout(20)

    def say(self, kind: str, **fields: object) -> None:
        self.sock.sendall(self.link.send(kind, **fields))

    def hear(self) -> list[dict[str, object]]:
        return self.link.receive(self.sock.recv(1 << 20))


@pytest.fixture
def pair() -> Iterator[tuple[Conversation, Far]]:
    here, there = socket.socketpair()
    talk, far = Conversation(here, "a1", ME), Far(there)
    yield talk, far
    talk.close()
    far.sock.close()


def kinds(messages: list[dict[str, object]]) -> list[object]:
    return [message["kind"] for message in messages]


def test_a_greeting_says_who_we_are_what_we_speak_and_how_far_we_have_heard(pair):
    talk, far = pair
    talk.greet(7, ME, {"beat_interval": 2.0})
    assert far.hear() == [
        {
            "kind": "hello",
            "v": VERSION,
            "epoch": 7,
            "owner": ME.as_dict(),
            "seen": 0,
            "settings": {"beat_interval": 2.0},
        }
    ]


def test_what_is_said_is_heard_in_its_order_and_kept_until_it_is_acknowledged(pair):
    talk, far = pair
    for number in range(3):
        talk.say("stop", attempt=f"r1/{number}.1")
    talk.flush()
    assert [message["attempt"] for message in far.hear()] == ["r1/0.1", "r1/1.1", "r1/2.1"]
    assert (talk.unacknowledged, talk.sent) == (3, 3)
    far.sock.sendall(far.link.acknowledge())
    assert talk.hear() == [] and talk.unacknowledged == 0


def test_what_is_heard_is_acknowledged_and_counted(pair):
    talk, far = pair
    assert talk.hear() == []
    far.say("started", attempt="r1/3.1")
    far.say("beat")
    assert kinds(talk.hear()) == ["started", "beat"] and talk.received == 2
    assert far.link.unacknowledged == 1
    talk.ping()
    assert kinds(far.hear()) == ["ping"] and far.link.unacknowledged == 0
    for _ in range(ALONE_AFTER):
        far.say("started", attempt="r1/3.1")
    talk.hear()
    assert far.hear() == [] and far.link.unacknowledged == 0


def test_a_pong_tells_the_latency_and_nothing_else(pair):
    talk, far = pair
    talk.ping()
    (ping,) = far.hear()
    far.say("pong", t=ping["t"])
    assert talk.latency is None and talk.hear() == [] and 0 <= talk.latency < 30


def test_hearing_anything_is_a_sign_of_life(pair):
    talk, far = pair
    talk.heard_at -= 100
    far.say("beat")
    talk.hear()
    assert clock.ticking() - talk.heard_at < 50


def test_a_closed_line_is_told_once_and_breaks_nothing(pair):
    talk, far = pair
    far.say("started", attempt="r1/3.1")
    far.sock.close()
    assert kinds(talk.hear()) == ["started"] and talk.closed == "its socket closed"
    talk.say("stop", attempt="r1/3.1")
    assert talk.hear() == [] and talk.unacknowledged == 1
    talk.finish()


def test_one_that_speaks_something_else_is_cut_off_with_the_reason(pair):
    talk, far = pair
    far.sock.sendall(b"HTTP/1.1 400 Bad Request\n")
    assert talk.hear() == [] and talk.closed.startswith("it does not speak our protocol: not JSON")


def test_nothing_waits_for_an_agent_that_does_not_read(pair):
    talk, far = pair
    far.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    since = clock.ticking()
    for number in range(400):
        talk.say("start", order="x" * 4096, number=number)
        talk.flush()
    assert clock.ticking() - since < 30 and talk.wants_to_be_tended_in() < 1
    heard = 0
    while heard < 400:
        heard += len(far.hear())
        talk.flush()
    assert talk.wants_to_be_tended_in() >= 1


def test_who_waits_for_an_answer_goes_on_saying_what_did_not_fit_at_once(pair):
    talk, far = pair
    for number in range(400):
        talk.say("start", order="x" * 4096, number=number)
    talk.flush()
    assert talk.wants_to_be_tended_in() < 1

    def hear_all() -> None:
        heard = 0
        while heard < 400:
            heard += len(far.hear())

    reader = threading.Thread(target=hear_all, daemon=True)
    reader.start()
    since = clock.ticking()
    while talk.wants_to_be_tended_in() < 1:
        talk.wait(20.0)
        talk.flush()
    reader.join()
    assert clock.ticking() - since < 15.0
    since = clock.ticking()
    talk.wait(0.05)
    assert clock.ticking() - since >= 0.05, "nothing is left to say, and nothing is heard"


def test_after_a_new_line_numbers_go_on_and_only_what_was_not_seen_is_said_again(pair):
    talk, far = pair
    talk.say("stop", attempt="r1/1.1")
    talk.flush()
    assert len(far.hear()) == 1
    far.sock.close()
    talk.hear()
    talk.say("stop", attempt="r1/2.1")
    here, there = socket.socketpair()
    talk.resume(here)
    assert talk.closed == ""
    again = Far(there)
    again.link = far.link
    again.link.reconnected()
    talk.greet(8, ME, {})
    talk.say("stop", attempt="r1/3.1")
    (hello,) = again.hear()
    assert hello["kind"] == "hello", "nothing overtakes what was lost with the old line"
    talk.replay(again.link.seen)
    assert [message["attempt"] for message in again.hear()] == ["r1/2.1", "r1/3.1"]
    there.close()


def test_what_was_said_last_is_handed_over_before_we_turn_away(pair):
    talk, far = pair
    for _ in range(60):
        talk.say("stop", attempt="r1/1.1", why="x" * 4096)
    pid = os.fork()
    if pid == 0:
        count = 0
        try:
            while count < 60:
                count += len(far.hear())
        finally:
            os._exit(0 if count == 60 else 1)
    talk.finish()
    assert os.waitpid(pid, 0)[1] == 0


def test_who_cannot_be_reached_is_tried_at_once_and_then_ever_more_seldom():
    backoff = Backoff()
    assert backoff.is_due() and backoff.due_in() == 0.0
    waits = []
    for _ in range(8):
        backoff.failed()
        waits.append(backoff.due_in())
    assert not backoff.is_due() and backoff.tries == 8
    assert 0.5 <= waits[0] <= 2.0 and waits[2] > 2.5 and max(waits) <= 31


def test_an_agent_is_reached_in_a_folder_of_any_depth(tmp_path):
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20)
    folder.mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    listener.bind(f"/proc/self/fd/{fd}/sock")
    os.close(fd)
    listener.listen()
    before = len(os.listdir("/proc/self/fd"))
    sock = connect(folder)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    sock.close()
    listener.close()


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_an_agent_that_is_not_there_leaves_nothing_open(tmp_path: Path, folder):
    (tmp_path / "empty").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        connect(tmp_path / folder)
    assert len(os.listdir("/proc/self/fd")) == before
