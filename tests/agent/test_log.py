"""Bounded logs, last lines and progress: as bytes, without a process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agent.log import LINE_WIDTH, TAIL_LINES, BoundedLog, Lines, forget_old

Progress = list[tuple[float, float | None, str]]


def lines() -> tuple[Lines, Progress]:
    seen: Progress = []
    return Lines(lambda done, total, text: seen.append((done, total, text))), seen


def test_what_fits_is_kept_as_it_is(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "a" / "1.log", 10_000)
    log.write(b"one\n")
    log.write(b"\xff\x00two")
    log.close()
    assert (tmp_path / "a" / "1.log").read_bytes() == b"one\n\xff\x00two"
    assert not (tmp_path / "a" / "1.log.1").exists()


def test_the_last_is_kept_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    log = BoundedLog(path, 10_000)
    written = b"".join(b"%07d\n" % number for number in range(5_000))
    for start in range(0, len(written), 777):
        log.write(written[start : start + 777])
    log.close()
    newer, older = path.read_bytes(), (tmp_path / "1.log.1").read_bytes()
    assert len(newer) + len(older) <= 10_000
    first, _, rest = newer.partition(b"\n")
    kept = older.partition(b"\n")[2] + rest
    assert written.endswith(kept)
    assert len(kept) > 4_000
    dropped = re.fullmatch(rb"\[orch: (\d+) bytes before this were dropped; the latest of them are in 1.log.1\]", first)
    assert dropped is not None
    assert abs(int(dropped[1]) + len(older) + len(rest) - len(written)) < 1_000  # give or take its own lines


def test_a_folder_that_cannot_be_made_costs_lines_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    log = BoundedLog(tmp_path / "file" / "1.log", 2048)
    for _ in range(10):
        log.write(b"x" * 1000)
    log.close()
    assert [(path.name, path.read_text()) for path in tmp_path.rglob("*")] == [("file", "kept")]


@given(st.lists(st.text(alphabet="ab:\r", max_size=30), max_size=60), st.lists(st.integers(1, 50)))
def test_the_tail_is_the_last_lines_whatever_the_cuts(texts: list[str], cuts: list[int]) -> None:
    whole, _ = lines()
    data = "\n".join(texts).encode()
    left = data
    for size in cuts:
        whole.feed(left[:size])
        left = left[size:]
    whole.feed(left)
    shown = [line.rstrip("\r").rpartition("\r")[2] for line in data.decode().split("\n")]
    if not shown[-1]:
        del shown[-1]
    assert list(whole.tail()) == shown[-TAIL_LINES:]


def test_long_lines_and_long_streams_cost_no_memory() -> None:
    whole, _ = lines()
    for _ in range(100):
        whole.feed(b"x" * 1_000_000)
    assert sum(map(len, whole._last)) + len(whole._rest) < 10_000
    assert whole.tail() == ("x" * LINE_WIDTH,)
    for number in range(1000):
        whole.feed(b"line %d\n" % number)
    assert len(whole.tail()) == TAIL_LINES
    assert whole.last() == "line 999"


def test_the_last_line_is_the_last_that_says_something() -> None:
    whole, _ = lines()
    whole.feed(b"done\n\n  \n")
    assert whole.last() == "done"
    whole.feed(b"10%\r20%\r30%")
    assert whole.last() == "30%"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"::progress 3/10 reading a b", [(3, 10, "reading a b")]),
        (b"::progress 3 / 10", [(3, 10, "")]),
        (b"::progress 2.5/4.5 x\r", [(2.5, 4.5, "x")]),
        (b"::progress 7", [(7, None, "")]),
        (b"::progress 7 files", [(7, None, "files")]),
        (b"::progress", []),
        (b"::progress x/y", []),
        (b"::progressive 3/10", []),
        (b"a ::progress 3/10", []),
    ],
)
def test_progress_lines(line: bytes, expected: Progress) -> None:
    for cut in range(len(line) + 1):
        whole, seen = lines()
        whole.feed(b"before\n" + line[:cut])
        whole.feed(line[cut:] + b"\nafter\n")
        assert seen == expected


def test_all_progress_in_one_piece_is_seen() -> None:
    whole, seen = lines()
    whole.feed(b"".join(b"::progress %d/100\n" % number for number in range(1, 101)))
    assert [done for done, _, _ in seen] == list(range(1, 101))


def test_old_logs_go_by_number_with_their_first_halves(tmp_path: Path) -> None:
    for name in ("9.log", "9.log.1", "10.log", "100.log", "notes"):
        (tmp_path / name).write_text("")
    forget_old(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10.log", "100.log", "notes"]
    forget_old(tmp_path / "none", 2)
