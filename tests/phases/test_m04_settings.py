"""Phase -4: settings that hold, that are wrong, that are unwise; and what cron would not give."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator import ConfigurationFault
from orchestrator.core.setting import SETTINGS
from phases import m04_settings as phase

ROOT = str(Path(phase.__file__).parents[1])


def told(context, file: str = "", **environ: str) -> list[str]:
    if file:
        context.path("orch.toml").write_text(file)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        return phase.settings(context)["warnings"]


def test_it_tells_the_settings_and_where_they_come_from(make, fits, monkeypatch):
    context = make(-4)
    context.path("orch.toml").write_text('timeout = "10m"\n[logs]\nkeep = 3\nphase_bytes = "2MB"\n')
    monkeypatch.setenv("ORCH_JOBS", "5")
    result = fits(phase.settings(context))
    found = result["figures"]
    assert set(found["settings"]) == {setting.name for setting in SETTINGS}
    assert found["settings"]["jobs"] == "5 (ORCH_JOBS)"
    assert found["settings"]["timeout"] == "10m (orch.toml:1)"
    assert found["settings"]["kill_grace"] == "5s (default)"
    assert (found["jobs"], found["timeout_seconds"], found["logs_of_one_phase_bytes"]) == (5, 600.0, 6_000_000)
    assert result["verdict"].startswith("4 settings are not the default; 5 attempts at once")
    assert "ORCH_JOBS is set here, cron would not set it: write it into orch.toml" in result["warnings"]


def test_all_default(make, fits):
    result = fits(phase.settings(make(-4)))
    assert result["verdict"].startswith("all settings are the default; ")
    assert [text for text in result["warnings"] if "orch.toml" in text] == []


def test_what_orch_itself_says_to_an_attempt_is_no_setting(make):
    assert not any(
        "ORCH_" in text for text in told(make(-4), ORCH_RUN="x", ORCH_PHASE="-4", ORCH_PROJECT="/", ORCH_DUE="")
    )


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("jobs = 0\n", r"orch\.toml:1.*jobs = 0 is not a whole number"),
        ("\ntimeot = 5\n", r"orch\.toml:2.*did you mean timeout"),
        ("heartbeat_timeout = 3\n", "less than twice beat_interval"),
        ("jobs = [\n", "not valid TOML"),
    ],
)
def test_settings_that_are_wrong_are_a_fault(make, file, message):
    context = make(-4)
    context.path("orch.toml").write_text(file)
    with pytest.raises(ConfigurationFault, match=f"(?s){message}.*orch config check"):
        phase.settings(context)


@pytest.mark.parametrize(
    ("file", "warning"),
    [
        ("jobs = 999", "jobs = 999 (orch.toml:1) is more than 4 for each of"),
        ("heartbeat_timeout = 15", "heartbeat_timeout = 15s is less than ten beats"),
        ("kill_grace = 0", "kill_grace = 0s leaves a phase no time"),
        ('timeout = "2d"', "timeout = 2 days"),
        ("stale_after = 60", "stale_after = 60s is less than timeout and kill_grace"),
        ("trust = true", "trust = true (orch.toml:1): whoever"),
        ("[retry.TRANSIENT]\ntries = 50", "[retry.TRANSIENT] tries = 50"),
    ],
)
def test_settings_that_are_unwise_are_told(make, file, warning):
    assert any(text.startswith(warning) for text in told(make(-4), file))
    assert not any(text.startswith(warning) for text in told(make(-4), "# nothing"))


def test_a_missing_home_is_told(make, monkeypatch):
    monkeypatch.delenv("HOME")
    assert any(text.startswith("HOME is not set: ") for text in told(make(-4)))
    assert "HOME is /nowhere, which is no folder" in told(make(-4), HOME="/nowhere")
    assert not any("HOME" in text for text in told(make(-4), HOME="/"))


@pytest.mark.parametrize(("umask", "is_told"), [(0o002, True), (0o000, True), (0o022, False), (0o077, False)])
def test_a_loose_umask_is_told(make, umask, is_told):
    before = os.umask(umask)
    try:
        assert any(text.startswith(f"the umask is {umask:03o}") for text in told(make(-4))) is is_told
        assert phase.current_umask() == umask
    finally:
        os.umask(before)


def test_a_missing_shell_is_a_fault(make, monkeypatch, tmp_path):
    monkeypatch.setattr(phase, "CRON_PATH", str(tmp_path))
    with pytest.raises(ConfigurationFault, match=r"no /bin/sh.*install"):
        phase.settings(make(-4))


def test_an_orch_that_only_this_environment_finds_is_told(make, tmp_path, monkeypatch):
    assert phase.starts({"PYTHONPATH": ROOT})
    broken = tmp_path / "path" / "orchestrator"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError\n")
    assert not phase.starts({"PYTHONPATH": str(broken.parent)})
    monkeypatch.setattr(phase, "starts", lambda environ: "PYTHONPATH" in environ)
    (warning,) = [text for text in told(make(-4), PYTHONPATH="/x") if text.startswith("cron would not find orch")]
    assert "found by PYTHONPATH" in warning


def test_cron_gives_next_to_nothing():
    cron = phase.as_cron_would({"HOME": "/elsewhere", "PATH": "/opt/bin", "ORCH_JOBS": "3"})
    assert set(cron) == {"HOME", "LOGNAME", "SHELL", "PATH"}
    assert cron["PATH"] == "/usr/bin:/bin"


def test_a_user_whom_nobody_has_entered(monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr(phase.pwd, "getpwuid", unknown)
    assert phase.as_cron_would({"HOME": "/elsewhere"})["HOME"] == "/elsewhere"
