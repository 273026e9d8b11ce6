"""Phase -7: clocks that go well and clocks that do not; who a process is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator import ConfigurationFault, process
from phases import m07_clock

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def shorter(monkeypatch):
    monkeypatch.setattr(m07_clock, "MEASURED_SECONDS", 0.1)


def test_it_tells_this_clock(make, fits):
    found = fits(m07_clock.clock(make(-7)))["figures"]
    me = process.myself()
    assert (found["boot_id"], found["start_ticks"], found["host"]) == (me.boot, me.ticks, me.host)
    assert abs(found["wall_drift_ppm"]) < 100_000
    assert abs(found["monotonic_drift_ppm"]) < 10_000 + found["drift_uncertainty_ppm"]
    assert found["measured_seconds"] >= m07_clock.MEASURED_SECONDS
    assert found["synchronized"] in (True, False, None)
    assert found["zone"] or found["zone_shown"]


def test_a_wall_clock_that_runs_away_is_told(make, monkeypatch):
    right, began = time.time, time.time()
    monkeypatch.setattr(m07_clock.time, "time", lambda: began + (right() - began) * 1.5)
    result = m07_clock.clock(make(-7))
    assert result["figures"]["wall_drift_ppm"] == pytest.approx(500_000, rel=0.2)
    assert any("the wall clock runs +" in warning for warning in result["warnings"])


def test_a_clock_of_deadlines_that_goes_back_is_refused():
    there, back = m07_clock.Reading(0, 5.0, 5.0, 0), m07_clock.Reading(0, 4.75, 5.0, 0)
    m07_clock.refuse_backwards([back, there, there])
    with pytest.raises(ConfigurationFault, match=r"went back by 0\.250000 s.*clocksource"):
        m07_clock.refuse_backwards([there, back])


def test_an_identity_that_changes_is_refused(make, monkeypatch):
    boots = iter(f"{number:08d}-0000-0000-0000-000000000000" for number in range(100))
    monkeypatch.setattr(process, "boot", lambda: next(boots))
    with pytest.raises(ConfigurationFault, match="is not the same each time"):
        m07_clock.clock(make(-7))


def test_another_identity_seen_from_elsewhere_is_refused(make, monkeypatch):
    right, here = process.boot, os.getpid()
    monkeypatch.setattr(process, "boot", lambda: right() if os.getpid() == here else "another")
    with pytest.raises(ConfigurationFault, match=r"from a child .'another'"):
        m07_clock.clock(make(-7))


def test_a_boot_without_an_id_is_a_warning(make, monkeypatch):
    monkeypatch.setattr(process, "boot", lambda: "")
    result = m07_clock.clock(make(-7))
    assert "the boot is not known" in result["verdict"]
    assert any("the boot id cannot be read" in warning for warning in result["warnings"])


def test_what_is_no_boot_id_is_refused(make, monkeypatch):
    monkeypatch.setattr(process, "boot", lambda: "none")
    with pytest.raises(ConfigurationFault, match="'none', which is no id of a boot"):
        m07_clock.clock(make(-7))


def test_files_from_the_future_are_told(make):
    file = make(-7).path("orch.toml")
    file.touch()
    assert not any("future" in warning for warning in m07_clock.clock(make(-7))["warnings"])
    os.utime(file, (time.time() + 90_000,) * 2)
    assert any("from the future" in warning for warning in m07_clock.clock(make(-7))["warnings"])


def test_a_machine_without_zones_is_told(make, monkeypatch):
    def none(name):
        raise m07_clock.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(m07_clock, "ZoneInfo", none)
    assert any("tzdata" in warning for warning in m07_clock.clock(make(-7))["warnings"])


def test_a_time_namespace_is_told(make):
    code = f"from orchestrator import Context; from phases import m07_clock; print(m07_clock.clock(Context(project={str(make(-7).project)!r})))"
    done = subprocess.run(
        ["unshare", "--time", "--boottime", "5000", "--monotonic", "5000", "--fork", sys.executable, "-c", code],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    if "unshare" in done.stderr:
        pytest.skip(f"no time namespaces here: {done.stderr.strip()}")
    assert "'namespace_offset_seconds': 5000.0" in done.stdout, done.stderr
    assert "this is a time namespace" in done.stdout
