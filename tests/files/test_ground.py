"""Files by their content: what a listing says, what the memo spares, and what it must never spare."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from orchestrator import clock
from orchestrator.core.actions import Measure
from orchestrator.core.observations import Measured
from orchestrator.files import ground as ground_module
from orchestrator.files import measuring
from orchestrator.files.ground import INPUTS, Ground, Listing
from orchestrator.files.measuring import Measurer, answer, examine
from orchestrator.files.memo import Memo
from tests.files.test_plan_then_run import exhausted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for name in "abc":
        write(tmp_path, name, name)
    return tmp_path


def write(root: Path, name: str, text: str, age: float = 100.0) -> Path:
    path = root / "data" / name
    path.write_text(text)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def listing(root: Path, *patterns: str) -> Listing:
    found = exhausted(Ground(root).listing(patterns or ("data",)))
    assert isinstance(found, Listing)
    return found


class Reads:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, real = 0, hashlib.sha256

        def counted(data: bytes = b"") -> object:
            self.count += not data
            return real(data)

        monkeypatch.setattr(ground_module.hashlib, "sha256", counted)

    def during(self, root: Path) -> int:
        self.count = 0
        listing(root)
        return self.count


def test_a_listing_is_told_by_names_and_content(root: Path) -> None:
    first = listing(root)
    assert sorted(first.files) == ["data/a", "data/b", "data/c"] and first.fault is None
    assert first.files["data/a"] == hashlib.sha256(b"a").hexdigest()[:32]
    write(root, "a", "a", age=50.0)
    assert listing(root).digest == first.digest, "only touched"
    write(root, "a", "x")
    changed = listing(root).digest
    (root / "data" / "a").rename(root / "data" / "z")
    assert len({first.digest, changed, listing(root).digest}) == 3


def test_nothing_at_all_is_a_listing_too(root: Path) -> None:
    assert listing(root, "no/*").files == {} and listing(root, "no/*").digest


def test_what_cannot_be_read_has_no_digest_and_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refusing(path: object, *how: object) -> int:
        if str(path).endswith("data/b"):
            raise PermissionError(13, "Permission denied")
        return real(path, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refusing)
    found = listing(root)
    assert (found.digest, found.fault) == ("", ("data/b", "Permission denied"))
    [material] = examine(Ground(root), [Measure(1, ("data",), (), "was")]).values()
    assert (material.inputs, str(material.of_inputs)) == ("", "inputs: data/b cannot be read: Permission denied")


def test_what_is_no_file_is_told_by_what_it_is(root: Path) -> None:
    os.mkfifo(root / "data" / "pipe")
    (root / "data" / "link").symlink_to("nowhere")
    first = listing(root)
    assert {"data/pipe", "data/link"} <= first.files.keys()
    (root / "data" / "link").unlink()
    (root / "data" / "link").symlink_to("elsewhere")
    assert listing(root).digest != first.digest


# ---- the memo


def test_what_has_not_changed_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    assert reads.during(root) == 3 and reads.during(root) == 0
    write(root, "a", "x")
    assert reads.during(root) == 1 and reads.during(root) == 0


def test_a_change_that_keeps_size_and_time_is_seen(root: Path) -> None:
    """Whoever copies with the old time cannot hide that something was done to the file just now."""
    first, before = listing(root), os.stat(root / "data" / "a")
    (root / "data" / "a").write_text("x")
    os.utime(root / "data" / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert listing(root).digest != first.digest


def test_a_file_that_may_still_change_within_its_time_is_not_remembered(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads(monkeypatch)
    changed = os.stat(write(root, "a", "x", age=0.0)).st_mtime
    monkeypatch.setattr(clock, "now", lambda: changed + 0.01)
    assert reads.during(root) == 3 and reads.during(root) == 1
    monkeypatch.setattr(clock, "now", lambda: changed + 0.1)
    assert reads.during(root) == 1 and reads.during(root) == 0
    os.utime(root / "data" / "b", ns=(0, int(changed) * 10**9))  # a file system that counts in seconds
    assert reads.during(root) == 1 and reads.during(root) == 1


def test_what_one_process_has_read_another_knows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = Ground(root), Ground(root)
    assert mine.memo is not theirs.memo
    exhausted(theirs.listing(("data",)))
    reads = Reads(monkeypatch)
    exhausted(mine.listing(("data",)))
    assert reads.count == 0


@pytest.mark.parametrize("how", ["torn", "flipped", "gone", "garbage"])
def test_a_damaged_memo_is_only_files_read_once_more(root: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, path = listing(root), root / "system" / "cache" / "digests"
    data = path.read_bytes()
    flipped = data[:12] + bytes([data[12] ^ 1]) + data[13:]
    path.write_bytes({"torn": data[:-9], "flipped": flipped, "gone": b"", "garbage": b"\xff\n \n\0\0 x y\n"}[how])
    reads = Reads(monkeypatch)
    assert reads.during(root) >= 1 and listing(root) == first


def test_names_of_any_kind_are_remembered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a\nb", "%0a", "a\rb", "ü", os.fsdecode(b"\xff"), " x "):
        write(root, name, name.encode("utf-8", "surrogateescape").hex())
    reads = Reads(monkeypatch)
    assert reads.during(root) == 9 and reads.during(root) == 0


def test_the_memo_does_not_grow_for_ever(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "memo"
    memo, status = Memo(path), os.stat(root / "data" / "a")
    for number in range(3000):
        memo.note("data/a", status, f"{number:032x}")
    memo.flush()
    fresh = Memo(path)
    fresh.compact()
    assert path.read_bytes().count(b"\n") == 1 and Memo(path).digest("data/a", status) == f"{2999:032x}"
    memo.refresh()
    assert memo.digest("data/a", status) == f"{2999:032x}", "who had it open goes on with the new one"


# ---- lists that are kept, and questions


def test_the_first_file_that_changed_is_named_from_the_list_that_was_kept(root: Path) -> None:
    ground = Ground(root)
    first = exhausted(answer(ground, Measure(1, ("data",), ()), keeps=True))
    write(root, "b", "x")
    (root / "data" / "c").unlink()
    asked = Measure(1, ("data",), (), first.inputs)
    then = exhausted(answer(ground, asked, keeps=False))
    old, new = (hashlib.sha256(text).hexdigest()[:8] for text in (b"b", b"x"))
    assert str(then.of_inputs) == f"inputs: data/b changed ({old} → {new})"
    kept = root / "system" / "cache" / "made" / "1"
    assert len(list(kept.iterdir())) == 1, "who only looks keeps nothing"
    exhausted(answer(ground, asked, keeps=True))
    assert len(list(kept.iterdir())) == 2, "the old one is needed until the new one is a success"
    exhausted(answer(ground, Measure(1, ("data",), ()), keeps=True))
    assert [path.name for path in kept.iterdir()] == [f"inputs.{then.inputs}.json"]
    (kept / f"inputs.{then.inputs}.json").write_text('{"data/b": "made up"}')
    assert ground.recall(1, INPUTS, then.inputs) is None, "a list that was changed names nothing"


def test_looking_is_done_in_slices_between_two_turns_of_the_loop(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "data" / "large").write_bytes(b"x" * (5 << 20))
    told: list[Measured] = []
    measurer = Measurer(Ground(root), told.append)
    assert measurer.tend() == measuring.IDLE
    ticks = iter(range(10**6))
    monkeypatch.setattr(
        clock, "ticking", lambda: next(ticks) * measuring.SLICE / 2
    )  # each look at the clock: half a slice
    measurer.perform([Measure(1, ("data/large",), ()), Measure(2, ("data/a",), ())])
    turns = 0
    while measurer.tend() == 0.0:
        turns += 1
    assert turns > 5 and [seen.number for seen in told] == [1, 2]
    assert told[0].material.inputs == listing(root, "data/large").digest


def test_a_large_file_is_read_in_many_slices(root: Path) -> None:
    (root / "data" / "large").write_bytes(b"x" * (8 << 20))
    assert sum(1 for _ in Ground(root).listing(("data/large",))) >= 8


def test_ten_thousand_unchanged_files_cost_in_proportion(tmp_path: Path) -> None:
    """Ten times as many take about ten times as long, and each no more than a look at its name."""
    for many in (1000, 10_000):
        folder = tmp_path / str(many) / "data"
        folder.mkdir(parents=True)
        for number in range(many):
            (folder / f"{number}.csv").write_bytes(b"")
        listing(tmp_path / str(many))
    time.sleep(0.1)

    def seconds(many: int) -> float:
        listing(tmp_path / str(many))
        begun = time.process_time()
        found = listing(tmp_path / str(many))
        assert len(found.files) == many
        return time.process_time() - begun

    few, lots = (min(seconds(many) for _ in range(2)) for many in (1000, 10_000))
    print(f"1,000 files {few:.3f} s, 10,000 files {lots:.3f} s")
    assert lots < 25 * few
