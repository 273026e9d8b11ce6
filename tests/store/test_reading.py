from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator import disk
from orchestrator.core import events as ev
from orchestrator.errors import StateDamaged
from orchestrator.store import journal as segments_of
from orchestrator.store import reading, snapshot
from orchestrator.store.lines import encode
from orchestrator.store.reading import read_state
from orchestrator.store.store import JournalStore
from tests.core.given import NOW, completed, failed, intended
from tests.store.given import commit_all, decision, opening, read, seen, store_of, turns

DECISIONS = [
    opening(), decision(intended(1)), decision(failed(1)), decision(ev.PhaseReset(1, "again"), intended(1, 2)),
    decision(completed(1, 2), ev.RunEnded("completed", 0)),
]  # fmt: skip
LINES = len(DECISIONS)


class History:
    """A small journal, and for each of its lines the state and the snapshot behind it."""

    def __init__(self, system: Path) -> None:
        store = store_of(system)
        self.states, self.snapshots, self.ends = [seen(store.state)], [b""], [0]
        for one in DECISIONS:
            store.commit(one, NOW)
            store.settle(NOW)
            self.states.append(seen(read_state(system).state))
            self.snapshots.append((system / "state.json").read_bytes())
            self.ends.append(store.position.offset)
        store.close()
        self.journal = (system / "journal" / "000000000001.jsonl").read_bytes()

    def lay(self, system: Path, journal: bytes, snapshot_of: int) -> None:
        """The journal with these bytes; state.json as it was after that many lines (0: none)."""
        (system / "journal").mkdir(parents=True, exist_ok=True)
        (system / "journal" / "000000000001.jsonl").write_bytes(journal)
        (system / "state.json").unlink(missing_ok=True)
        if snapshot_of:
            (system / "state.json").write_bytes(self.snapshots[snapshot_of])


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(tmp_path_factory.mktemp("history"))


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return tmp_path / "system"


def flips(path: Path) -> Iterator[int]:
    """The file with one bit changed: in every byte one, in each of the last ones every one; yields where."""
    whole = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for at in range(len(whole)):
            for bit in range(8) if at >= len(whole) - 24 else (at % 8,):
                os.pwrite(file.fileno(), bytes([whole[at] ^ (1 << bit)]), at)
                yield at
            os.pwrite(file.fileno(), whole[at : at + 1], at)


# ---- cut anywhere


@pytest.mark.parametrize("snapshot_of", [0, 2, LINES])
@pytest.mark.parametrize("verify", [False, True], ids=["reader", "writer"])
def test_a_journal_cut_at_any_byte_gives_the_last_whole_line_or_is_damage(history, system, snapshot_of, verify):
    history.lay(system, history.journal, snapshot_of)
    for cut in range(len(history.journal), -1, -1):
        os.truncate(system / "journal" / "000000000001.jsonl", cut)
        if cut < history.ends[snapshot_of]:
            with pytest.raises(StateDamaged, match="the snapshot is ahead of the journal"):
                read_state(system, verify=verify)
            continue
        whole = sum(end <= cut for end in history.ends[1:])
        loaded = read_state(system, verify=verify)
        assert seen(loaded.state) == history.states[whole], cut
        assert loaded.position.seq == whole and loaded.torn == (cut != history.ends[whole])
        assert bool(loaded.notices) == (snapshot_of == 0 and whole > 0)


def test_the_next_writer_takes_a_torn_tail_away_and_goes_on(history, system):
    for cut in range(history.ends[3], len(history.journal), 29):
        history.lay(system, history.journal[:cut], 2)
        store = store_of(system)
        whole = store.position.seq
        store.commit(decision(ev.AgentLeft("a1", "gone")), NOW)
        store.close()
        assert (system / "journal" / "000000000001.jsonl").read_bytes()[: history.ends[whole]] == history.journal[
            : history.ends[whole]
        ]
        (system / "state.json").unlink()
        assert read(system) == history.states[whole] and read_state(system).position.seq == whole + 1


# ---- one bit changed anywhere


@pytest.mark.parametrize("snapshot_of", [0, 2])
def test_any_changed_bit_of_the_journal_is_damage_where_no_snapshot_proves_it(history, system, snapshot_of):
    history.lay(system, history.journal, snapshot_of)
    for at in flips(system / "journal" / "000000000001.jsonl"):
        if at < history.ends[snapshot_of]:
            assert read(system) == history.states[-1]
        else:
            with pytest.raises(StateDamaged):
                read_state(system)


def test_any_changed_bit_that_the_snapshot_proves_is_without_effect_and_seen_by_the_next_writer(history, system):
    history.lay(system, history.journal, LINES)
    for at in flips(system / "journal" / "000000000001.jsonl"):
        loaded = read_state(system, verify=True)
        assert seen(loaded.state) == history.states[-1], at
        assert loaded.mend and "state.json proves the state" in loaded.notices[0], at


def test_the_next_writer_mends_the_journal_and_both_copies_prove_the_state_again(history, system):
    size = len(history.journal)
    for at in (0, 9, history.ends[1] - 1, history.ends[2] + 40, size - 30, size - 2, size - 1):
        shutil.rmtree(system, ignore_errors=True)
        data = bytearray(history.journal)
        data[at] ^= 16
        history.lay(system, bytes(data), LINES)
        store = store_of(system)
        assert len(store.notices) == 1
        store.commit(decision(ev.AgentLeft("a1", "gone")), NOW)
        store.close()
        again = store_of(system)
        assert not again.notices and seen(again.state) == history.states[-1]
        again.close()
        (system / "state.json").unlink()
        assert read(system) == history.states[-1]
        assert [path.name for path in (system / "journal").glob("*.damaged")] == ["000000000001.damaged"]


def test_any_changed_bit_of_the_snapshot_is_seen_and_the_journal_proves_the_state(history, system):
    history.lay(system, history.journal, LINES)
    named = 0
    for at in flips(system / "state.json"):
        try:
            loaded = read_state(system)
        except StateDamaged as error:  # the version itself was hit: it reads as a newer format
            assert "is of format" in error.message
            named += 1
        else:
            assert seen(loaded.state) == history.states[-1], at
            assert "the journal proves the state" in loaded.notices[0]
    assert named <= 1


# ---- a copy is missing


def test_without_a_snapshot_the_journal_proves_the_state_and_the_next_writer_mends_it(history, system):
    history.lay(system, history.journal, 0)
    loaded = read_state(system)
    assert seen(loaded.state) == history.states[-1] and "is missing; the journal proves the state" in loaded.notices[0]
    assert not (system / "state.json").exists(), "a reader writes nothing"
    store_of(system).close()
    assert snapshot.load(system / "state.json")[1].seq == LINES


@pytest.mark.parametrize("gone", ["journal", "segment"])
def test_without_a_journal_nothing_is_touched(history, system, gone):
    history.lay(system, history.journal, LINES)
    if gone == "journal":
        shutil.rmtree(system / "journal")
    else:
        (system / "journal" / "000000000001.jsonl").unlink()
    for verify in (False, True):
        with pytest.raises(StateDamaged, match=r"000000000001\.jsonl is missing") as caught:
            read_state(system, verify=verify)
        assert caught.value.exit_code == 4 and "nothing was touched" in caught.value.remedy
    with pytest.raises(StateDamaged):
        store_of(system)
    assert (system / "state.json").read_bytes() == history.snapshots[-1]


def test_a_damaged_snapshot_with_nothing_to_prove_it_is_never_a_start_from_empty(history, system):
    history.lay(system, b"", LINES)
    (system / "state.json").write_bytes(history.snapshots[-1][:-9])
    with pytest.raises(StateDamaged, match="the journal is empty"):
        read_state(system)
    shutil.rmtree(system / "journal")
    with pytest.raises(StateDamaged, match="there is no journal to prove it"):
        read_state(system)


def test_nothing_at_all_is_a_start_and_nothing_to_complain_of(system):
    assert read_state(system).position.seq == 0 and not system.exists()
    store_of(system).close()
    assert read_state(system).notices == [] and store_of(system).notices == []


def test_a_snapshot_of_another_journal_is_seen_by_the_next_writer(history, system):
    other = store_of(system)
    commit_all(other, [opening(3), *turns(2, 1), *turns(3, 1)])
    other.close()
    assert len((system / "journal" / "000000000001.jsonl").read_bytes()) > history.ends[2]
    (system / "state.json").write_bytes(history.snapshots[2])
    with pytest.raises(StateDamaged):
        read_state(system, verify=True)


# ---- other formats


@pytest.mark.parametrize(
    ("event", "what"),
    [
        ({"event": "PhaseExploded", "number": 1}, "PhaseExploded"),
        ({"event": "AgentLeft", "agent": "a", "why": "b", "colour": "red"}, "colour"),
        (completed(1).as_dict(), "PhaseCompleted cannot happen to a phase that is pending"),
        ({"number": 1}, "event"),
    ],
)
def test_a_line_that_this_orch_cannot_follow_is_damage_with_a_name(history, system, event, what):
    chain = read_chain(history)
    line = encode(
        {
            "v": 1,
            "seq": LINES + 1,
            "at": "2026-11-20T02:00:00.000Z",
            "events": [ev.PhaseReset(1, "").as_dict(), event],
            "because": ["", ""],
        },
        chain,
    )[0]
    history.lay(system, history.journal + line, LINES)
    with pytest.raises(StateDamaged, match=rf"line {LINES + 1} says what this orch cannot follow .*{what}"):
        read_state(system)


def read_chain(history: History) -> int:
    return int(json.loads(history.snapshots[-1])["chain"])


def test_a_newer_format_is_refused_by_name_and_not_touched(history, system):
    line = encode({"v": 2, "seq": LINES + 1}, read_chain(history))[0]
    history.lay(system, history.journal + line, LINES)
    with pytest.raises(StateDamaged, match="the journal is of format 2; this orch knows format 1"):
        store_of(system)
    newer = b'{"version":2}'
    history.lay(system, history.journal, 0)
    (system / "state.json").write_bytes(newer)
    with pytest.raises(StateDamaged, match=r"state\.json is of format 2"):
        store_of(system)
    assert (system / "state.json").read_bytes() == newer
    assert (system / "journal" / "000000000001.jsonl").read_bytes() == history.journal


# ---- compacted under the reader's eyes


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_reader_looks_again_when_the_journal_was_compacted_meanwhile(system, monkeypatch, when, times):
    store = store_of(system, segment_bytes=500)
    commit_all(store, [opening(), *turns(1, 1)])
    decisions = (one for attempt in range(2, 99) for one in turns(1, attempt))

    def compact() -> None:
        for _ in range(times):
            first = store.position.segment
            while store.position.segment == first:
                commit_all(store, [next(decisions)])

    interrupted(monkeypatch, compact, when)
    assert seen(read_state(system).state) == seen(store.state)
    store.close()


def interrupted(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None], when: str) -> None:
    """Something happens just before or after the first look at state.json."""
    real, calls = snapshot.load, []

    def load(path: Path) -> object:
        calls.append(path)
        if len(calls) == 1 and when == "before":
            happens()
        found = real(path)
        if len(calls) == 1 and when == "after":
            happens()
        return found

    monkeypatch.setattr(reading.snapshot, "load", load)


def test_a_reader_that_only_ever_sees_compactions_gives_up_with_the_fault(system, monkeypatch):
    store = store_of(system)
    commit_all(store, [opening()])
    store.close()
    (system / "journal" / "000000000001.jsonl").unlink()
    looks: list[int] = []
    real = segments_of.segments

    def segments(folder: Path) -> list[segments_of.Segment]:
        looks.append(1)
        (system / "journal" / f"{len(looks) + 100:012d}.jsonl").touch()
        return real(folder)

    monkeypatch.setattr(reading.journal, "segments", segments)
    with pytest.raises(StateDamaged):
        read_state(system)
    assert len(looks) < 30


def test_reading_beside_a_writer_always_gives_a_state_that_was_true(system):
    """As fast as both can: a reader sees every state whole, and never an older one than it saw before."""
    store: JournalStore = store_of(system, segment_bytes=600)
    commit_all(store, [opening()])
    last = 0
    for attempt in range(1, 40):
        for one in turns(1, attempt):
            store.commit(one, NOW)
            if attempt % 3:
                store.settle(NOW)
            found = read_state(system)
            assert found.position.seq == store.position.seq > last and seen(found.state) == seen(store.state)
            last = found.position.seq
    store.close()


# ---- compacted, and a part of it lost


def compacted(system: Path) -> JournalStore:
    """A store of three segments or more were none ever removed: two of them, and two snapshots, are left."""
    store = store_of(system, segment_bytes=600)
    commit_all(store, [opening(), *(one for attempt in range(1, 12) for one in turns(1, attempt))])
    commit_all(store, [decision(intended(1, 12))])
    store.close()
    assert len([*(system / "journal").glob("*.snapshot.json")]) == len(segments_of.segments(system / "journal")) == 2
    return store


def test_every_line_that_is_left_is_told_in_its_order(system):
    last = compacted(system).position.seq
    first = segments_of.segments(system / "journal")[0].first
    assert [line.seq for line in reading.read_lines(system)] == list(range(first, last + 1))


def test_lines_before_the_oldest_snapshot_that_can_be_trusted_are_not_told(system):
    last = compacted(system).position.seq
    old, new = segments_of.segments(system / "journal")
    segments_of.base_of(system / "journal", old.first).unlink()
    assert [line.seq for line in reading.read_lines(system)] == list(range(new.first, last + 1))


def test_a_line_that_cannot_be_trusted_is_not_told_nor_any_behind_it(history, system):
    data = bytearray(history.journal)
    data[history.ends[1] + 40] ^= 1
    history.lay(system, bytes(data), LINES)
    with pytest.raises(StateDamaged, match=r"000000000001\.jsonl, line 2 \(byte \d+\): its checksum does not fit"):
        reading.read_lines(system)


def test_without_any_snapshot_to_begin_from_it_is_said_of_each_what_is_wrong(system):
    compacted(system)
    old, new = segments_of.segments(system / "journal")
    segments_of.base_of(system / "journal", old.first).unlink()
    segments_of.base_of(system / "journal", new.first).write_text("{")
    names = [segments_of.base_of(system / "journal", one.first).name for one in (old, new)]
    what = rf"no snapshot to begin from \({names[0]}: missing; {names[1]}: it is not whole JSON"
    with pytest.raises(StateDamaged, match=what):
        reading.read_lines(system)
    (system / "state.json").unlink()
    with pytest.raises(StateDamaged, match=what):
        read_state(system)


def test_where_every_snapshot_of_the_journal_is_lost_state_json_proves_the_state_and_the_next_writer_mends_it(system):
    truth = seen(compacted(system).state)
    for path in (system / "journal").glob("*.snapshot.json"):
        path.unlink()
    loaded = read_state(system, verify=True)
    assert loaded.mend and seen(loaded.state) == truth
    assert len(loaded.notices) == 1 and loaded.notices[0].endswith("; state.json proves the state")
    store_of(system).close()
    again = read_state(system, verify=True)
    assert not again.mend and again.notices == [] and seen(again.state) == truth
    (system / "state.json").unlink()
    assert read(system) == truth


def test_the_state_is_read_once_more_when_it_never_stands_still(system, monkeypatch):
    """The last look decides."""
    store = store_of(system)
    commit_all(store, [opening()])
    store.close()
    looks: list[int] = []
    real = snapshot.load

    def load(path: Path) -> object:
        looks.append(1)
        if len(looks) <= reading.TRIES:
            disk.replace(system / "state.json", (system / "state.json").read_bytes(), durable=False)
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(reading.snapshot, "load", load)
    assert seen(read_state(system).state) == seen(store.state) and len(looks) == reading.TRIES + 1
