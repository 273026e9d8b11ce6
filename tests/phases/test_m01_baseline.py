"""Phase -1: a real run of orch on a project of its own, and runs that go wrong."""

from __future__ import annotations

import os
import subprocess

import pytest

from orchestrator import ConfigurationFault, Resource, TimeoutFault, process
from phases import m01_baseline as phase


@pytest.fixture(autouse=True)
def fewer(monkeypatch):
    monkeypatch.setattr(phase, "STARTS", 1)
    monkeypatch.setattr(phase, "PHASES", 6)


def test_it_measures_orch_itself(make, fits, empty):
    context = make(-1)
    found = fits(phase.baseline(context))["figures"]
    assert found["phases"] == 6
    assert 0 < found["bare_python_ms"] < found["status_ms"]
    assert found["run_ms"] > found["per_phase_ms"] >= 0
    assert found["run_per_bare_python"] == pytest.approx(found["run_ms"] / found["bare_python_ms"], abs=0.1)
    assert empty(context)
    assert not [pid for pid in process.scan() if str(context.project) in process.describe(pid, 1000)]


def test_an_attempt_is_not_spoken_of_to_the_inner_orch(monkeypatch):
    for name in ("ORCH_RUN", "ORCH_PROJECT", "ORCH_JOBS", "TRACEPARENT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environ = phase.environment()
    assert [name for name in environ if name.startswith("ORCH_") or name == "TRACEPARENT"] == []
    assert environ["PATH"] == os.environ["PATH"]
    assert environ["PYTHONPATH"].endswith(":/elsewhere")


def test_an_orch_that_does_not_start_is_a_fault(make, empty, monkeypatch, tmp_path):
    (tmp_path / "orchestrator").mkdir()
    (tmp_path / "orchestrator/__init__.py").write_text("raise SystemExit('it does not start')\n")
    monkeypatch.setattr(phase, "environment", lambda: {**os.environ, "PYTHONPATH": str(tmp_path)})
    with pytest.raises(
        ConfigurationFault, match=r"`orch --version` on a trial project ended with 1: it does not start"
    ):
        phase.baseline(make(-1))
    assert empty(make(-1))


def test_a_run_that_fails_is_a_fault(make, monkeypatch):
    monkeypatch.setattr(phase, "write_chain", lambda project: (project / "phases").mkdir())
    with pytest.raises(ConfigurationFault, match=r"`orch run` on a trial project ended with 2: .*phases/"):
        phase.baseline(make(-1))


def test_a_state_that_cannot_be_written_is_a_want_of_room():
    done = subprocess.CompletedProcess([], 74, "", "error: No space left on device\n")
    fault = phase.fault_of_call("run", done)
    assert isinstance(fault, Resource)
    assert str(fault) == "`orch run` on a trial project ended with 74: error: No space left on device"
    assert str(phase.fault_of_call("run", subprocess.CompletedProcess([], 70, "", ""))).endswith("70: it said nothing")


def test_a_run_that_leaves_phases_out_is_a_fault(make, monkeypatch):
    right = phase.call
    monkeypatch.setattr(
        phase, "call", lambda project, *words: right(project, *words, *(["--to", "3"] if words[0] == "run" else []))
    )
    with pytest.raises(ConfigurationFault, match=r"of 6 phases of a trial run only 4 are completed"):
        phase.baseline(make(-1))


def test_an_orch_that_hangs_is_not_waited_for_for_ever(make, empty, monkeypatch):
    monkeypatch.setattr(phase, "PATIENCE", 0.01)
    with pytest.raises(TimeoutFault, match=r"`orch run` on a trial project did not end within 0\.01 s"):
        phase.call(make(-1).project, "run")
