"""Phase -6 on the real disk, and on file systems that break one promise each."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from orchestrator import ConfigurationFault, Context, PermissionFault
from phases import m06_file_system as fs

MEMORY = Path("/dev/shm")


@pytest.fixture(autouse=True)
def shorter(monkeypatch):
    monkeypatch.setattr(fs, "LOOKING_SECONDS", 0.15)


def test_it_tells_this_file_system(make, fits, empty):
    context = make(-6)
    found = fits(fs.file_system(context))["figures"]
    assert found["looks"] > 20
    assert found["versions_seen"] >= 2
    assert found["lines_appended_by_two"] == 2 * fs.LINES
    for name in ("rewrite_sync", "append_sync", "replace_sync", "folder_sync"):
        assert 0 < found[f"{name}_median_ms"] <= found[f"{name}_p95_ms"]
    assert (context.told[-1]["done"], context.told[-1]["total"]) == (6, 6)
    assert empty(context)


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="there is no /dev/shm to write to")
def test_a_file_system_in_memory_is_told(fits):
    with tempfile.TemporaryDirectory(dir=MEMORY) as project:
        Path(project, "system").mkdir()
        result = fits(fs.file_system(Context(phase=-6, project=project)))
    assert result["figures"]["type"] == "tmpfs"
    assert any("lost with the power" in warning for warning in result["warnings"])


def test_a_folder_that_may_not_be_written_is_refused(make):
    context = make(-6)
    context.path("system").rmdir()
    context.path("system").symlink_to("/sys/kernel")
    with pytest.raises(PermissionFault, match=r"make .* writable"):
        fs.file_system(context)


def overwrite(path, data):
    with open(path, "wb") as file:
        for start in range(0, len(data), 512):
            file.write(data[start : start + 512])
            file.flush()


def take_away_and_write(path, data):
    path.unlink(missing_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize("replace", [overwrite, take_away_and_write])
def test_a_replacement_that_is_not_atomic_is_seen(tmp_path, replace):
    seen = fs.look_while_replaced(tmp_path / "file", replace)
    assert seen.bad > 0


@pytest.mark.parametrize("replace", [overwrite, take_away_and_write])
def test_and_is_a_fault(make, empty, monkeypatch, replace):
    monkeypatch.setattr(fs.disk, "replace", lambda path, data, durable: replace(path, data))
    with pytest.raises(ConfigurationFault, match=r"does not replace atomically \(\d+ of \d+ looks.*local disk"):
        fs.file_system(make(-6))
    assert empty(make(-6))


@pytest.mark.parametrize("data", [b"", b"00000001", b"00000001" * 1023, b"00000001" * 512 + b"00000002" * 512])
def test_what_is_not_one_whole_version_is_seen(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    assert fs.whole_or_nothing(tmp_path / "file") is None
    (tmp_path / "file").write_bytes(b"00000001" * 1024)
    assert fs.whole_or_nothing(tmp_path / "file") == b"00000001"
    assert fs.whole_or_nothing(tmp_path / "missing") is None


def test_locks_that_do_not_exclude_are_a_fault(make, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda file, how: None)
    with pytest.raises(ConfigurationFault, match="does not keep another process out"):
        fs.file_system(make(-6))


def test_locks_that_do_not_work_at_all_are_a_fault(make, monkeypatch):
    def refuse(file, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigurationFault, match="files cannot be locked"):
        fs.file_system(make(-6))


def test_a_lock_that_outlives_its_holder_is_a_fault(make, monkeypatch):
    monkeypatch.setattr(fs, "wait_for_lock", lambda fd, patience: fs_wait(fd, 0.02))
    fs_wait = wait_with_another_holder(fs.wait_for_lock)
    with pytest.raises(ConfigurationFault, match="a lock stays although its holder was killed"):
        fs.file_system(make(-6))


def wait_with_another_holder(wait):
    """Somebody else takes the lock as soon as it is free."""

    def waiting(fd, patience):
        with open(f"/proc/self/fd/{fd}", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return real(fd, patience)

    real = _real_wait
    return waiting


_real_wait = fs.wait_for_lock


def test_lines_that_overwrite_each_other_are_a_fault(make, monkeypatch):
    def append(path, letter, say):
        fd = os.open(path, os.O_WRONLY)
        for _ in range(fs.LINES):
            os.write(fd, letter * 120 + b"\n")
        say("finished")

    monkeypatch.setattr(fs, "append", append)
    with pytest.raises(ConfigurationFault, match="lines that two processes append are harmed"):
        fs.file_system(make(-6))


def test_where_no_socket_can_be_made_is_refused(tmp_path):
    with pytest.raises(ConfigurationFault, match=r"/proc.*Unix sockets cannot be used"):
        fs.sockets_connect(Path("/proc/self"))
    deep = tmp_path / ("long" * 30)
    deep.mkdir()
    assert fs.sockets_connect(deep) == {"unix_sockets": True}


def test_where_no_pipe_can_be_made_is_told():
    assert fs.pipes_work(Path("/proc/self")) == {"named_pipes": False}


def test_the_mount_is_the_innermost(tmp_path, monkeypatch):
    assert fs.of_mount(Path("/proc/self")) == {"mount": "/proc", "type": "proc"}
    (tmp_path / "a b" / "c").mkdir(parents=True)
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"disk / ext4 rw 0 0\nx {tmp_path}/a xfs rw 0 0\nx {tmp_path}/a\\040b nfs4 rw 0 0\nx {tmp_path}/a\\040b/cc tmpfs rw 0 0\n"
    )
    monkeypatch.setattr(fs, "Path", lambda name: mounts)
    assert fs.of_mount(tmp_path / "a b" / "c") == {"mount": f"{tmp_path}/a b", "type": "nfs4"}
    assert fs.of_mount(tmp_path) == {"mount": "/", "type": "ext4"}


GOOD = {
    "type": "ext4", "mount": "/", "inodes_free": 10**6, "append_sync_p95_ms": 1.0, "named_pipes": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"type": "nfs4"}, "system/ lies on / (nfs4), a file system shared with others"),
        ({"type": "fuse.sshfs"}, "shared with others"),
        ({"type": "tmpfs"}, "which is memory"),
        ({"type": "overlay"}, "gone with the container"),
        ({"inodes_free": 9}, "only 9 more files"),
        ({"append_sync_p95_ms": 250.0}, "takes up to 250 ms"),
        ({"named_pipes": False}, "mkfifo"),
    ],
)
def test_what_is_worse_than_wished_is_told(change, told):
    assert list(fs.warnings(GOOD)) == []
    assert list(fs.warnings({**GOOD, "inodes_free": None})) == []
    (warning,) = fs.warnings({**GOOD, **change})
    assert told in warning


def test_a_line_that_nobody_wrote_is_a_fault(tmp_path, monkeypatch):
    right = fs.append

    def append(path, letter, say):
        if letter == b"a":
            path.write_bytes(b"stray\n")
        right(path, letter, lambda word: say("finished"))

    monkeypatch.setattr(fs, "append", append)
    monkeypatch.setattr(fs, "LINES", 1)
    monkeypatch.setattr(fs, "child", OneAfterTheOther)
    with pytest.raises(ConfigurationFault, match="3 of 2 lines"):
        fs.appends_whole_lines(tmp_path)


class OneAfterTheOther:
    def __init__(self, work):
        self.said = []
        work(self.said.append)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def hear(self):
        return self.said[0]
