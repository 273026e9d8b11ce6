from __future__ import annotations

import json
import re
import zlib

import pytest

from orchestrator.core.state import State
from orchestrator.errors import StateDamaged
from orchestrator.store import snapshot
from orchestrator.store.lines import BadLine
from orchestrator.store.snapshot import Encoder, Position, decode, load
from tests.core.given import NOW, completed, intended
from tests.store.given import opening, seen

POSITION = Position(7, 123, 5, 99)


def state_of(phases: int = 3) -> State:
    state = State()
    for event in (*opening(phases).events, intended(1), completed(1), intended(2)):
        state.apply(event, NOW)
    return state


def test_a_snapshot_is_json_and_comes_back_whole():
    state = state_of()
    data = Encoder().encode(state, POSITION)
    again, position = decode(data)
    assert (seen(again), position) == (seen(state), POSITION)
    document = json.loads(data)
    assert document["version"] == 1 and list(document["phases"]) == ["1", "2", "3"]
    fields = ("status", "started_at", "finished_at", "errors", "retry_count", "inputs_hash", "outputs")
    assert all(field in document["phases"]["1"] for field in fields)


def test_only_what_moved_is_encoded_again_and_the_bytes_are_the_same(monkeypatch):
    state, encoder = state_of(50), Encoder()
    encoder.encode(state, POSITION)
    documents: list[object] = []
    real = snapshot.phase_document
    monkeypatch.setattr(snapshot, "phase_document", lambda phase: documents.append(phase) or real(phase))
    state.apply(completed(2), NOW)
    encoder.moved(2)
    data = encoder.encode(state, POSITION)
    assert documents == [state.phase(2)] and data == Encoder().encode(state, POSITION)
    encoder.forget()
    assert encoder.encode(state, POSITION) == data and len(documents) > 50


@pytest.mark.parametrize("bit", range(8))
def test_every_changed_bit_is_seen(bit):
    data = Encoder().encode(state_of(1), POSITION)
    for at in range(len(data)):
        with pytest.raises((BadLine, StateDamaged)):
            decode(data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :])


def test_every_cut_is_seen():
    data = Encoder().encode(state_of(1), POSITION)
    for at in range(len(data)):
        with pytest.raises(BadLine):
            decode(data[:at])


def test_a_newer_format_is_named_also_when_it_is_sealed_otherwise():
    for newer in (b'{"version": 2, "anything": "else"}', b'{"version": 9}\n'):
        with pytest.raises(StateDamaged, match=r"state\.json is of format [29]; this orch knows format 1") as caught:
            decode(newer)
        assert "newer" in caught.value.remedy


def test_what_cannot_be_trusted_is_told_apart_from_what_is_not_there(tmp_path):
    path = tmp_path / "state.json"
    assert load(path) is None
    for data, why in (
        (b"", "it is not whole JSON (byte 0)"),
        (b"{}", "its checksum does not fit"),
        (b"[1]", "its checksum does not fit"),
    ):
        path.write_bytes(data)
        found = load(path)
        assert isinstance(found, BadLine) and str(found) == why


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"version":1,"run":{}}', "its checksum does not fit"),
        (b'{"run": \xff}', "it is not whole JSON (byte 8)"),
        (b"[" * 100_000, "it is not whole JSON"),
    ],
)
def test_what_is_no_snapshot_says_where_it_ceases_to_be_one(tmp_path, data, why):
    (tmp_path / "state.json").write_bytes(data)
    found = load(tmp_path / "state.json")
    assert isinstance(found, BadLine) and str(found) == why


def test_a_newer_format_is_refused_by_name_however_it_is_sealed(tmp_path):
    (tmp_path / "state.json").write_text('{"version": 99, "sealed": "otherwise"}')
    with pytest.raises(StateDamaged, match="99"):
        load(tmp_path / "state.json")


def test_what_cannot_be_read_is_not_trusted_and_what_may_not_be_is_said(tmp_path, monkeypatch):
    (tmp_path / "state.json").mkdir()
    assert isinstance(load(tmp_path / "state.json"), BadLine)
    assert load(tmp_path / "state.json" / "below") is None

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(snapshot.disk, "read", forbidden)
    with pytest.raises(PermissionError):
        load(tmp_path / "state.json")


def sealed(document: object) -> bytes:
    """With the sum that fits."""
    body = json.dumps(document, separators=(",", ":")).encode()[:-1]
    return body + snapshot._CHECK + b'%08x"}\n' % zlib.crc32(body)


def test_a_sum_that_fits_makes_no_state_of_what_is_none(tmp_path):
    whole = json.loads(Encoder().encode(state_of(1), POSITION))
    del whole["check"]
    path = tmp_path / "state.json"
    path.write_bytes(sealed(whole))
    assert seen(load(path)[0]) == seen(state_of(1))
    missing = {name: value for name, value in whole.items() if name != "agents"}
    for document, what in (
        ({**whole, "seq": -1}, "seq cannot be -1"),
        (missing, "agents"),
        ({**whole, "phases": {"x": {}}}, r"invalid literal for int.*"),
        ({**whole, "run": {**whole["run"], "colour": 1}}, "colour"),
    ):
        path.write_bytes(sealed(document))
        found = load(path)
        assert isinstance(found, BadLine), document
        assert re.fullmatch(rf"it is whole, but not a state \({what}\)", str(found)), str(found)


def test_a_fault_without_a_word_is_told_by_its_kind(tmp_path, monkeypatch):
    def fails(document: object) -> None:
        raise RecursionError

    (tmp_path / "state.json").write_bytes(Encoder().encode(state_of(1), POSITION))
    monkeypatch.setattr(snapshot, "check_state", fails)
    assert str(load(tmp_path / "state.json")) == "it is whole, but not a state (RecursionError)"


def test_a_phase_that_moved_before_anything_was_written_is_written_with_all_others():
    encoder, state = Encoder(), state_of(3)
    encoder.moved(1)
    assert encoder.encode(state, POSITION) == Encoder().encode(state, POSITION)
