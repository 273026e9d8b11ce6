"""The protocol without a socket: what is sent arrives once, in order, over any cut and any reconnect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core import wire
from orchestrator.core.names import AttemptId
from orchestrator.core.spec import Limits
from orchestrator.core.wire import Link, Order, WireFault


def plain(messages: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(message["kind"], message.get("x")) for message in messages]


def test_a_message_is_a_line_of_json_with_its_number() -> None:
    link = Link()
    assert json.loads(link.send("start", x=1)) == {"kind": "start", "x": 1, "n": 1, "seen": 0}
    assert link.send("stop", x="é\n").count(b"\n") == 1
    assert json.loads(link.send("ping", t=1)) == {"kind": "ping", "t": 1}
    assert link.unacknowledged == 2


@given(
    st.lists(st.tuples(st.sampled_from(["start", "stop", "beat", "ended"]), st.text())), st.lists(st.integers(1, 20))
)
def test_whatever_the_cuts_all_arrives_in_order(sent: list[tuple[str, str]], cuts: list[int]) -> None:
    here, there = Link(), Link()
    data = b"".join(here.send(kind, x=text) for kind, text in sent)
    got = []
    for size in cuts:
        got += there.receive(data[:size])
        data = data[size:]
    got += there.receive(data)
    assert plain(got) == sent


def test_what_is_acknowledged_is_forgotten() -> None:
    here, there = Link(), Link()
    there.receive(here.send("start") + here.send("start"))
    assert here.receive(there.acknowledge()) == []
    assert here.unacknowledged == 0
    assert there.acknowledge() == b""  # nothing new: nothing to say


def test_an_acknowledgement_rides_along_and_goes_alone_only_where_nothing_follows() -> None:
    here, there = Link(), Link()
    for _ in range(3):
        there.receive(here.send("start"))
    assert there.acknowledge(4) == b""
    here.receive(there.send("ended"))
    assert here.unacknowledged == 0 and there.acknowledge() == b""
    there.receive(here.send("taken"))
    here.receive(there.acknowledge(1))
    assert here.unacknowledged == 0


def test_what_was_not_seen_is_sent_again_after_a_reconnect_and_counts_once() -> None:
    here, there = Link(), Link()
    first, second, third = (here.send("start", x=number) for number in (1, 2, 3))
    there.receive(first + second[:5])  # the connection breaks in the middle of a line
    there.reconnected()
    here.reconnected()
    again = here.replay(there.seen)
    assert again == second + third
    assert plain(there.receive(again)) == [("start", 2), ("start", 3)]
    assert there.receive(again) == []  # twice delivered changes nothing
    assert here.replay(3) == b""


@given(st.data())
def test_any_number_of_broken_connections_loses_and_doubles_nothing(data: st.DataObject) -> None:
    here, there = Link(), Link()
    got: list[Any] = []
    for number in range(data.draw(st.integers(1, 12))):
        flow = here.send("ended", x=number)
        if data.draw(st.booleans()):
            got += there.receive(flow)
        else:
            got += there.receive(flow[: data.draw(st.integers(0, len(flow) - 1))])
            there.reconnected()
            got += there.receive(here.replay(there.seen))
        if data.draw(st.booleans()):
            here.receive(there.acknowledge())
    assert [message["x"] for message in got] == list(range(len(got)))
    assert len(got) == there.seen


def test_a_gap_is_a_fault() -> None:
    here, there = Link(), Link()
    here.send("start")
    with pytest.raises(WireFault, match="2 came after 0"):
        there.receive(here.send("start"))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"x"',
        b"null",
        b"{}",
        b'{"kind": 1}',
        b'{"kind": "x", "n": "1"}',
        b'{"kind": "ack"}',
        b"\xff\xfe",
        b'{"kind": "ack", "seen": "1"}',
    ],
)
def test_what_is_no_message_is_a_fault_and_nothing_else(line: bytes) -> None:
    with pytest.raises(WireFault):
        Link().receive(line + b"\n")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        Link().receive(data)
    except WireFault:
        pass


def test_a_line_without_end_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGEST", 100)
    with pytest.raises(WireFault, match="more than 100"):
        Link().receive(b"x" * 101)


def test_an_order_survives_its_journey() -> None:
    order = Order(
        AttemptId("r1", -3, 2), "index", "phases/p.toml", "d", ("a", "b"), "fork", 3.5, None, 5.0, "sub", {"A": "b"}, Limits(cpu=3),
        "2026-01-02T03:04:05Z", "00-x", {"2": [1, None]}, "system/logs/phases/-3/2.log", 1000,
    )  # fmt: skip
    assert Order.from_dict(json.loads(json.dumps(order.as_dict()))) == order
    for run in ("true", None):
        assert Order.from_dict(json.loads(json.dumps(order.replace(run=run, broken="why").as_dict()))) == order.replace(
            run=run, broken="why"
        )
