from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.files.patterns import Found, find

TREE = [
    "a.csv", "b.txt", ".hidden.csv", "data/a.csv", "data/b.csv", "data/.c.csv", "data/deep/d.csv", "data/deep/more/e.txt",
    "system/state.json", "system/x.csv", "data/__pycache__/x.csv", "data/system/f.csv",
]  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def found(root: Path, *patterns: str) -> list[str]:
    result = Found()
    for _ in find(root, patterns, result):
        pass
    return sorted(result.files)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.csv", ["a.csv"]),
        ("nothing.csv", []),
        ("*.csv", ["a.csv"]),
        (".*.csv", [".hidden.csv"]),
        ("data/?.csv", ["data/a.csv", "data/b.csv"]),
        ("data/[bc].csv", ["data/b.csv"]),
        ("data/*/d.csv", ["data/deep/d.csv"]),
        ("**/*.csv", ["a.csv", "data/a.csv", "data/b.csv", "data/deep/d.csv", "data/system/f.csv"]),
        ("data/**/e.txt", ["data/deep/more/e.txt"]),
        ("data/deep", ["data/deep/d.csv", "data/deep/more/e.txt"]),
        ("data/d*", ["data/deep/d.csv", "data/deep/more/e.txt"]),
        ("data/deep/**", ["data/deep/d.csv", "data/deep/more/e.txt"]),
        ("s*/*", []),
        ("*", ["a.csv", "b.txt", *(name for name in sorted(TREE) if name[:5] == "data/" and "__" not in name)]),
        ("a.csv/x", []),
    ],
)
def test_what_a_pattern_names(root: Path, pattern: str, names: list[str]) -> None:
    assert found(root, pattern) == sorted(names)


def test_several_patterns_name_each_file_once(root: Path) -> None:
    assert found(root, "data/*.csv", "data/a.csv", "data") == found(root, "data")


def test_links_are_followed_where_they_are_named_and_not_round_in_circles(root: Path) -> None:
    (root / "data" / "loop").symlink_to(root / "data")
    (root / "elsewhere").symlink_to(root / "data" / "deep")
    (root / "dead.csv").symlink_to("nowhere")
    assert found(root, "elsewhere") == ["elsewhere/d.csv", "elsewhere/more/e.txt"]
    assert found(root, "dead.csv") == ["dead.csv"]
    assert "data/loop/a.csv" not in found(root, "data/**/*.csv", "data")


def test_each_file_costs_one_stat(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "many").mkdir()
    for number in range(200):
        (root / "many" / f"{number}.csv").write_text("")
    real, count = os.stat, [0]

    def counted(*args: object, **how: object) -> os.stat_result:
        count[0] += 1
        return real(*args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", counted)
    assert len(found(root, "many/*.csv")) == 200
    assert count[0] <= 202
