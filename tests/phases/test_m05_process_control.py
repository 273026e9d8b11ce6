"""Phase -5: processes that can be held and ended, and kernels that lack one of the means."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from pathlib import Path

import pytest

from orchestrator import ConfigurationFault, process
from phases import m05_process_control as control


@pytest.fixture(autouse=True)
def nothing_stays():
    """Neither a process nor a control group is left by any of these."""
    before = set(process.descendants(os.getpid()))
    yield
    left = set(process.descendants(os.getpid())) - before
    assert [process.describe(pid) for pid in left] == []


@pytest.fixture(autouse=True)
def fewer(monkeypatch):
    monkeypatch.setattr(control, "FORKS", 8)
    monkeypatch.setattr(control, "SPAWNS", 2)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(control, "PATIENCE", 0.5)


def test_it_tells_this_machine(make, fits):
    context = make(-5)
    found = fits(control.process_control(context))["figures"]
    assert found["adopts_orphans"] is found["sees_own_sessions"] is True
    assert found["open_files_limit_holds"] is found["memory_limit_holds"] is True
    assert 0 < found["fork_median_ms"] < found["spawn_python_p95_ms"]
    assert (context.told[-1]["done"], context.told[-1]["total"]) == (len(control.TRIALS), len(control.TRIALS))


def test_this_process_stays_as_it_is(make):
    control.process_control(make(-5))
    adopts = ctypes.c_int(-1)
    assert ctypes.CDLL(None).prctl(37, ctypes.byref(adopts), 0, 0, 0) == 0
    assert adopts.value == 0


def test_no_control_group_stays(make):
    folders = [path for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if os.path.isdir(path)]
    control.process_control(make(-5))
    assert [path for folder in folders for path in Path(folder).rglob("orch-*-ground")] == []


def test_without_control_groups_it_goes_on(make, monkeypatch):
    monkeypatch.setenv("ORCH_NO_CGROUP", "1")
    result = control.process_control(make(-5))
    assert result["figures"]["control_groups"] is False
    assert "without control groups" in result["verdict"]
    assert result["warnings"] == [] or "control group" not in " ".join(result["warnings"])


def test_a_kernel_without_adoption_is_refused(make, monkeypatch):
    monkeypatch.setattr(process, "become_subreaper", lambda: None)
    with pytest.raises(ConfigurationFault, match=r"PR_SET_CHILD_SUBREAPER.*did not become ours"):
        control.process_control(make(-5))


def test_a_kernel_that_refuses_adoption_is_refused(make, monkeypatch):
    def refuse():
        raise OSError(22, "prctl was refused")

    monkeypatch.setattr(process, "become_subreaper", refuse)
    with pytest.raises(ConfigurationFault, match="its process died"):
        control.process_control(make(-5))


def test_children_that_outlive_their_parent_are_refused(make, monkeypatch, impatient):
    monkeypatch.setattr(control.process, "die_with_parent", lambda parent: None)
    with pytest.raises(ConfigurationFault, match=r"PR_SET_PDEATHSIG.*still there 0\.5 s after"):
        control.process_control(make(-5))


def test_signals_that_reach_the_wrong_one_are_refused(make, monkeypatch):
    def by_pid_alone(who, *signals):
        for number in signals:
            os.kill(who.pid, number)
        return True

    monkeypatch.setattr(process, "send", by_pid_alone)
    with pytest.raises(ConfigurationFault, match=r"pidfd_open.*had this pid before was delivered"):
        control.process_control(make(-5))


def test_signals_that_reach_nobody_are_refused(make, monkeypatch):
    monkeypatch.setattr(process, "send", lambda who, *signals: False)
    with pytest.raises(ConfigurationFault, match="could not be sent"):
        control.process_control(make(-5))


def test_a_process_that_cannot_be_killed_is_refused(make, monkeypatch, impatient):
    right = process.send
    monkeypatch.setattr(process, "send", lambda who, *signals: signals == (signal.SIGKILL,) or right(who, *signals))
    monkeypatch.setattr(control, "TRIALS", (control.insists,))
    with pytest.raises(ConfigurationFault, match=r"ends by SIGKILL: process .* is still there"):
        control.process_control(make(-5))


def test_limits_without_effect_are_told(make, monkeypatch):
    monkeypatch.setattr(process, "set_limits", lambda limits: None)
    result = control.process_control(make(-5))
    assert result["figures"]["memory_limit_holds"] is result["figures"]["open_files_limit_holds"] is False
    assert [warning for warning in result["warnings"] if "has no effect here" in warning] == [
        f"a limit of {name} has no effect here: `limits` of phases cannot be relied on"
        for name in ("memory", "open_files")
    ]


def test_a_keeper_that_dies_is_a_fault_and_takes_all_with_it(make, monkeypatch):
    def die():
        """something that kills"""
        control.AT_MOST_SECONDS = 1
        control.begin(os.setsid)
        os._exit(1)

    monkeypatch.setattr(control, "TRIALS", (die,))
    with pytest.raises(ConfigurationFault, match="its process died: something that kills"):
        control.process_control(make(-5))


def test_slow_ends_are_told():
    quick = {"kill_ms": 1.0, "dies_with_parent_ms": 1.0, "memory_limit_holds": True, "open_files_limit_holds": True}
    assert list(control.warnings(quick)) == []
    (warning,) = control.warnings({**quick, "kill_ms": 800.0})
    assert "gone only after 800 ms" in warning


def test_what_a_trial_says_is_json(make):
    assert json.dumps(control.ended_with(lambda: False)) == "1"
    with pytest.raises(RuntimeError, match="a limit could not be set"):
        control.ended_with(lambda: bool(1 / 0))
