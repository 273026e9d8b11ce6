from __future__ import annotations

import os

import pytest

from orchestrator.files.patterns import Found, expand, find
from tests.store.given import end_of


@pytest.fixture
def root(tmp_path):
    for name in (
        "out/a.txt",
        "out/.hidden",
        "out/deep/er/b.txt",
        "system/state.json",
        "c.csv",
        "data/d.csv",
        ".orch-x.new",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "out" / "empty").mkdir()
    return tmp_path


def found(root, *patterns):
    return end_of(expand(root, patterns))


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("c.csv", ["c.csv"]),
        ("out", ["out/.hidden", "out/a.txt", "out/deep/er/b.txt"]),
        ("out/*.txt", ["out/a.txt"]),
        ("**/*.csv", ["c.csv", "data/d.csv"]),
        ("out/*/er", ["out/deep/er/b.txt"]),
        ("*/state.json", []),
        ("**/system/state.json", []),
        ("missing", []),
        ("out/[ab].txt", ["out/a.txt"]),
    ],
)
def test_what_a_pattern_means(root, pattern, files):
    assert found(root, pattern)[0] == files


def test_folders_come_with_those_that_they_are_in(root):
    assert found(root, "out/deep")[1] == {"out", "out/deep", "out/deep/er"}
    assert found(root, "out")[1] == {"out", "out/deep", "out/deep/er", "out/empty"}
    assert found(root, "out/empty/*.txt")[1] == {"out", "out/empty"}, "declared, though nothing is in it"
    assert found(root, "nowhere/*.txt")[1] == set()


def test_several_mean_each_file_once(root):
    assert found(root, "out/*.txt", "out/a.txt", "c.csv")[0] == ["c.csv", "out/a.txt"]


def test_what_holds_nothing_and_what_is_ours_is_left_out(root):
    os.mkfifo(root / "out" / "pipe")
    (root / "out" / ".orch-token-0.new").write_text("a draft of ours")
    os.symlink("nowhere", root / "out" / "link")
    os.symlink("deep", root / "out" / "to")
    files = ["out/.hidden", "out/a.txt", "out/deep/er/b.txt", "out/link", "out/to"]
    assert found(root, "out")[0] == files
    assert found(root, "*")[0] == ["c.csv", "data/d.csv", *files]


def test_a_folder_may_lie_elsewhere(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "big").write_text("x")
    os.symlink(elsewhere, root / "store")
    assert found(root, "store")[0] == ["store/big"]


def test_what_may_not_be_looked_at_is_not_left_out_in_silence(root, monkeypatch):
    look = os.scandir

    def refused(path):
        if str(path).endswith("er"):
            raise PermissionError(13, "Permission denied", path)
        return look(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(PermissionError, match="Permission denied"):
        found(root, "out")


def test_what_python_compiled_is_copied_like_any_file(root):
    (root / "out" / "__pycache__").mkdir()
    (root / "out" / "__pycache__" / "x.pyc").write_text("x")
    assert "out/__pycache__/x.pyc" in found(root, "out")[0]
    everything = Found()
    list(find(root, ["out"], everything))
    assert "out/__pycache__/x.pyc" not in everything.files
