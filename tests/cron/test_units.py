"""Units of systemd as they are written; systemd itself judges them, where it is there to ask."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import clock, scheduling
from orchestrator.config import Settings, settings
from orchestrator.core.schedule import Schedule
from orchestrator.cron import units
from orchestrator.errors import UsageError
from orchestrator.store import schedules

ENVIRON = {"PATH": "/opt/100%/bin:/usr/bin", "LANG": 'C."UTF-8"', "SECRET": "x"}
NIGHT = Schedule("night", "30 2 * * *", tz="Europe/Berlin", systemd=True)


class Systemd:
    """Its folders, and a `systemctl` that writes down what it is told."""

    def __init__(self, tmp: Path) -> None:
        self.units, self.running, self.told, self.bin = tmp / "units", tmp / "running", tmp / "told", tmp / "bin"
        self.bin.mkdir()
        self.says("exit 0")
        self.running.mkdir()

    def says(self, what: str) -> None:
        program = self.bin / "systemctl"
        program.write_text(f'#!/bin/sh\necho "$*" >> {self.told}\n{what}\n')
        program.chmod(0o755)

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.units.iterdir()) if self.units.exists() else []

    def lines(self, part: str) -> list[str]:
        (path,) = self.units.glob(f"*{part}")
        return path.read_text().splitlines()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    found = Systemd(tmp_path)
    monkeypatch.setattr(units, "folder", lambda: found.units)
    monkeypatch.setattr(units, "RUNNING", found.running)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{found.bin}:{os.environ['PATH']}")
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / 'pro ject\'s 100% "ü" $HOME'
    (root / "phases").mkdir(parents=True)
    return root


def plain(root: Path) -> Settings:
    (root / "orch.toml").write_text('kill_grace = "7s"\nheartbeat_timeout = "90s"\n')
    return settings(root, {}, {})


@pytest.fixture
def add(root: Path, systemd: Systemd) -> Callable[..., list[str]]:
    return lambda **keys: scheduling.add(root, plain(root), NIGHT.replace(**keys), ENVIRON)[1]


def test_service_and_timer_say_what_the_schedule_says(root: Path, systemd: Systemd, add) -> None:
    assert [note for note in add() if "systemd-analyze is not here" not in note] == []
    stem = units.stem_of(root, "night")
    assert systemd.names == [f"{stem}.service", f"{stem}.timer"]
    service = systemd.lines(".service")
    for line in (
        "Type=notify", "NotifyAccess=main", "KillMode=mixed", "WatchdogSec=90", "TimeoutStopSec=37", "TimeoutStartSec=infinity",
        'Environment="PATH=/opt/100%%/bin:/usr/bin"', 'Environment="LANG=C.\\"UTF-8\\""',
        f"WorkingDirectory={str(root).replace('%', '%%')}",
    ):  # fmt: skip
        assert line in service, line
    assert not any("SECRET" in line for line in service)
    (start,) = (line for line in service if line.startswith("ExecStart="))
    assert start.endswith(
        ' "-m" "orchestrator.cli" "cron" "fire" "night" "--project" "'
        + str(root).replace("%", "%%").replace("$", "$$").replace('"', '\\"')
        + '"'
    )
    timer = systemd.lines(".timer")
    assert (
        "OnCalendar=*-*-* 2:30:00 Europe/Berlin" in timer and "Persistent=false" in timer and "AccuracySec=1s" in timer
    )
    assert "WantedBy=timers.target" in timer
    assert systemd.told.read_text() == f"daemon-reload\nenable --now {stem}.timer\n"
    assert not list((root / "system" / "schedules").glob("*.next"))


def test_with_a_window_to_catch_up_in_a_timer_remembers_and_who_watches_has_one_too(
    root: Path, systemd: Systemd, add
) -> None:
    add(catch_up=3600.0, watch=900.0)
    assert len(systemd.names) == 4 and "Persistent=true" in systemd.lines("night.timer")
    watch = systemd.lines("night-watch.service")
    assert any(line.startswith("ExecStart=/bin/sh ") and line.endswith('/night.watch.sh"') for line in watch)
    assert "OnCalendar=*:0/5" in systemd.lines("night-watch.timer")


def test_removed_nothing_is_left(root: Path, systemd: Systemd, add) -> None:
    add(watch=900.0)
    systemd.told.unlink()
    assert scheduling.remove(root, "night") == []
    stem = units.stem_of(root, "night")
    assert systemd.names == [] and schedules.names(root / "system") == []
    assert systemd.told.read_text() == f"disable --now {stem}.timer {stem}-watch.timer\ndaemon-reload\n"
    with pytest.raises(UsageError):
        scheduling.remove(root, "night")


def test_where_systemd_is_not_running_the_commands_are_said(root: Path, systemd: Systemd, add) -> None:
    systemd.running.rmdir()
    stem = units.stem_of(root, "night")
    assert (
        f"systemd is not running here; where it is: systemctl daemon-reload && systemctl enable --now {stem}.timer"
        in add()
    )
    assert not systemd.told.exists()
    assert scheduling.standing(root)[0][0].fault == "systemd is not running here"


def test_what_systemctl_refuses_is_said_with_the_command(root: Path, systemd: Systemd, add) -> None:
    systemd.says("echo Failed to connect to bus >&2; exit 1")
    assert "`systemctl daemon-reload` failed (Failed to connect to bus): do it by hand" in add()
    assert scheduling.standing(root)[0][0].fault.endswith(".timer is not active")


def test_whether_its_timer_would_begin_it_is_shown(root: Path, systemd: Systemd, add) -> None:
    add()
    assert scheduling.standing(root)[0][0].fault == ""
    (systemd.units / f"{units.stem_of(root, 'night')}.timer").unlink()
    assert ".timer not in " in scheduling.standing(root)[0][0].fault


def test_a_folder_that_cannot_be_written_leaves_nothing_behind(root: Path, systemd: Systemd, add) -> None:
    systemd.units.write_text("in the way")
    with pytest.raises(UsageError):
        add()
    assert schedules.names(root / "system") == []


def test_two_projects_of_one_name_have_units_of_their_own(tmp_path: Path) -> None:
    assert units.stem_of(tmp_path / "a" / "night", "x") != units.stem_of(tmp_path / "b" / "night", "x")


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: apt install systemd)"
)
@pytest.mark.parametrize("at", ["30 2 * * *", "*/7 1-3 13 * fri"])
def test_systemd_has_nothing_against_them(root: Path, systemd: Systemd, at: str) -> None:
    schedule = NIGHT.replace(at=at, watch=900.0, catch_up=60.0)
    texts = units.texts(root, schedule, plain(root), clock.zone("Europe/Berlin"), ENVIRON, 1.8e9)
    systemd.units.mkdir()
    for path, text in texts.items():
        path.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, texts)], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in done.stderr.splitlines() if "orch-" in line] == [] and done.returncode == 0, done.stderr
