"""Which files a phase fans out to, and what is said where that cannot be told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.core.actions import ListFiles
from orchestrator.core.observations import FilesListed
from orchestrator.files import listing
from orchestrator.files.listing import list_files


def listed(root: Path, pattern: str) -> FilesListed:
    return list_files(root, ListFiles(4, pattern))


def test_files_are_sorted_and_none_is_a_list_too(tmp_path: Path) -> None:
    for name in ("data/b.csv", "data/a.csv", "data/x y/c.csv", "data/d.txt", "system/e.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert listed(tmp_path, "data/*.csv").files == ("data/a.csv", "data/b.csv")
    assert listed(tmp_path, "**/*.csv").files == ("data/a.csv", "data/b.csv", "data/x y/c.csv")
    assert listed(tmp_path, "nothing/*") == FilesListed(4)


def test_what_could_not_be_written_down_or_is_too_much_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/a\xff")).touch()
    assert listed(tmp_path, "a*").why_not == "'a\\udcff' has a name that cannot be printed"
    for name in "bcd":
        (tmp_path / f"b{name}").touch()
    monkeypatch.setattr(listing, "MOST_ITEMS", 2)
    assert listed(tmp_path, "b*").why_not == "b* means more than 2 files, and there may be no more"
