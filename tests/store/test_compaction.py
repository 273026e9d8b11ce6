"""When state.json and a new segment are written, what they say then, what is synced, and what is let go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator import disk
from orchestrator.core import events as ev
from orchestrator.core import formats
from orchestrator.store import journal, snapshot
from orchestrator.store import store as keeping
from orchestrator.store.reading import oldest_format
from orchestrator.store.store import NOTHING_DUE
from tests.core.given import NOW, intended
from tests.store.given import (
    commit_all,
    compacted,
    decision,
    descriptors,
    number_of,
    opening,
    parts,
    remark,
    seen,
    spoil,
    store_of,
    turns,
)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    return tmp_path / "system"


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
