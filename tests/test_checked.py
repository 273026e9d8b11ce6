"""Settings that were checked before: the same come back, without the library; what is damaged or foreign never does."""

from __future__ import annotations

import json
import os
import random
import stat
import sys
from pathlib import Path

import pytest

from orchestrator import checked, config
from orchestrator.config import Settings
from orchestrator.errors import SettingsError

EVERYTHING = """
jobs = 3
timeout = "90s"
trust = true
[logs]
phase_bytes = "64kB"
[retry.TRANSIENT]
factor = 3
[pools]
disk = 2
[params]
year = 2024
share = 0.5
names = ["a", "b"]
deep = false
[secrets]
token = { env = "TOKEN" }
[notify.ops]
url = "https://example.org/hook"
events = ["failed", "run_failed"]
quiet = "22:00-07:00"
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(checked, "_fresh", {})
    (tmp_path / "system/cache").mkdir(parents=True)
    (tmp_path / "orch.toml").write_text(EVERYTHING)
    return tmp_path


def settle(root: Path, **environ: str) -> Settings:
    return config.settings(root, {"jobs": 5}, environ)


def kept(root: Path) -> Path:
    return root / "system/cache/settings"


def as_of_another_process(root: Path, monkeypatch: pytest.MonkeyPatch, **environ: str) -> Settings:
    """Where the library that checks cannot be had."""
    with monkeypatch.context() as other:
        other.setattr(checked, "_fresh", {})
        other.setitem(sys.modules, "pydantic", None)
        return settle(root, **environ)


def test_what_was_checked_comes_back_as_it_was_without_the_library(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = settle(root, ORCH_TIMEOUT="2m")
    config.keep_what_was_checked(root)
    again = as_of_another_process(root, monkeypatch, ORCH_TIMEOUT="2m")
    assert again == first and repr(again) == repr(first)
    assert again.notify["ops"].events == ("failed", "run_failed") and again.params["names"] == ["a", "b"]
    text = kept(root).read_text()
    assert "notify.ops.url" in text and again.notify["ops"].url not in text
    assert again.origins["retry.TRANSIENT.factor"] == "orch.toml:8" and again.origins["jobs"] == "--jobs"
    assert stat.S_IMODE(kept(root).stat().st_mode) == 0o600


@pytest.mark.parametrize("changed", ["file", "shared", "own", "flag", "variable", "recipe"])
def test_whatever_else_is_written_is_checked(root: Path, monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    settle(root)
    config.keep_what_was_checked(root)
    monkeypatch.setattr(checked, "_fresh", {})
    monkeypatch.setitem(sys.modules, "pydantic", None)
    if changed == "flag":
        with pytest.raises(ImportError):
            config.settings(root, {"jobs": 0}, {})
        return
    if changed == "recipe":
        monkeypatch.setattr(checked, "_RECIPE", "another")
    elif changed == "shared":
        (root / "pyproject.toml").write_text("[tool.orch]\njobs = 2\n")
    elif changed != "variable":
        (root / "orch.toml").write_text(EVERYTHING + "\n")
    with pytest.raises((ImportError, SettingsError)):
        settle(root, **({"ORCH_TRUST": "true"} if changed == "variable" else {}))


def test_a_second_place_is_refused_though_each_was_right_alone(root: Path) -> None:
    (root / "orch.toml").unlink()
    (root / "pyproject.toml").write_text("[tool.orch]\njobs = 2\n")
    settle(root)
    (root / "orch.toml").write_text("")
    with pytest.raises(SettingsError, match="both have settings"):
        settle(root)


def test_wrong_settings_are_never_kept(root: Path) -> None:
    (root / "orch.toml").write_text("jobs = 0\n")
    with pytest.raises(SettingsError):
        config.settings(root, {}, {})
    config.keep_what_was_checked(root)
    assert not kept(root).exists()


def test_damage_is_never_believed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte changed, cut off anywhere, or something else altogether: checked again, with the same result."""
    first = settle(root)
    config.keep_what_was_checked(root)
    whole, dice = kept(root).read_bytes(), random.Random(7)
    damaged = [whole[: dice.randrange(len(whole))] for _ in range(20)] + [b"", b"\n", b"{}", b"[]\n[]", whole * 2]
    for at in dice.sample(range(len(whole)), 60):
        damaged.append(whole[:at] + bytes([whole[at] ^ (1 << dice.randrange(8))]) + whole[at + 1 :])
    for data in damaged:
        kept(root).write_bytes(data)
        with pytest.raises(ImportError):
            as_of_another_process(root, monkeypatch)
    assert settle(root) == first
    kept(root).unlink()
    os.mkfifo(kept(root))  # opening it would wait for ever
    with pytest.raises(ImportError):
        as_of_another_process(root, monkeypatch)


def test_it_is_bounded_and_never_makes_a_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for jobs in range(1, 30):
        config.settings(root, {"jobs": jobs}, {})
        config.keep_what_was_checked(root)
        monkeypatch.setattr(checked, "_fresh", {})
    assert len(json.loads(kept(root).read_bytes().partition(b"\n")[2])) == 20
    elsewhere = root / "elsewhere"
    elsewhere.mkdir()
    config.settings(elsewhere, {"jobs": 3}, {})
    config.keep_what_was_checked(elsewhere)
    assert not list(elsewhere.iterdir())
