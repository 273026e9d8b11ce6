from __future__ import annotations

import os

import pytest

from orchestrator.patterns import expand
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
        ("missing", []),
        ("out/[ab].txt", ["out/a.txt"]),
    ],
)
def test_what_a_pattern_means(root, pattern, files):
    assert found(root, pattern).files == files


def test_folders_come_with_those_that_they_are_in(root):
    assert found(root, "out/deep").folders == {"out", "out/deep", "out/deep/er"}
    assert found(root, "out").folders == {"out", "out/deep", "out/deep/er", "out/empty"}
    assert found(root, "out/empty/*.txt").folders == {"out", "out/empty"}, "declared, though nothing is in it"
    assert found(root, "nowhere/*.txt").folders == set()


def test_several_mean_each_file_once(root):
    assert found(root, "out/*.txt", "out/a.txt", "c.csv").files == ["c.csv", "out/a.txt"]


def test_what_holds_nothing_and_what_is_ours_is_left_out(root):
    os.mkfifo(root / "out" / "pipe")
    (root / "out" / ".orch-token-0.new").write_text("a draft of ours")
    os.symlink("nowhere", root / "out" / "link")
    os.symlink("deep", root / "out" / "to")
    files = ["out/.hidden", "out/a.txt", "out/deep/er/b.txt", "out/link", "out/to"]
    assert found(root, "out").files == files
    assert found(root, "*").files == ["c.csv", "data/d.csv", *files]


def test_a_folder_may_lie_elsewhere(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "big").write_text("x")
    os.symlink(elsewhere, root / "store")
    assert found(root, "store").files == ["store/big"]
