from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from orchestrator import disk
from orchestrator.disk import Appender
from tests.store.given import end_of


class Syncs:
    """Which files and folders were synced, in their order."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.told: list[tuple[str, str]] = []
        for name in ("fsync", "fdatasync"):
            real = getattr(os, name)
            patch.setattr(os, name, lambda fd, name=name, real=real: self._note(name, fd) or real(fd))

    def _note(self, name: str, fd: int) -> None:
        self.told.append((name, Path(os.readlink(f"/proc/self/fd/{fd}")).name))


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    return Syncs(monkeypatch)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_folders_are_made_private_with_their_names_on_the_disk(tmp_path, syncs):
    disk.make_folder(tmp_path / "a" / "b")
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700
    assert syncs.told == [("fsync", tmp_path.name), ("fsync", "a")]
    disk.make_folder(tmp_path / "a" / "b")
    assert len(syncs.told) == 2


def test_a_folder_that_somebody_else_makes_meanwhile_is_no_fault(tmp_path, monkeypatch):
    real = os.mkdir
    monkeypatch.setattr(os, "mkdir", lambda path, mode: (real(path, mode), real(path, mode)))
    disk.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_stands_where_a_folder_should_is_no_folder(tmp_path, make):
    make(tmp_path / "a")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(FileExistsError) as caught:
            disk.make_folder(path)
        assert Path(caught.value.filename) == tmp_path / "a"


def test_a_file_is_replaced_whole_and_private(tmp_path, syncs):
    path = tmp_path / "state.json"
    disk.replace(path, b"old", durable=False)
    assert syncs.told == []
    old = path.stat().st_ino
    disk.replace(path, b"new", durable=True)
    assert path.read_bytes() == b"new" and mode(path) == 0o600 and path.stat().st_ino != old
    assert [name for name, _ in syncs.told] == ["fdatasync", "fsync"], "first what it holds, then what it is called"
    assert syncs.told[1][1] == tmp_path.name and os.listdir(tmp_path) == ["state.json"]


def test_a_reader_finds_the_old_bytes_or_the_new_and_never_none(tmp_path):
    path = tmp_path / "state.json"
    sizes = {1, 200_000}
    disk.replace(path, b"x", durable=False)
    pid = os.fork()
    if pid == 0:
        try:
            for _ in range(150):
                disk.replace(path, b"x" * 200_000, durable=False)
                disk.replace(path, b"x", durable=False)
        finally:
            os._exit(0)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        assert len(path.read_bytes()) in sizes


@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_a_replacement_that_fails_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch, call):
    path = tmp_path / "state.json"
    disk.replace(path, b"old", durable=False)

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    before = fds()
    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="full"):
        disk.replace(path, b"new", durable=True)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["state.json"] and fds() == before


def test_what_the_kernel_takes_in_pieces_is_written_whole(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    disk.replace(tmp_path / "a", b"0123456789", durable=False)
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_an_appender_only_adds_and_syncs_when_told(tmp_path, syncs):
    path = tmp_path / "1.jsonl"
    first = Appender(path)
    assert mode(path) == 0o600 and syncs.told == [("fsync", tmp_path.name)]
    first.append(b"one\n", durable=True)
    first.append(b"two\n", durable=False)
    assert syncs.told[1:] == [("fdatasync", "1.jsonl")] and first.size == 8
    first.close()
    second = Appender(path)
    second.append(b"three\n", durable=True)
    assert second.size == 14 and path.read_bytes() == b"one\ntwo\nthree\n"
    assert syncs.told[2:] == [("fdatasync", "1.jsonl")], "its name was on the disk already"
    second.close()


def test_a_failed_sync_is_told_and_not_tried_again(tmp_path, monkeypatch):
    appender = Appender(tmp_path / "a")
    calls: list[int] = []

    def fails(fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(OSError, match="broken"):
        appender.append(b"x", durable=True)
    assert len(calls) == 1
    appender.close()


def test_what_is_removed_is_gone_for_good_and_may_be_gone_already(tmp_path, syncs):
    (tmp_path / "a").write_text("")
    disk.remove(tmp_path / "a")
    assert syncs.told == [("fsync", tmp_path.name)] and not (tmp_path / "a").exists()
    disk.remove(tmp_path / "a")
    assert len(syncs.told) == 1


def test_the_kind_of_file_system_is_told_where_it_can_be(tmp_path):
    assert disk.file_system(Path("/proc")) == "proc" and disk.file_system(tmp_path / "missing") == ""


def test_nothing_is_inherited_by_other_programs(tmp_path):
    appender = Appender(tmp_path / "a")
    assert not os.get_inheritable(appender._fd)
    appender.close()


def test_confirming_writes_the_last_line_again_and_syncs_it_and_its_name(tmp_path, syncs, monkeypatch):
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\nthree\n")
    written: list[tuple[bytes, int]] = []
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: written.append((bytes(data), at)) or real(fd, data, at))
    disk.confirm(path)
    assert written == [(b"three\n", 8)] and path.read_bytes() == b"one\ntwo\nthree\n"
    assert syncs.told == [("fdatasync", "lines"), ("fsync", tmp_path.name)]
    path.write_bytes(b"")
    disk.confirm(path)
    assert path.read_bytes() == b""


def test_a_folder_whose_name_could_not_be_made_safe_is_not_taken_for_one_that_is(tmp_path, monkeypatch):
    def refuse(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "sync_folder", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            disk.make_folder(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    disk.make_folder(tmp_path / "new")
    assert (tmp_path / "new").is_dir()


def test_a_replacement_that_cannot_get_its_name_leaves_no_draft(tmp_path):
    (tmp_path / "state.json").mkdir()
    before = fds()
    with pytest.raises(IsADirectoryError):
        disk.replace(tmp_path / "state.json", b"new", durable=True)
    assert os.listdir(tmp_path) == ["state.json"] and fds() == before


def test_only_drafts_are_removed_and_where_others_write_only_the_old_ones(tmp_path):
    for name, at in ((".a.1.new", 100), (".b.2.new", 300), ("c.new", 100), (".d", 100)):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (at, at))
    disk.remove_drafts(tmp_path, 200.0)
    assert sorted(os.listdir(tmp_path)) == [".b.2.new", ".d", "c.new"]
    disk.remove_drafts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".d", "c.new"]


def test_a_draft_that_gets_its_name_meanwhile_is_no_fault(tmp_path, monkeypatch):
    real = Path.glob

    def glob(self: Path, pattern: str) -> list[Path]:
        found = sorted(real(self, pattern))
        found[0].rename(self / "a")  # its writer was not dead
        return found

    for name in (".a.1.new", ".b.2.new"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(Path, "glob", glob)
    disk.remove_drafts(tmp_path)
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_is_cut_for_good_and_never_made_longer(tmp_path, syncs):
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntw")
    disk.cut(path, 4)
    assert path.read_bytes() == b"one\n" and syncs.told == [("fsync", "lines")]
    for size in (4, 40):
        disk.cut(path, size)
    assert path.read_bytes() == b"one\n" and len(syncs.told) == 1
    before = fds()
    with pytest.raises(FileNotFoundError):
        disk.cut(tmp_path / "gone", 0)
    assert fds() == before


def test_whatever_has_a_name_is_dropped_for_good(tmp_path, syncs):
    (tmp_path / "folder" / "in it").mkdir(parents=True)
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    disk.drop(tmp_path / "link")
    assert (tmp_path / "folder" / "in it").is_dir(), "what it led to is not what has that name"
    for name in ("broken", "file", "pipe", "folder"):
        disk.drop(tmp_path / name)
    assert os.listdir(tmp_path) == [] and syncs.told == [("fsync", tmp_path.name)] * 5
    disk.drop(tmp_path / "file")
    assert len(syncs.told) == 5


def test_reading_begins_where_it_is_told_and_takes_no_more_than_that(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    assert (disk.read(tmp_path / "a"), disk.read(tmp_path / "a", 4), disk.read(tmp_path / "a", 2, 3)) == (
        b"0123456789", b"456789", b"234",
    )  # fmt: skip


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_waited_for_and_leaves_nothing_open(tmp_path, make):
    make(tmp_path / "a")
    before = fds()
    with pytest.raises(OSError, match="stands where a file should"):
        disk.read(tmp_path / "a")
    assert fds() == before


# Copies


def test_a_copy_is_a_file_of_its_own_on_the_disk_and_its_digest_is_that_of_what_is_in_it(tmp_path, syncs):
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"some data")
    assert end_of(disk.copy(source, target)) == hashlib.sha256(b"some data").hexdigest() == end_of(disk.digest(target))
    assert syncs.told == [("fsync", "b")] and stat.S_IMODE(target.stat().st_mode) == 0o600
    source.write_bytes(b"other")
    assert target.read_bytes() == b"some data"


def test_a_copy_may_have_the_mode_and_time_of_what_it_stands_for(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    end_of(disk.copy(tmp_path / "a", tmp_path / "b", mode=0o751, mtime_ns=123456789))
    found = (tmp_path / "b").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o751, 123456789)


def test_a_copy_is_made_in_pieces_and_one_that_is_given_up_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "PIECE", 10)
    (tmp_path / "a").write_bytes(b"x" * 95)
    pieces = disk.copy(tmp_path / "a", tmp_path / "b")
    assert sum(1 for _ in pieces) == 10
    again = disk.copy(tmp_path / "a", tmp_path / "c")
    next(again)
    again.close()
    assert not (tmp_path / "c").exists()


def test_what_is_no_file_is_not_copied_and_nothing_is_copied_over(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a named pipe stands where a file should"):
        end_of(disk.copy(tmp_path / "pipe", tmp_path / "b"))
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(FileExistsError):
        end_of(disk.copy(tmp_path / "a", tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == b"x"


def test_where_the_file_system_can_both_share_what_is_in_them(tmp_path, monkeypatch):
    """Played: not every machine has one that can."""
    (tmp_path / "a").write_bytes(b"whole")

    def clones(target: int, request: int, source: int) -> None:
        os.pwrite(target, os.pread(source, 100, 0), 0)

    monkeypatch.setattr(disk.fcntl, "ioctl", clones)
    monkeypatch.setattr(disk, "write_all", lambda fd, data: pytest.fail("what is shared is not written"))
    assert end_of(disk.copy(tmp_path / "a", tmp_path / "b")) == hashlib.sha256(b"whole").hexdigest()
    assert disk.can_clone(tmp_path / "a", tmp_path)
    monkeypatch.undo()
    assert disk.can_clone(tmp_path / "missing", tmp_path) is False


def test_how_much_room_there_is(tmp_path):
    assert disk.room(tmp_path) > 0
