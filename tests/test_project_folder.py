from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.project import find


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """outer/phases, outer/inner/phases, outer/inner/data/deep, and an elsewhere without phases/."""
    (tmp_path / "outer" / "phases").mkdir(parents=True)
    (tmp_path / "outer" / "inner" / "phases").mkdir(parents=True)
    (tmp_path / "outer" / "inner" / "data" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("option", "environ", "cwd", "expected"),
    [
        (None, {}, "outer", "outer"),
        (None, {}, "outer/inner/data/deep", "outer/inner"),
        (None, {}, "outer/phases", "outer"),
        ("outer", {}, "elsewhere", "outer"),
        ("elsewhere", {"ORCH_PROJECT": "outer", "ORCH_PHASE": "3"}, "outer/inner", "elsewhere"),
        (None, {"ORCH_PROJECT": "outer"}, "elsewhere", "outer"),
        (None, {"ORCH_PROJECT": "outer"}, "outer/inner", "outer"),
        (None, {"ORCH_PROJECT": "outer", "ORCH_PHASE": "3"}, "outer/inner/data", "outer/inner"),
        (None, {"ORCH_PROJECT": "outer", "ORCH_PHASE": "3"}, "elsewhere", "outer"),
        (None, {"ORCH_PROJECT": ""}, "outer/inner", "outer/inner"),
    ],
)
def test_which_folder_is_the_project(folder, option, environ, cwd, expected):
    named = {
        name: str(folder / value) if name == "ORCH_PROJECT" and value else value for name, value in environ.items()
    }
    assert find(None if option is None else folder / option, named, folder / cwd) == folder / expected


def test_what_is_no_folder_is_refused_with_where_it_was_named(folder):
    with pytest.raises(UsageError, match=r"--project: .*/missing is not a folder") as caught:
        find(folder / "missing", {}, folder)
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=r"\$ORCH_PROJECT: .*/missing is not a folder"):
        find(None, {"ORCH_PROJECT": str(folder / "missing")}, folder / "elsewhere")


def test_no_project_anywhere_says_what_to_do(folder):
    with pytest.raises(UsageError, match="no project here") as caught:
        find(None, {}, folder / "elsewhere")
    assert "orch init" in caught.value.remedy and str(folder / "elsewhere") in caught.value.message


def test_a_file_of_that_name_is_no_project(folder):
    (folder / "elsewhere" / "phases").write_text("")
    with pytest.raises(UsageError):
        find(None, {}, folder / "elsewhere")


def test_it_is_absolute(folder, monkeypatch):
    monkeypatch.chdir(folder / "outer")
    assert find(Path("inner"), {}, Path(".")) == folder / "outer" / "inner"
    assert find(None, {}, Path(".")) == folder / "outer"
