"""Lines and segments at their limits: exactly full, torn at the very end, told apart where two could be meant."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from orchestrator.core import events as ev
from orchestrator.core.state import State
from orchestrator.store import journal, lines, snapshot
from orchestrator.store.journal import Damage, Read
from orchestrator.store.lines import BadLine
from orchestrator.store.snapshot import Encoder, Position
from tests.core.given import NOW
from tests.store.given import (
    opening,
)


def test_letters_stand_in_the_files_as_themselves():
    data, chain = lines.encode({"who": "Zoë"}, 0)
    assert "Zoë".encode() in data and lines.told_chain(data[:-1]) == chain and lines.told_chain(data[:-9]) is None
    state = State()
    for event in (*opening().events, ev.PlanAdopted("digest", {"1": ["Zoë", ""]})):
        state.apply(event, NOW)
    assert "Zoë".encode() in Encoder().encode(state, Position())


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    """Three lines, of which the first is number 5."""
    path, chain = journal.path_of(tmp_path, 5), 0
    with open(path, "wb") as file:
        for seq in (5, 6, 7):
            data, chain = lines.encode({"v": 1, "seq": seq, "at": "x", "events": [], "because": []}, chain)
            file.write(data)
    return path


def test_what_cannot_be_read_is_damaged_as_a_whole(tmp_path):
    folder = journal.path_of(tmp_path, 5)
    folder.mkdir()
    damage = Damage(folder, 0, 0, "it cannot be read: a folder stands where a file should")
    assert journal.read(folder, 3, 4, offset=9) == Read([], 9, 3, 4, False, damage)
    assert str(damage) == f"{folder.name}: {damage.why}", "no line is named"


@pytest.mark.parametrize(
    "tail",
    [
        b"\0" * 90, b"\0" * 50 + b"\n" + b"\0" * 39, b"\n\0\n",
        b'{"v":1,"seq":8,' + b"\0" * 60 + b"\n", b"\0" * 60 + b',"sum":"12345678"}\n',
    ],
)  # fmt: skip
def test_what_a_power_cut_leaves_behind_the_last_line_is_a_decision_not_taken(segment, tail):
    whole = journal.read(segment, 0, 4)
    with open(segment, "ab") as file:
        file.write(tail)
    found = journal.read(segment, 0, 4)
    assert found == whole._replace(torn=True) and found.last == 7
    middle = lines_of(segment)[0]
    assert journal.read(segment, middle.chain, 5, offset=whole.end // 3) == found._replace(lines=found.lines[1:])


def lines_of(path: Path) -> list[lines.Line]:
    return journal.read(path, 0, 4).lines


def test_a_last_line_whose_newline_never_reached_the_disk_is_torn(segment):
    data = segment.read_bytes()
    segment.write_bytes(data[:-1] + b"\0")
    found = journal.read(segment, 0, 4)
    assert (found.last, found.torn, found.damage) == (6, True, None)
    segment.write_bytes(data[:-1] + b" ")
    start = len(data) // 3 * 2
    found = journal.read(segment, 0, 4)
    assert (found.torn, found.damage) == (False, Damage(segment, 3, start, "its newline is damaged"))
    assert journal.is_whole(data[start:-1], lines_of(segment)[-1].chain) is True
    assert journal.is_whole(data[start:-2], lines_of(segment)[-1].chain) is False


@pytest.mark.parametrize("at", [0, 20, -17, -2], ids=["its beginning", "within", "its seal", "its end"])
def test_a_damaged_last_line_is_damage_from_wherever_it_is_read(segment, at):
    before, size = lines_of(segment)[1], segment.stat().st_size // 3
    data = bytearray(segment.read_bytes())
    data[2 * size + at % size] ^= 1
    segment.write_bytes(data)
    damage = Damage(segment, 3, 2 * size, "its checksum does not fit")
    found = Read([], 2 * size, before.chain, 6, False, damage)
    assert journal.read(segment, before.chain, 6, offset=2 * size) == found
    assert journal.read(segment, 0, 4)._replace(lines=[]) == found


@pytest.mark.parametrize(
    ("key", "value", "what"), [("seq", "x", "seq"), ("offset", None, "offset"), ("run", {"id": 3}, "id")]
)
def test_a_sealed_snapshot_that_is_no_state_says_what_cannot_be(tmp_path, key, value, what):
    document = json.loads(Encoder().encode(State(), Position()))
    del document["check"]
    body = json.dumps({**document, key: value}).encode()[:-1]
    (tmp_path / "state.json").write_bytes(body + b',"check":"%08x"}\n' % zlib.crc32(body))
    found = snapshot.load(tmp_path / "state.json")
    assert isinstance(found, BadLine) and str(found).startswith(f"it is whole, but not a state ({what} cannot be ")
