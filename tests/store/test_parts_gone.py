"""Reading where a part is gone: a base, a segment, state.json; and what an older format leaves to be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import disk
from orchestrator.core import events as ev
from orchestrator.core import formats
from orchestrator.core.names import iso
from orchestrator.errors import StateDamaged
from orchestrator.store import journal, lines
from orchestrator.store.reading import oldest_format, read_lines, read_state
from tests.core.given import NOW
from tests.store.given import (
    commit_all,
    compacted,
    opening,
    parts,
    remark,
    seen,
    spoil,
    store_of,
)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return tmp_path / "system"


def test_a_reader_does_not_complain_of_what_the_snapshot_proves(system):
    compacted(system).close()
    spoil(parts(system)[0][0])
    assert read_state(system).notices == [] and not read_state(system).mend
    assert read_state(system, verify=True).mend


def test_a_torn_segment_that_is_not_the_last_is_damage(system):
    store = compacted(system)
    store.close()
    (system / "state.json").unlink()
    older = parts(system)[0][0]
    whole = older.read_bytes()
    older.write_bytes(whole[:-9])
    with pytest.raises(StateDamaged, match=rf"{older.name}: cut off, but not the last"):
        read_state(system)
    older.write_bytes(whole)
    spoil(older)
    with pytest.raises(StateDamaged, match=rf"{older.name}, line \d+ \(byte \d+\): its checksum does not fit"):
        read_state(system)


def test_an_older_base_that_is_damaged_is_not_needed_where_a_newer_one_proves_the_state(system):
    store = compacted(system)
    store.commit(remark("unsettled"), NOW)
    store._file.close()  # killed
    segments, bases = parts(system)
    spoil(bases[0])
    loaded = read_state(system, verify=True)
    assert not loaded.notices and not loaded.mend and seen(loaded.state) == seen(store.state)
    newest = segments[-1].read_bytes()
    assert [line.seq for line in read_lines(system)] == [*range(int(segments[-1].stem), store.position.seq + 1)]
    segments[-1].write_bytes(newest[:20] + b"#" + newest[21:])
    loaded = read_state(system, verify=True)
    assert loaded.mend and f"{segments[-1].name}, line 1 (byte 0): its checksum does not fit" in loaded.notices[0]


def test_without_any_base_the_snapshot_proves_the_state_and_the_next_writer_makes_one(system):
    store = compacted(system)
    store.close()
    _, bases = parts(system)
    bases[0].unlink()
    bases[1].write_bytes(b"{")
    again = store_of(system)
    (notice,) = again.notices
    assert notice.endswith(
        f"no snapshot to begin from ({bases[0].name}: missing; {bases[1].name}: it is not whole JSON (byte 1)); "
        "state.json proves the state"
    )
    again.close()
    (system / "state.json").unlink()
    assert seen(read_state(system).state) == seen(store.state)


def test_all_lines_that_are_left_are_read_in_their_order(system):
    assert read_lines(system) == []
    store = compacted(system)
    store.close()
    segments, _ = parts(system)
    found = [line.seq for line in read_lines(system)]
    assert found == [*range(int(segments[0].stem), store.position.seq + 1)]
    spoil(segments[0])
    with pytest.raises(StateDamaged, match=segments[0].name):
        read_lines(system)


@pytest.mark.parametrize(
    ("at", "event", "what"),
    [
        ("yesterday", ev.AgentLeft("a1", "gone").as_dict(), "yesterday"),
        (iso(NOW), {"event": "AgentLeft", "agent": 3, "why": "gone"}, "agent"),
        (iso(NOW), {"event": "AgentFlew", "agent": "a1"}, "AgentFlew"),
    ],
)
def test_a_whole_line_of_another_meaning_is_refused_by_whoever_reads_it(system, at, event, what):
    store = store_of(system)
    commit_all(store, [opening()])
    document = {"v": 1, "seq": 2, "at": at, "events": [event], "because": [""]}
    store._append(lines.encode(document, store.position.chain)[0])
    store.close()
    for read in (read_state, read_lines):
        with pytest.raises(StateDamaged, match=rf"line 2 says what this orch cannot follow \(.*{what}"):
            read(system)


def test_of_the_segments_only_the_newest_decides_about_an_upgrade(system, monkeypatch):
    monkeypatch.setattr(formats, "VERSION", 3)
    assert oldest_format(system) == 3
    disk.make_folder(system / "journal")
    (system / "state.json").write_bytes(b'{"version":3,"seq":9}')
    for first, version in ((1, 1), (5, 2)):
        journal.path_of(system / "journal", first).write_bytes(b'{"v":%d,"seq":1}' % version)
    assert oldest_format(system) == 2, "the one before it is closed, and read step by step"
