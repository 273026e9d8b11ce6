"""phases/_drill.py: promises that are kept and not, commands that end otherwise or not at all, and who is left."""

from __future__ import annotations

import os
import time

import pytest

from orchestrator import ConfigurationFault, Resource, process
from phases import _drill
from phases._drill import Broken, Project, drill, identities, last_words, pairs, toml, until
from tests.phases.drilling import broken, sleeper


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    yield made
    made.close()


def verdict(figures):
    return f"all is well after {figures['looks']} look"


def test_what_is_kept_gives_the_verdict(make, fits, empty):
    context = make(3)

    def work(project, trial):
        trial.step("look")
        trial.figures["looks"] = 1
        trial.expect("the sun rises", True, "it did")

    result = drill(context, work, verdict, steps=1)
    assert result["verdict"] == "all is well after 1 look"
    assert [check["kept"] for check in result["checks"]] == [True, True]
    assert result["cut_short"] is False
    assert context.told[0]["text"] == "look"
    assert (context.told[-1]["done"], context.told[-1]["total"]) == (1, 1)
    assert empty(context)


def test_what_is_not_kept_is_the_verdict_and_the_drill_goes_on(make, empty, capsys):
    def work(project, trial):
        trial.expect("the sun rises", False, "it\ndid not", _drill.LOST)
        trial.expect("the moon rises", True, "it did", _drill.LOST)

    context = make(3)
    result = drill(context, work, verdict, steps=1)
    assert result["verdict"] == "1 of 3 promises NOT kept: the sun rises: it did not"
    assert [check["grave"] for check in result["checks"]] == ["lost", "", ""]
    assert "NOT KEPT: the sun rises" in capsys.readouterr().out
    assert empty(context)


def test_what_cannot_go_on_is_cut_short(make):
    def work(project, trial):
        raise Broken("it begins", "it did not", _drill.STUCK)

    result = drill(make(3), work, verdict, steps=1)
    assert broken(result) == {"it begins": "stuck"}
    assert result["cut_short"] is True


def test_a_ground_that_is_unfit_is_raised(make, empty):
    def work(project, trial):
        raise OSError(5, "Input/output error", str(project.root))

    with pytest.raises(ConfigurationFault, match="Input/output error"):
        drill(make(3), work, verdict, steps=1)
    assert empty(make(3))


def test_whoever_is_left_is_ended_and_named(make, monkeypatch):
    started = []

    def work(project, trial):
        started.append(sleeper(project.root))

    result = drill(make(3), work, verdict, steps=1)
    assert broken(result) == {"at the end nothing is left running": "orphaned"}
    assert str(started[0].pid) in result["checks"][0]["found"]
    assert process.entry_of(started[0].pid) is None
    started[0].returncode = -9  # it was reaped by the drill


def test_a_command_that_ends_otherwise_is_broken(project):
    project.commands({"number": 1, "name": "one", "needs": [], "run": ["true"], "color": "red"})
    with pytest.raises(Broken, match=r"`orch run` ends with 0: it ended with 2: .*color"):
        project.orch("run")
    assert project.orch("run", codes=(0, 2)).code == 2


def test_a_command_that_does_not_end_is_stuck(project, monkeypatch):
    monkeypatch.setattr(_drill, "PATIENCE", 0.05)
    with pytest.raises(Broken) as caught:
        project.orch("status")
    assert caught.value.grave == "stuck"


def test_a_full_disk_is_no_fault_of_what_is_tried():
    with pytest.raises(Resource, match="could not write its state on a trial project: No space left"):
        _drill.as_expected("`orch run`", _drill.Ended(74, "", "No space left\n", 1.0), (0,))


def test_events_of_a_run(project):
    project.commands({"number": 1, "name": "one", "needs": [], "run": 'echo "$ORCH_PROJECT" > told'})
    run = project.start("run", "--json")
    completed = run.await_event("PhaseCompleted", 1)
    assert run.wait().code == 0
    (intended,) = run.events("AttemptIntended", 1)
    assert list(pairs([intended], run.events("PhaseCompleted"))) == [(intended, completed)]
    assert 0 <= _drill.at(completed) - _drill.at(intended) < 30
    assert abs(time.time() - _drill.at(completed)) < 60
    assert project.lines("told") == [str(project.root)]
    assert project.phases()[1]["status"] == "completed"


def test_what_a_run_did_not_do_before_its_end_it_will_not_do(project):
    project.commands({"number": 1, "name": "one", "needs": [], "run": ["true"]})
    run = project.start("run", "--json")
    began = time.monotonic()
    with pytest.raises(Broken, match=r"says PhaseFailed of phase 1: .* ended with 0 before"):
        run.await_event("PhaseFailed", 1)
    assert time.monotonic() - began < _drill.PATIENCE


def test_waiting_has_an_end(monkeypatch):
    monkeypatch.setattr(_drill, "PATIENCE", 0.02)
    with pytest.raises(Broken, match=r"the sun rises: not within 0\.02 s: it is night"):
        until(lambda: 0, "the sun rises", lambda: "it is night")


def test_a_process_is_known_by_its_folder_whatever_it_hides(project):
    (project.root / "den").mkdir()
    one = sleeper(project.root / "den")
    assert project.processes("den") == project.processes() == [one.pid]
    assert _drill.alive(identities([one.pid])) == [one.pid]
    whos = identities([one.pid])
    one.kill()
    one.wait()
    assert (project.processes(), _drill.alive(whos)) == ([], [])


def test_an_attempt_is_not_spoken_of_to_the_inner_orch(monkeypatch):
    for name in ("ORCH_RUN", "ORCH_JOBS", "TRACEPARENT"):
        monkeypatch.setenv(name, "x")
    environ = _drill.environment()
    assert [name for name in environ if name.startswith("ORCH_") or name == "TRACEPARENT"] == []
    assert environ["PATH"] == os.environ["PATH"]


def test_toml_and_last_words():
    assert toml({"A": {"tries": 1, "delay": "2s"}}) == '{ A = { tries = 1, delay = "2s" } }'
    assert last_words("") == "it said nothing"
    assert last_words("1\n2\n3\n4\n") == "2 | 3 | 4"
    assert len(_drill.shortened("x" * 500)) == 170
