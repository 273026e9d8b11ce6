from __future__ import annotations

import json

import pytest

from orchestrator.errors import StateDamaged
from orchestrator.store.lines import BadLine, check, decode, encode, seal

DOCUMENT = {
    "v": 1,
    "seq": 3,
    "at": "2026-11-20T02:00:00.000Z",
    "events": [{"event": "AgentLeft", "agent": "ä"}],
    "because": ["x"],
}


def test_a_line_is_json_that_comes_back_with_its_chain():
    data, chain = encode(DOCUMENT, 7)
    assert data.endswith(b'"}\n') and data.count(b"\n") == 1 and json.loads(data)["events"] == DOCUMENT["events"]
    line = decode(data[:-1], 7)
    assert (line.seq, line.at, line.events, line.because, line.chain) == (
        *[DOCUMENT[key] for key in ("seq", "at", "events", "because")],
        chain,
    )


def test_a_line_fits_only_behind_the_line_before():
    data, _ = encode(DOCUMENT, 7)
    for chain in (0, 6, 8):
        with pytest.raises(BadLine):
            check(data[:-1], chain)


def test_every_changed_missing_or_added_byte_is_seen():
    data = encode(DOCUMENT, 7)[0][:-1]
    for at in range(len(data)):
        for bad in (
            data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :],
            data[:at] + data[at + 1 :],
            data[:at],
            data[:at] + b"0" + data[at:],
        ):
            with pytest.raises(BadLine):
                check(bad, 7)


def test_what_json_does_not_know_is_written_as_text_and_harms_no_line():
    data, _ = encode({**DOCUMENT, "at": "\ud800", "events": [{1, 2}, b"x", float("nan")]}, 0)
    assert data.count(b"\n") == 1
    check(data[:-1], 0)


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_format_is_refused_by_name(version):
    data, _ = encode({**DOCUMENT, "v": version}, 0)
    with pytest.raises(StateDamaged, match=f"the journal is of format {version}; this orch knows format 1"):
        decode(data[:-1], 0)


def test_a_seal_is_the_chain_in_hexadecimal():
    data, chain = seal(b'{"a":1', 0)
    assert data == b'{"a":1,"sum":"%08x"}\n' % chain


def test_a_line_whose_seal_fits_and_that_says_nothing_of_a_decision_is_bad():
    data, _ = encode({"v": 1, "seq": 1, "at": "2026-11-20T00:00:00.000Z", "events": [], "because": ["one too many"]}, 0)
    with pytest.raises(BadLine, match="not a line of a journal"):
        decode(data[:-1], 0)
