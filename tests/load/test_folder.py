from __future__ import annotations

import grp
import os
import pwd
import socket

import pytest

from orchestrator.load import load
from orchestrator.load.folder import read

GOOD = "[[phase]]\nnumber = 1\nrun = 'x'\n"


def told(root, *, trust=False):
    return [str(fault) for fault in read(root, trust=trust).faults]


def test_only_phase_files_count(project):
    root = project(
        {
            f"phases/{name}": GOOD
            for name in ("a.toml", "b.py", "_c.py", ".d.py", "e.txt", "f.toml~", "g.pyc", "sub/h.py")
        }
    )
    found = read(root, trust=False)
    assert list(found.sources) == ["phases/a.toml", "phases/b.py"] and found.faults == ()


def test_files_that_cannot_be_read_are_told_one_by_one(project):
    root = project(
        {
            "phases/good.toml": GOOD,
            "phases/nul.toml": b"a = 1\nb = \0\n",
            "phases/latin.py": b"# ok\n# \xe9\n",
            "phases/blank.py": " \n",
        }
    )
    (root / "phases/folder.py").mkdir()
    (root / "phases/loop.py").symlink_to("loop.py")
    (root / "phases/gone.py").symlink_to("nowhere.py")
    os.mkfifo(root / "phases/pipe.py", 0o600)
    (root / "phases/bell\x07.py").touch(0o644)
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(root)
        listening.bind("phases/socket.py")
        os.chdir(here)
    os.chmod(root / "phases/socket.py", 0o600)
    found = read(root, trust=False)
    assert list(found.sources) == ["phases/good.toml"]
    assert [str(fault) for fault in found.faults] == [
        "phases/bell\\x07.py: its name holds characters that cannot be printed: rename it",
        "phases/blank.py: is empty: define a phase in it, or remove it",
        "phases/folder.py: is not a file: begin its name with _ if it is no phase",
        "phases/gone.py: cannot be read: No such file or directory: check the link",
        "phases/latin.py:2: is not UTF-8: byte 0xe9: save it as UTF-8",
        "phases/loop.py: cannot be read: Too many levels of symbolic links: check the link",
        "phases/nul.toml:2: holds a NUL byte: it is not text: write it as UTF-8",
        "phases/pipe.py: is not a file: begin its name with _ if it is no phase",
        "phases/socket.py: is not a file: begin its name with _ if it is no phase",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_we_may_not_read(project):
    root = project({"phases/a.toml": GOOD})
    (root / "phases/a.toml").chmod(0)
    assert told(root) == ["phases/a.toml: cannot be read: Permission denied: check who may read it"]
    (root / "phases").chmod(0)
    try:
        assert told(root) == ["phases/: cannot be read: Permission denied: check who may read it"]
    finally:
        (root / "phases").chmod(0o755)


def test_a_folder_with_nothing_in_it(project):
    assert told(project()) == ["phases/: holds no .py or .toml file: `orch init` writes a first phase"]


def test_phases_that_is_a_file_or_not_there(tmp_path):
    expected = [f"phases/: there is no folder phases/ in {tmp_path}: `orch init` makes one with a first phase"]
    assert told(tmp_path) == expected
    (tmp_path / "phases").touch()
    assert told(tmp_path) == expected


@pytest.mark.parametrize(
    ("path", "mode", "shown"),
    [
        ("phases", 0o775, "phases/"),
        ("phases", 0o757, "phases/"),
        ("phases/a.toml", 0o664, "phases/a.toml"),
        ("phases/b.py", 0o646, "phases/b.py"),
        ("phases/_c.py", 0o666, "phases/_c.py"),
    ],
)
def test_what_others_may_write_is_refused_unless_trusted(project, path, mode, shown, monkeypatch):
    monkeypatch.setattr("orchestrator.load.folder._is_of_one", lambda gid, uid: False)
    root = project({"phases/a.toml": GOOD, "phases/b.py": "open('ran', 'w')\n", "phases/_c.py": ""})
    (root / path).chmod(mode)
    hint = "chmod -R go-w phases (or chown), or set trust = true in orch.toml"
    found = load(root, load_timeout=20, trust=False, cache=None)
    assert [str(fault) for fault in found.faults] == [
        f"phases/: group, others or another user may write {shown}: {hint}"
    ]
    assert not (root / "ran").exists() and found.specs == ()
    assert told(root, trust=True) == []


@pytest.mark.parametrize(
    ("group", "is_open"),
    [(("ann", "x", 5, []), False), (("ann", "x", 5, ["ann"]), False), (("ann", "x", 5, ["bob"]), True),
     (("staff", "x", 5, []), True), (None, True)],
)  # fmt: skip
def test_a_group_that_only_the_owner_is_in_counts_as_the_owner(project, monkeypatch, group, is_open):
    """As an umask of 002 leaves it."""

    def known(gid):
        if group is None:
            raise KeyError(gid)
        return grp.struct_group(group)

    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(("ann", "x", uid, 5, "", "/", "/bin/sh")))
    monkeypatch.setattr(grp, "getgrgid", known)
    root = project({"phases/a.toml": GOOD})
    real = os.stat

    def of_group(path, *args, **how):
        found = real(path, *args, **how)
        return os.stat_result((*found[:5], 5, *found[6:])) if str(path).endswith("a.toml") else found

    monkeypatch.setattr(os, "stat", of_group)
    (root / "phases/a.toml").chmod(0o664)
    assert bool(told(root)) == is_open


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(project):
    root = project({f"phases/{name}.toml": GOOD for name in "abcde"})
    for name in "abcde":
        os.chown(root / f"phases/{name}.toml", 12345, 0)
    (fault,) = told(root)
    assert "may write phases/a.toml, phases/b.toml, phases/c.toml and 2 more:" in fault
