from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.store import journal
from orchestrator.store.journal import Damage, Segment
from orchestrator.store.lines import encode

PATH = "000000000001.jsonl"


def lines(count: int, first: int = 1) -> list[bytes]:
    chain, made = 0, []
    for seq in range(first, first + count):
        data, chain = encode({"v": 1, "seq": seq, "at": "x", "events": [{"n": seq}], "because": [""]}, chain)
        made.append(data)
    return made


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    path = tmp_path / PATH
    path.write_bytes(b"".join(lines(3)))
    return path


def test_segments_are_found_in_their_order_and_nothing_else_is(tmp_path):
    for name in (
        "000000000051.jsonl",
        PATH,
        "000000000051.snapshot.json",
        "x.jsonl",
        "000000000007.damaged",
        ".000000000009.jsonl.1.new",
    ):
        (tmp_path / name).touch()
    assert journal.segments(tmp_path) == [Segment(1, tmp_path / PATH), Segment(51, tmp_path / "000000000051.jsonl")]
    assert journal.segments(tmp_path / "missing") == []
    assert journal.path_of(tmp_path, 51).name == "000000000051.jsonl"
    assert journal.base_of(tmp_path, 51).name == "000000000051.snapshot.json"


def test_whole_lines_are_read(segment):
    found = journal.read(segment, 0, 0)
    assert [line.seq for line in found.lines] == [1, 2, 3] and not found.torn and found.damage is None
    assert (found.end, found.last, found.chain) == (segment.stat().st_size, 3, found.lines[-1].chain)


def test_reading_goes_on_from_a_position(segment):
    first = lines(3)[0]
    found = journal.read(segment, 0, 0)
    again = journal.read(segment, found.lines[0].chain, 1, offset=len(first))
    assert [line.seq for line in again.lines] == [2, 3] and again.end == found.end


def test_covered_lines_are_checked_and_not_parsed(segment):
    found = journal.read(segment, 0, 0, after=2)
    assert [line.seq for line in found.lines] == [3] and found.last == 3


@pytest.mark.parametrize("kept", range(1, 60))
def test_an_unfinished_last_line_is_a_decision_not_taken(segment, kept):
    whole = lines(3)
    segment.write_bytes(b"".join(whole[:2]) + whole[2][:-kept])
    found = journal.read(segment, 0, 0)
    assert (found.last, found.torn, found.damage) == (2, True, None) and found.end == len(whole[0] + whole[1])


def test_a_last_line_that_is_whole_but_for_its_newline_was_not_torn_when_something_else_stands_there(segment):
    data = segment.read_bytes()
    segment.write_bytes(data[:-1] + b"\x0b")
    found = journal.read(segment, 0, 0)
    assert not found.torn and found.damage is not None and found.damage.why == "its newline is damaged"


def test_damage_is_named_with_file_line_and_byte(segment):
    data = bytearray(segment.read_bytes())
    start = len(lines(3)[0])
    data[start + 5] ^= 1
    segment.write_bytes(data)
    found = journal.read(segment, 0, 0)
    assert found.damage == Damage(segment, 2, start, "its checksum does not fit") and found.last == 1
    assert str(found.damage) == f"{PATH}, line 2 (byte {start}): its checksum does not fit"


def test_a_line_that_is_missing_out_of_place_or_there_twice_is_damage(segment):
    one, two, three = lines(3)
    for order in ([one, three], [two, three], [one, three, two], [one, one, two]):
        segment.write_bytes(b"".join(order))
        assert journal.read(segment, 0, 0).damage is not None


def test_a_wrong_number_is_named_although_its_seal_fits(segment):
    segment.write_bytes(b"".join(lines(1, first=5)))
    damage = journal.read(segment, 0, 0).damage
    assert damage is not None and damage.why == "line 5 stands where 1 should"


@pytest.mark.parametrize("document", [{"v": 1}, {"v": 1, "seq": 1}])
def test_a_sealed_line_that_is_no_line_is_damage(segment, document):
    segment.write_bytes(encode(document, 0)[0])
    damage = journal.read(segment, 0, 0).damage
    assert damage is not None and damage.why == "not a journal line (KeyError)"


def test_a_journal_that_may_not_be_read_is_no_damaged_one(tmp_path, monkeypatch):
    def forbidden(path, offset=0):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(journal.disk, "read", forbidden)
    with pytest.raises(PermissionError):
        journal.read(tmp_path / "000000000001.jsonl", 0, 0)
