"""The store at its edges: exactly at a limit, with nothing new, with something older or half gone, and what is let go."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import clock, disk, process
from orchestrator.core import events as ev
from orchestrator.core import formats
from orchestrator.core.eta import Eta
from orchestrator.core.names import Moment, iso
from orchestrator.core.state import State
from orchestrator.errors import RunActive, StateDamaged, StateUnwritable
from orchestrator.store import asks as asking
from orchestrator.store import heartbeat, journal, lines, snapshot, taking
from orchestrator.store import store as keeping
from orchestrator.store.asks import Asks, Petition
from orchestrator.store.heartbeat import Heartbeat
from orchestrator.store.journal import Damage, Read
from orchestrator.store.lines import BadLine
from orchestrator.store.lock import RUN, TURN, Holder, StateLock, holder
from orchestrator.store.reading import oldest_format, read_lines, read_state
from orchestrator.store.snapshot import Encoder, Position
from orchestrator.store.store import NOTHING_DUE, JournalStore
from orchestrator.store.taking import Patience, take
from tests.core.given import ME, NOW, intended
from tests.store.given import Holding, commit_all, decision, opening, seen, store_of, turns


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return tmp_path / "system"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    def sync(fd: int) -> None:
        raise AssertionError("nobody needs it after a power cut")

    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr(os, "fsync", sync)


def remark(why: str = "gone") -> Any:
    return decision(ev.AgentLeft("a1", why))


def number_of(path: Path) -> int:
    return path.stat().st_ino


def compacted(system: Path) -> JournalStore:
    """Two segments, and the newer one holds a few lines."""
    store = store_of(system, segment_bytes=1000)
    commit_all(store, [opening()])
    for attempt in range(1, 9):
        commit_all(store, turns(1, attempt))
    commit_all(store, [remark()])
    assert store.position.offset > 0
    return store


def parts(system: Path) -> tuple[list[Path], list[Path]]:
    """The segments and their bases, oldest first."""
    folder = system / "journal"
    firsts = [one.first for one in journal.segments(folder)]
    return [journal.path_of(folder, first) for first in firsts], [journal.base_of(folder, first) for first in firsts]


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# ---- lines and segments


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


# ---- state.json: when it is written, and what it says then


def test_where_nothing_is_new_nothing_is_written(system):
    store = store_of(system)
    commit_all(store, [opening()])
    path = system / "state.json"
    before = number_of(path)
    assert store.settle(NOW + 5) == NOTHING_DUE
    store.close()
    store_of(system).close()
    assert number_of(path) == before


def test_after_a_single_line_it_is_exact_at_rest(system):
    store = store_of(system)
    store.commit(opening(), NOW)
    store._file.close()  # killed
    assert not (system / "state.json").exists()
    store_of(system).close()
    assert (system / "state.json").exists()


def test_what_is_as_large_as_small_ones_may_be_is_written_at_once(system, monkeypatch):
    store = store_of(system)
    commit_all(store, [opening(), remark("a")])
    size = (system / "state.json").stat().st_size
    for limit, due in ((size, NOTHING_DUE), (size - 1, pytest.approx(keeping.AT_MOST_BEHIND))):
        monkeypatch.setattr(keeping, "SMALL", limit)
        store.commit(remark("b"), NOW)
        assert store.settle(NOW) == due
    store.close()


def test_another_plan_is_in_the_snapshot_whole(system):
    store = store_of(system)
    commit_all(store, [opening(2), decision(intended(1))])
    commit_all(store, [decision(ev.PlanAdopted("other", {"1": ["one", ""], "2": ["two", ""], "3": ["three", ""]}))])
    found = snapshot.load(system / "state.json")
    assert isinstance(found, tuple) and seen(found[0]) == seen(store.state) and 3 in found[0].phases
    store.close()


def test_what_killed_writers_had_not_renamed_is_gone_with_the_next(system):
    store_of(system).close()
    drafts = [system / place / ".x.77.new" for place in (".", "journal", "logs")]
    for draft in drafts:
        disk.make_folder(draft.parent)
        draft.touch()
    store_of(system).close()
    assert not any(draft.exists() for draft in drafts)


# ---- compaction


def test_a_segment_is_closed_beyond_its_limit_and_not_at_it(system):
    store = store_of(system)
    commit_all(store, [opening(), remark("x" * 9000)])
    store.commit(remark(), NOW)
    store._segment_bytes = store.position.offset
    store.settle(NOW)
    assert store.position.segment == 1
    commit_all(store, [remark()])
    assert store.position.segment == store.position.seq + 1 == 5
    commit_all(store, [remark()])
    (line,) = journal.read(journal.path_of(system / "journal", 5), journal_chain(system), 4).lines
    assert line.seq == 5, "a segment is named after its first line"
    store.close()


def journal_chain(system: Path) -> int:
    return int(json.loads(journal.base_of(system / "journal", 5).read_bytes())["chain"])


def test_both_snapshots_are_on_the_disk_before_the_lines_they_replace_go(system, monkeypatch):
    store, calls = compacted(system), list[tuple[str, bool]]()
    real = disk.replace

    def replace(path: Path, data: bytes, *, durable: bool) -> None:
        calls.append((path.name, durable))
        real(path, data, durable=durable)

    monkeypatch.setattr(disk, "replace", replace)
    store._compact()
    assert calls == [(f"{store.position.segment:012d}.snapshot.json", True), ("state.json", True)]
    store.close()


def test_neither_compacting_nor_closing_keeps_a_file_open(system):
    store_of(system).close()
    before = descriptors()
    store = compacted(system)
    assert descriptors() == before + 1
    store.close()
    assert descriptors() == before


def test_mending_leaves_the_segment_that_is_written_to(system):
    """It was closed just after a compaction: the newest segment has no line yet, and the older one is damaged."""
    store = compacted(system)
    store._compact()
    commit_all(store, turns(1, 9), settle=False)
    store._compact()
    store.close()
    segments, _ = parts(system)
    assert segments[-1].read_bytes() == b""
    spoil(segments[0])
    again = store_of(system)
    assert len(again.notices) == 1
    commit_all(again, [remark()])
    again.close()
    assert segments[-1].exists() and not segments[0].exists()
    third = store_of(system)
    assert not third.notices and third.position == again.position
    third.close()


def test_what_was_of_an_older_format_is_copied_and_gone_on_from_in_a_new_segment(system, monkeypatch):
    store = store_of(system)
    commit_all(store, [opening(), remark()])
    store.close()
    older = (system / "state.json").read_bytes()
    monkeypatch.setattr(formats, "VERSION", 2)
    monkeypatch.setattr(formats, "STEPS", {1: lambda kind, document: document})
    again = store_of(system)
    (notice,) = again.notices
    told, _, copy = notice.partition("; a copy of it as it was is in ")
    assert (
        told == f"{system} was of format 1 and is of format 2 now" and (Path(copy) / "state.json").read_bytes() == older
    )
    assert again.position == store.position._replace(segment=3, offset=0) and seen(again.state) == seen(store.state)
    again.close()
    third = store_of(system)
    assert oldest_format(system) == 2 and not third.notices
    third.close()


# ---- reading with a part gone


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


# ---- the lock


def test_who_finds_it_held_is_told_at_once(tmp_path, monkeypatch):
    ours, other, tries = StateLock(tmp_path), StateLock(tmp_path), list[int]()
    assert ours.acquire(RUN, ME, "orch run", NOW) is True
    real = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: tries.append(how) or real(fd, how))
    assert other.acquire(RUN, ME, "orch run", NOW) is False
    assert len(tries) == 1, "it does not wait for it"
    ours.release()


def test_it_belongs_to_the_process_and_not_to_a_thread(tmp_path):
    lock, said = StateLock(tmp_path), list[object]()
    lock.acquire(RUN, ME, "orch run", NOW)
    thread = threading.Thread(target=lambda: said.append(lock.still_mine()))
    thread.start()
    thread.join()
    assert said == [None]
    lock.release()


def test_where_the_kernel_has_no_locks_a_file_is_not_taken_for_one(tmp_path, monkeypatch):
    def flock(fd: int, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StateUnwritable, match="does not support locks"):
        StateLock(tmp_path).acquire(RUN, ME, "orch run", NOW)


def test_a_signature_without_a_time_is_nobodys(tmp_path):
    document = Holder(ME, RUN, iso(NOW), "orch run").as_dict()
    (tmp_path / "state.lock").write_text(json.dumps(document))
    assert holder(tmp_path) is not None
    (tmp_path / "state.lock").write_text(json.dumps({**document, "since": "yesterday"}))
    assert holder(tmp_path) is None


# ---- taking the lock


class Turns:
    """A clock that only goes on while somebody waits, and a lock that is refused until a moment of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free_at: float) -> None:
        self.now, self.looks, self._free_at = 0.0, 0, free_at
        monkeypatch.setattr(taking.clock, "ticking", lambda: self.now)
        monkeypatch.setattr(taking.clock, "pause", self._pause)
        monkeypatch.setattr(taking, "holder", lambda system: Holder(process.myself(), TURN, iso(NOW), "orch status"))

    def acquire(self, *_: object) -> bool:
        self.looks += 1
        assert self.looks < 1000, "between two looks it waits"
        return self.now >= self._free_at

    def _pause(self, seconds: float) -> None:
        self.now += seconds

    def take(self, system: Path) -> list[str]:
        return take(self, system, RUN, ME, "orch run", patient())  # type: ignore[arg-type]


def patient(*, takeover: bool = False) -> Patience:
    return Patience(120.0, 1.0, takeover=takeover, ends_hung=True)


def test_the_end_of_a_turn_is_noticed_before_anybody_notices_the_wait(tmp_path, monkeypatch):
    turn = Turns(monkeypatch, free_at=0.3)
    assert turn.take(tmp_path) == [] and turn.now < 0.8


def test_at_the_very_end_of_its_patience_it_looks_once_more(tmp_path, monkeypatch):
    monkeypatch.setattr(taking, "LOOK_EVERY", 0.25)
    monkeypatch.setattr(taking, "TURN_PATIENCE", 0.5)
    assert Turns(monkeypatch, free_at=0.75).take(tmp_path) == []
    with pytest.raises(RunActive):
        Turns(monkeypatch, free_at=1.0).take(tmp_path)


def test_one_that_is_silent_for_as_long_as_it_may_be_hangs(tmp_path, monkeypatch):
    found, ended = Holder(process.myself(), RUN, iso(NOW), "orch run"), list[str]()
    monkeypatch.setattr(taking, "silent_for", lambda found, system: 120.0)
    monkeypatch.setattr(taking, "_end", lambda who, life, grace: not ended.append(life))
    assert "hung" in taking._deal_with(found, tmp_path, patient())[0] and ended == [process.ALIVE]
    monkeypatch.setattr(taking, "_end", lambda who, life, grace: False)
    with pytest.raises(RunActive):
        taking._deal_with(found, tmp_path, patient())  # it is still there


def test_whoever_is_ended_after_a_long_wait_for_a_turn_was_not_ended_in_vain(tmp_path, monkeypatch):
    """The moment in which it leaves the lock counts from its end."""
    turn = Turns(monkeypatch, free_at=4.5 + taking.SIGNING_PATIENCE / 2)

    def holder(system):
        purpose = TURN if turn.now < 4.5 else RUN
        return Holder(process.myself().replace(ticks=1) if ended else process.myself(), purpose, iso(NOW), "orch run")

    ended = list[str]()
    monkeypatch.setattr(taking, "holder", holder)
    monkeypatch.setattr(taking, "_deal_with", lambda found, *_: ended.append("it was ended") or ["it was ended"])
    assert turn.take(tmp_path) == ["it was ended"]


@pytest.mark.parametrize(("stopped", "by"), [(True, signal.SIGKILL), (False, signal.SIGTERM)])
def test_one_that_hangs_is_asked_and_one_that_was_stopped_is_not_woken_for_it(tmp_path, stopped, by):
    with Holding(tmp_path, RUN, "silent") as other:
        if stopped:
            other.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, other.identity.pid, os.WSTOPPED)
        lock = StateLock(tmp_path)
        take(lock, tmp_path, RUN, process.myself(), "orch run", patient(takeover=True))
        lock.release()
        assert other._child.wait() == -by


# ---- asks


@pytest.fixture
def asks(tmp_path: Path) -> Iterator[Asks]:
    opened = Asks(tmp_path)
    yield opened
    opened.close()


def petition(system: Path, ask: str) -> Petition:
    return Petition(system, ask, "retry", 3, "ann", NOW)


def names(system: Path) -> set[str]:
    return {path.name for path in (system / "asks").iterdir()} - {"bell"}


def test_what_they_asked_who_are_gone_is_dropped_and_nobody_elses(tmp_path):
    for ask in ("gone", "heard", "other", "waits"):
        petition(tmp_path, ask)
    folder, dead = tmp_path / "asks", process.myself().replace(ticks=1).as_dict()
    for ask, changes in (("gone", {}), ("heard", {"by": "bob"}), ("other", {"ask": "another"})):
        path = folder / f"{ask}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "asker": dead, **changes}))
    (folder / ".gone.json").write_text((folder / "gone.json").read_text())  # not one that orch wrote
    (folder / "heard.json").rename(folder / "heard.taken")
    (folder / "half.json").write_text("{")
    asks = Asks(tmp_path)
    told = "dropped, as nobody had heard it and whoever asked is gone: "
    assert len(asks.notices) == 1 and asks.notices[0].startswith(told) and "ann" in asks.notices[0]
    assert names(tmp_path) == {"waits.json", "half.json", ".gone.json"}
    assert [ask.ask for ask in asks.take()] == ["waits"]
    assert names(tmp_path) == {"waits.taken", "half.unreadable", ".gone.json"}
    asks.close()


def test_an_answered_one_is_passed_over_and_what_comes_behind_is_taken(tmp_path, asks):
    petition(tmp_path, "k1")
    petition(tmp_path, "k2")
    (tmp_path / "asks" / "k1.json").rename(tmp_path / "asks" / "k1.taken")
    (tmp_path / "asks" / "k1.answer").write_text("{}")
    assert [ask.ask for ask in asks.take()] == ["k2"] and names(tmp_path) == {"k1.answer", "k2.taken"}


def test_a_folder_that_changed_just_now_is_looked_at_again_although_its_time_is_the_same(tmp_path, asks, monkeypatch):
    folder, now = tmp_path / "asks", clock.now()
    monkeypatch.setattr(asking.clock, "now", lambda: now)
    for age, looks in ((0.0, True), (0.6, False)):
        stamp = int((now - age) * 1e9)
        os.utime(folder, ns=(stamp, stamp))
        assert list(asks.take()) == []
        mine = petition(tmp_path, "k1")
        os.utime(folder, ns=(stamp, stamp))
        assert bool(list(asks.take())) == looks
        mine.withdraw()
        (folder / "k1.taken").unlink(missing_ok=True)


def test_an_ask_of_a_newer_format_is_answered_by_name(tmp_path, asks):
    newer = {"version": 99, "ask": "k1", "verb": "dance", "by": "ann"}
    (tmp_path / "asks" / "k1.json").write_text(json.dumps(newer))
    (ask,) = asks.take()
    assert ask.ask == "k1" and ask.by == "ann" and "of format 99 (dance)" in ask.verb


def test_an_answer_needs_no_sync_and_its_asker_may_be_gone(tmp_path, asks, monkeypatch):
    no_sync(monkeypatch)
    asks.answer("k1", accepted=True, text="yes")
    assert names(tmp_path) == {"k1.answer"}


def test_one_that_was_claimed_is_not_withdrawn(tmp_path, asks):
    mine = petition(tmp_path, "k1")
    list(asks.take())
    assert mine.withdraw() is False


def test_a_draft_that_is_renamed_under_our_eyes_keeps_none_of_the_others(tmp_path, monkeypatch):
    disk.make_folder(tmp_path / "asks")
    for number in range(3):
        (tmp_path / "asks" / f".k{number}.answer.77.new").touch()
    real, calls = Path.unlink, list[str]()

    def unlink(self: Path, missing_ok: bool = False) -> None:
        calls.append(self.name)
        real(self)
        if len(calls) == 1:
            raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "unlink", unlink)
    Asks(tmp_path).close()
    assert len(calls) == 3 and names(tmp_path) == set()


def test_neither_the_bell_nor_ringing_it_keeps_a_file_open(tmp_path):
    before = descriptors()
    asks = Asks(tmp_path)
    for number in range(3):
        petition(tmp_path, f"k{number}")
    asks.close()
    assert descriptors() == before


# ---- the heartbeat


class Heart:
    """One that beats at a tick with an eta; says whether that was written."""

    def __init__(self, system: Path) -> None:
        self._path, self._eta = system / "logs" / "heartbeat.json", Eta(0.0, 0.0, 0.0)
        self._heart = Heartbeat(system, ME, 120.0, lambda state, moment: self._eta, lambda: 1 / 3)

    def writes(self, tick: float, *eta: float) -> bool:
        self._eta = Eta(*eta)
        self._path.unlink(missing_ok=True)
        self._heart.beat(State(), Moment(NOW + tick, tick))
        return self._path.exists()


@pytest.mark.parametrize(
    ("eta", "news"),
    [
        ((290.0, 300.0, 310.0), False),
        ((290.0, 310.0, 310.0), False),  # a thirtieth
        ((290.0, 340.0, 310.0), True),  # an eighth
        ((290.0, 260.0, 310.0), True),
        ((320.0, 300.0, 340.0), False),  # both its ends, and it is as likely as before
        ((330.0, 300.0, 350.0), True),
        ((330.0, 300.0, 270.0), True),
        ((250.0, 300.0, 350.0), True),
    ],
)
def test_news_is_what_moves_the_end_by_a_good_part_of_what_is_left(tmp_path, eta, news):
    heart = Heart(tmp_path)
    assert heart.writes(0.0, 300.0, 310.0, 320.0)
    assert heart.writes(10.0, *eta) == news


@pytest.mark.parametrize(
    ("eta", "news"),
    [
        ((11.0, 10.0, 11.0), False),
        ((11.0, 12.0, 11.0), False),
        ((11.0, 9.0, 11.0), True),
        ((11.0, 13.5, 11.0), True),
        ((9.0, 10.0, 13.0), False),
        ((8.5, 10.0, 13.0), True),
    ],
)
def test_towards_the_end_a_second_is_no_news_and_two_are(tmp_path, eta, news):
    heart = Heart(tmp_path)
    heart.writes(0.0, 13.0, 13.0, 13.0)
    assert heart.writes(2.0, *eta) == news


def test_a_pulse_has_no_more_digits_than_anybody_reads_and_needs_no_sync(tmp_path, monkeypatch):
    disk.make_folder(tmp_path / "logs")
    no_sync(monkeypatch)
    Heart(tmp_path).writes(0.0, 1 / 3, 2 / 3, 4 / 3)
    document = json.loads((tmp_path / "logs" / "heartbeat.json").read_text())
    assert document["eta_seconds"] == {"low": 0.333, "likely": 0.667, "high": 1.333} and document["awake"] == 0.333


def test_the_run_that_beat_last_is_named_if_any_can_be(tmp_path):
    assert heartbeat.run_of(tmp_path) == ""
    state = State()
    for event in opening().events:
        state.apply(event, NOW)
    Heartbeat(tmp_path, ME, 120.0).beat(state, Moment(NOW, 0.0))
    assert heartbeat.run_of(tmp_path) == "r1"


def test_on_the_same_boot_its_age_is_that_of_the_clock_that_nobody_sets(tmp_path):
    me = process.myself()
    Heartbeat(tmp_path, me, 120.0, awake=lambda: clock.awake() - 500).beat(State(), Moment(NOW, 0.0))
    pulse = heartbeat.read(tmp_path, NOW + 9000)
    assert pulse is not None and pulse.age == pytest.approx(500, abs=30)
    path = tmp_path / "logs" / "heartbeat.json"
    document = json.loads(path.read_text())
    del document["awake"]  # as an older orch wrote it
    path.write_text(json.dumps(document))
    pulse = heartbeat.read(tmp_path, NOW + 9000)
    assert pulse is not None and pulse.age == 9000
