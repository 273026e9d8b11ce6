"""Logs that are rotated: compressed in pieces, in one form or the other whatever cuts it off, removed in time."""

from __future__ import annotations

import gzip
import os
import random
import time
from pathlib import Path

import pytest

from orchestrator.watch import archive
from orchestrator.watch.archive import KEPT, Archive, compressed, opened, parts, rotate

DAY = 86400.0
TEXT = b"".join(b"%d lines of text\n" % number for number in range(60_000))


def file(path: Path, data: bytes = TEXT, age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def tend(logs: Path, max_age: float = 30 * DAY, live: set[tuple[str, str]] | None = None) -> Archive:
    one = Archive(logs, max_age, lambda: live or set())
    while one.tend() == 0.0:
        pass
    return one


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.name != ".archived")


def read(path: Path) -> bytes:
    return b"".join(data for part in parts(path) if part.exists() for data in opened(part))


def test_what_is_rotated_is_compressed_and_reads_as_before(tmp_path: Path) -> None:
    for number in range(1, 3):
        file(tmp_path / f"structured_execution.jsonl.{number}", b"%d" % number + TEXT, 100.0)
    file(tmp_path / "structured_execution.jsonl", b"last")
    file(tmp_path / "phases/3/1.log.1", b"one", 50.0)
    file(tmp_path / "phases/3/1.log", b"two")
    before = (tmp_path / "structured_execution.jsonl.2").stat().st_mtime
    tend(tmp_path)
    assert names(tmp_path) == [
        "1.log", "1.log.1.gz", "structured_execution.jsonl", "structured_execution.jsonl.1.gz",
        "structured_execution.jsonl.2.gz",
    ]  # fmt: skip
    assert gzip.decompress((tmp_path / "structured_execution.jsonl.2.gz").read_bytes()) == b"2" + TEXT
    assert (tmp_path / "structured_execution.jsonl.2.gz").stat().st_mtime == pytest.approx(before, abs=0.001)
    assert (tmp_path / "structured_execution.jsonl.1.gz").stat().st_mode & 0o777 == 0o600
    assert read(tmp_path / "structured_execution.jsonl") == b"2" + TEXT + b"1" + TEXT + b"last"
    assert read(tmp_path / "phases/3/1.log") == b"onetwo"


def test_the_loop_has_its_turn_between_two_pieces(tmp_path: Path) -> None:
    file(tmp_path / "orchestrator.log.1", random.Random(1).randbytes(8_000_000))
    one, longest, turns = Archive(tmp_path, DAY, set), 0.0, 0
    while True:
        before = time.thread_time()
        wait = one.tend()
        longest, turns = max(longest, time.thread_time() - before), turns + 1
        if wait:
            break
    assert turns > 3
    assert longest < 0.3
    assert 0 < wait <= archive.EVERY


def test_what_is_written_to_stays_as_it_is(tmp_path: Path) -> None:
    for name in ("phases/3/2.log.1", "phases/3/2.log", "phases/4/2.log.1", "cron/night.log.1", "cron/night.log.2"):
        file(tmp_path / name, b"x", 40 * DAY if "phases/3" in name else 0.0)
    tend(tmp_path, live={("3", "2")})
    assert names(tmp_path) == ["2.log", "2.log.1", "2.log.1.gz", "night.log.1", "night.log.2.gz"]
    assert names(tmp_path / "phases/3") == ["2.log", "2.log.1"]


def test_what_is_old_goes(tmp_path: Path) -> None:
    for name in ("phases/3/1.log", "phases/3/1.log.1.gz", "phases/4[0]/7.log", "fault_20260101.txt",
                 "structured_execution.jsonl.2.gz", "orchestrator.log.1", "cron/n.log.1"):  # fmt: skip
        file(tmp_path / name, b"x", 31 * DAY)
    for name in ("phases/3/2.log", "structured_execution.jsonl", "heartbeat.json", "fault_20261101.txt"):
        file(tmp_path / name, b"x", 29 * DAY)
    file(tmp_path / "heartbeat.json", b"x", 99 * DAY)
    tend(tmp_path)
    assert names(tmp_path) == ["2.log", "fault_20261101.txt", "heartbeat.json", "structured_execution.jsonl"]


def test_a_log_that_began_long_ago_begins_anew(tmp_path: Path) -> None:
    file(tmp_path / "structured_execution.jsonl", b'{"timestamp": "2020-01-02T03:04:05.678Z", "event": "x"}\n')
    file(tmp_path / "orchestrator.log", b"2020-01-02T03:04:05.678Z 17 bridge: up\n")
    tend(tmp_path)
    assert names(tmp_path) == ["orchestrator.log.1.gz", "structured_execution.jsonl.1.gz"]
    file(tmp_path / "orchestrator.log", b"no time in here\n")
    (tmp_path / ".archived").unlink()
    tend(tmp_path)
    assert names(tmp_path)[0] == "orchestrator.log"


def test_what_others_have_open_is_rotated_by_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "OPEN_BYTES", 1000)
    file(tmp_path / "cron/night.log")
    file(tmp_path / "notify.log")
    file(tmp_path / "cron/small.log", b"x")
    tend(tmp_path)
    assert names(tmp_path) == ["night.log.1", "notify.log.1", "small.log"]


def test_a_look_an_hour_is_enough(tmp_path: Path) -> None:
    tend(tmp_path)
    file(tmp_path / "orchestrator.log.1")
    assert archive.EVERY - 60 < Archive(tmp_path, DAY, set).tend() <= archive.EVERY
    assert names(tmp_path) == ["orchestrator.log.1"]
    then = time.time() + 999_999  # the clock was set back
    os.utime(tmp_path / ".archived", (then, then))
    tend(tmp_path)
    assert names(tmp_path) == ["orchestrator.log.1.gz"]


def test_rotation_moves_both_forms_and_keeps_no_more_than_it_should(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    for number in range(7):
        file(path, b"%d" % number)
        first = rotate(path)
        if number % 2:
            list(compressed(first))
    assert names(tmp_path) == ["s.jsonl.1", "s.jsonl.2.gz", "s.jsonl.3"]
    assert len(names(tmp_path)) == KEPT
    assert read(path) == b"456"


@pytest.mark.parametrize("nth", range(1, 12))
def test_cut_off_anywhere_it_is_there_once_and_done_again(
    nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kill -9 leaves it: nothing that was begun is tidied up."""
    path = file(tmp_path / "phases/3/1.log.1")
    count = 0

    def cutting(module: object, name: str) -> None:
        real = getattr(module, name)

        def call(*args: object, **how: object) -> object:
            nonlocal count
            count += 1
            if count == nth:
                os._exit(9)
            found = real(*args, **how)
            if count == nth - 1:
                os._exit(9)
            return found

        monkeypatch.setattr(module, name, call)

    child = os.fork()
    if child == 0:
        for module, name in (
            (archive.disk, "write_all"),
            (archive.disk, "sync_folder"),
            (os, "rename"),
            (os, "unlink"),
        ):
            cutting(module, name)
        list(compressed(path))
        os._exit(0)
    os.waitpid(child, 0)
    log = path.with_name("1.log")
    assert read(log) == TEXT
    for draft in path.parent.glob(".*.new"):
        os.utime(draft, (1, 1))
    os.utime(path.parent)
    tend(tmp_path)
    assert [name for name in names(path.parent) if not name.startswith(".")] == ["1.log.1.gz"]
    assert read(log) == TEXT


def test_a_file_that_is_moved_or_written_to_meanwhile_is_left_for_the_next_time(tmp_path: Path) -> None:
    path = file(tmp_path / "a.log.1", random.Random(2).randbytes(2_000_000))
    work = compressed(path)
    next(work)
    path.rename(tmp_path / "a.log.2")
    list(work)
    assert names(tmp_path) == ["a.log.2"]
    work = compressed(tmp_path / "a.log.2")
    next(work)
    with open(tmp_path / "a.log.2", "ab") as more:
        more.write(b"more")
    list(work)
    assert names(tmp_path) == ["a.log.2"]


def test_what_is_damaged_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    path = file(tmp_path / "a.log.1", random.Random(2).randbytes(600_000))
    list(compressed(path))
    packed = tmp_path / "a.log.1.gz"
    packed.write_bytes(packed.read_bytes()[:300_000])
    assert 250_000 < len(read(tmp_path / "a.log")) < 600_000
    packed.write_bytes(b"no gzip")
    assert read(tmp_path / "a.log") == b""
    packed.write_bytes(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert read(tmp_path / "a.log") == b"one two"


def test_a_folder_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    tend(tmp_path / "none")
    (tmp_path / "phases").write_text("a file")
    (tmp_path / "orchestrator.log.1").mkdir()
    tend(tmp_path)
    assert (tmp_path / "phases").read_text() == "a file" and (tmp_path / "orchestrator.log.1").is_dir()
