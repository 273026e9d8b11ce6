"""Phase 0: fit, fit with warnings, not fit; from findings that are given to it."""

from __future__ import annotations

import copy

import pytest

from orchestrator import ConfigurationFault, ValidationFault
from phases import p00_gate as phase

GB = 10**9
FIGURES = {
    -8: {"memory_free_bytes": 8 * GB, "open_files_limit": 1024, "processes_limit": None, "processes_limit_group": None},
    -7: {"wall_drift_ppm": 3.0, "drift_uncertainty_ppm": 1.0},
    -6: {"disk_free_bytes": 50 * GB, "inodes_free": 10**6, "mount": "/"},
    -5: {"kill_ms": 1.0},
    -4: {"jobs": 4, "logs_of_one_phase_bytes": 2 * 10**8, "beat_interval_seconds": 2.0, "kill_grace_seconds": 5.0},
    -3: {"commit_p95_ms": 1.0},
    -2: {},
    -1: {"nothing_to_do_ms": 500.0},
}


def results(number: int = 0, **changes):
    found = {
        n: {"verdict": "well", "figures": dict(figures), "warnings": []}
        for n, figures in copy.deepcopy(FIGURES).items()
    }
    if number:
        found[number]["figures"].update(changes)
    return found


def test_all_is_well(make, fits):
    result = fits(phase.gate(make(0, results())))
    assert result["verdict"] == "fit for unattended runs, no warnings"
    assert result["figures"] == {"phases_weighed": 8, "warnings": 0}


def test_warnings_are_counted_and_shown(make, fits, capsys):
    found = results()
    found[-8]["warnings"] = ["one thing", "another"]
    assert phase.gate(make(0, found))["verdict"] == "fit for unattended runs, 2 warnings"
    capsys.readouterr()
    found[-8]["warnings"] = ["one thing"]
    result = fits(phase.gate(make(0, found)))
    assert result["verdict"] == "fit for unattended runs, 1 warning"
    assert result["warnings"] == ["phase -8: one thing"]
    assert capsys.readouterr().out == "phase -8: one thing\n"


@pytest.mark.parametrize(
    ("number", "changes", "told"),
    [
        (-8, {"memory_free_bytes": 5 * 10**7}, "50 MB of memory are free, 100 MB are needed"),
        (-8, {"open_files_limit": 100}, "100 files may be open, 4 jobs need 104"),
        (-8, {"processes_limit": 40}, r"40 processes are allowed \(processes_limit\), 4 jobs need 48"),
        (-8, {"processes_limit_group": 40}, r"40 processes are allowed \(processes_limit_group\)"),
        (-7, {"wall_drift_ppm": -90_000.0}, r"the wall clock is wrong by -9\.0%"),
        (-6, {"disk_free_bytes": 10**8}, "100 MB are free on /, 200 MB are needed"),
        (-6, {"inodes_free": 3}, "3 more files can be made on /"),
        (-3, {"commit_p95_ms": 2500.0}, "a decision takes 2500 ms to be safe"),
        (-4, {"jobs": 1000}, "1000 jobs need 10064"),
    ],
)
def test_what_is_unsafe_closes_the_gate(make, number, changes, told):
    with pytest.raises(ConfigurationFault, match=rf"not fit for unattended runs: \(1\) {told}|\(1\) .*{told}"):
        phase.gate(make(0, results(number, **changes)))


def test_all_that_is_unsafe_is_told_at_once(make):
    found = results(-6, inodes_free=3, disk_free_bytes=1)
    with pytest.raises(ConfigurationFault, match=r"\(1\) .*; \(2\) .*`orch run --new` looks again"):
        phase.gate(make(0, found))


def test_a_file_system_that_does_not_count_its_files_is_no_fault(make):
    assert phase.gate(make(0, results(-6, inodes_free=None)))["warnings"] == []


@pytest.mark.parametrize(
    ("number", "changes", "told"),
    [
        (-4, {"logs_of_one_phase_bytes": 10 * GB}, "the logs of one phase may grow to 10000 MB"),
        (-4, {"jobs": 90}, "90 attempts at once share 8000 MB"),
        (-5, {"kill_ms": 6000.0}, "longer than kill_grace"),
        (-1, {"nothing_to_do_ms": 20_000.0}, "do not start it every minute"),
    ],
)
def test_what_is_unwise_together_is_a_warning(make, number, changes, told):
    (warning,) = phase.gate(make(0, results(number, **changes)))["warnings"]
    assert warning.startswith("together: ")
    assert told in warning


@pytest.mark.parametrize("found", [None, {}, {"verdict": "well"}, {"verdict": "", "figures": {}}, ["well"]])
def test_a_phase_that_left_no_verdict_is_named(make, found):
    with pytest.raises(ValidationFault, match=r"phase -6 left no verdict.*`orch run --only -6 --force`"):
        phase.gate(make(0, {**results(), -6: found}))
