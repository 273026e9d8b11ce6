from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from orchestrator import disk
from orchestrator.store.keeping import keep

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00
STAMP = "fsck_20270115_080000"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    disk.make_folder(tmp_path / "system" / "journal" / "empty")
    (tmp_path / "system" / "journal" / "1.jsonl").write_bytes(b"one\0\xff")
    (tmp_path / "system" / "state.json").write_bytes(b"{}")
    return tmp_path / "system"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_has_the_bytes_under_their_names_and_is_private(system):
    kept = keep(system, "fsck", ("state.json", "journal"), NOW)
    assert kept == system / "backup" / STAMP
    assert contents(kept) == {"state.json": b"{}", "journal/1.jsonl": b"one\0\xff"}
    assert (kept / "journal" / "empty").is_dir()
    for path in (kept, *kept.rglob("*")):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_it_says_what_it_is_for_and_takes_along_what_was_read_before(system):
    kept = keep(system, "fsck", (), NOW, "it was damaged\n", [("state.lock", b"signed")])
    assert contents(kept) == {"README.txt": b"it was damaged\n", "state.lock": b"signed"}


def test_what_is_not_there_is_not_copied_and_no_fault(system):
    assert contents(keep(system, "fsck", ("gone", "journal/gone"), NOW)) == {}


def test_links_are_copied_as_links_and_pipes_and_sockets_not_at_all(system):
    asks = system / "asks"
    asks.mkdir()
    os.mkfifo(asks / "bell")
    (asks / "away").symlink_to("/somewhere/else")
    (asks / "folder").symlink_to(system / "journal")
    here = os.open(".", os.O_RDONLY)
    os.chdir(asks)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("s")
    finally:
        os.fchdir(here)
        os.close(here)
    kept = keep(system, "fsck", ("asks",), NOW)
    assert sorted(os.listdir(kept / "asks")) == ["away", "folder"]
    assert os.readlink(kept / "asks" / "away") == "/somewhere/else"
    assert os.readlink(kept / "asks" / "folder") == str(system / "journal")


def test_a_second_one_within_the_second_has_a_name_of_its_own(system):
    names = [keep(system, "fsck", ("state.json",), NOW).name for _ in range(3)]
    assert names == [STAMP, f"{STAMP}_2", f"{STAMP}_3"]


def test_one_that_cannot_be_finished_is_not_there_under_its_name(system, monkeypatch):
    real = disk.replace

    def full(path: Path, data: bytes, *, durable: bool) -> None:
        if path.name == "1.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data, durable=durable)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            keep(system, "fsck", ("state.json", "journal"), NOW)
    assert [name for name in os.listdir(system / "backup") if not name.startswith(".")] == []
    kept = keep(system, "fsck", ("journal",), NOW)
    assert contents(kept) == {"journal/1.jsonl": b"one\0\xff"}, "nothing of the one that was cut off is in it"
    assert os.listdir(system / "backup") == [STAMP], "its draft is gone"
