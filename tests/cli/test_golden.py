"""What each command says, word for word: numbers, times and places masked. ORCH_TEST_GOLDEN=write takes what it says now."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from tests.driving import FAST, WRITES_GOLDEN, Ended, Project, masked

GOLDEN = Path(__file__).parent / "golden"
pytestmark = pytest.mark.timeout(180)  # many starts of orch in one test, on a machine that may be busy
COMMANDS = ("run", "status", "recover", "plan", "logs", "cancel", "retry", "init", "config show", "config check")


def golden(name: str, project: Project, ended: Ended) -> None:
    said = f"exit code {ended.code}\n" + masked(ended.out, project.root)
    said += f"--- standard error\n{masked(ended.err, project.root)}" if ended.err else ""
    path = GOLDEN / f"{name}.txt"
    if WRITES_GOLDEN:
        path.parent.mkdir(exist_ok=True)
        path.write_text(said)
    assert said == path.read_text()


def pipeline(project: Project) -> None:
    """One of each: done with a verdict, failed with output, retried, blocked."""
    project.commands(
        {"number": -8, "name": "host", "title": "Look at the host", "run": "echo hello", "needs": []},
        {"number": 1, "name": "fails", "run": "echo one; echo two >&2; exit 3", "needs": [-8]},
        {"number": 2, "name": "blocked", "run": "true", "needs": [1]},
        {"number": 4, "name": "later", "run": "exit 75", "needs": [-8], "retries": 1},
        {"number": 5, "name": "missing", "run": ["/no/such/program"], "needs": [-8]},
    )
    project.file(
        "phases/p3.py",
        "from orchestrator import phase\n\n@phase(3, needs=[-8])\ndef python(ctx):\n"
        '    """Count something."""\n    return {"verdict": "3 things", "things": 3}\n',
    )


def test_a_run_and_what_is_said_of_it_afterwards(project: Project) -> None:
    pipeline(project)
    golden("plan", project, project.orch("plan"))
    golden("run-dry", project, project.orch("run", "--from", "1", "--with-needs", "--dry-run"))
    assert not (project.system / "state.json").exists(), "a dry run wrote a state"
    golden("run", project, project.orch("run", "--no-wait", "--jobs", "1", env={"ORCH_JOBS": "3"}))
    golden("status", project, project.orch("status"))
    golden("logs", project, project.orch("logs", "1"))
    golden("logs-negative", project, project.orch("logs", "-8"))
    golden("logs-none", project, project.orch("logs", "2"))
    golden("logs-unknown", project, project.orch("logs", "9"))
    golden("recover", project, project.orch("recover"))
    golden("cancel-nothing", project, project.orch("cancel"))
    golden("retry", project, project.orch("retry", "4"))
    golden("retry-unknown", project, project.orch("retry", "-7"))
    golden("retry-done", project, project.orch("retry", "-8"))


def test_when_there_is_nothing_to_do(project: Project) -> None:
    project.commands({"number": 1, "name": "one", "run": "true", "needs": []})
    assert project.orch("run", "--quiet") == (0, "", "")
    golden("run-nothing", project, project.orch("run"))
    golden("plan-done", project, project.orch("plan"))


def test_the_json_of_every_command_that_shows_something(project: Project) -> None:
    pipeline(project)
    run = project.orch("run", "--no-wait", "--json")
    assert run.code == 3 or run.code == 1
    events = [json.loads(line) for line in run.out.splitlines()]
    assert events[0]["event"] == "RunStarted"
    assert events[-1]["event"] == "RunEnded"
    assert {"PhaseCompleted", "PhaseFailed", "RetryScheduled"} <= {event["event"] for event in events}
    assert all(event["at"].endswith("Z") for event in events)
    plan = json.loads(project.orch("plan", "--json").out)
    assert [phase["number"] for phase in plan["phases"]] == [-8, 1, 2, 3, 4, 5]
    assert plan["phases"][2]["needs"] == [1]
    assert set(json.loads(project.orch("recover", "--json").out)) >= {"recovered", "goes_on", "ended", "notes"}
    rows = json.loads(project.orch("config", "show", "--json").out)
    assert {"name", "value", "origin", "meaning"} <= set(rows[0])
    assert json.loads(project.orch("run", "--dry-run", "--json", "--force").out)


def test_numbers_below_zero_work_wherever_a_number_does(project: Project) -> None:
    project.commands(
        {"number": -8, "name": "a", "run": "echo -8 >> ran", "needs": []},
        {"number": -1, "name": "b", "run": "echo -1 >> ran; echo from b", "needs": []},
        {"number": 3, "name": "c", "run": "echo 3 >> ran", "needs": []},
        {"number": 4, "name": "d", "run": "echo 4 >> ran", "needs": []},
    )
    ran = lambda *words: (project.orch("run", *words).code, sorted(project.lines("ran"), key=int))  # noqa: E731
    nothing = project.orch("run", "--only", " , ")
    assert (nothing.code, nothing.err.splitlines()[0]) == (2, "orch: --only: no number is given"), nothing
    assert ran("--only", "3,-1") == (0, ["-1", "3"])
    (project.root / "ran").unlink()
    assert ran("--only", "-1,-8", "--force") == (0, ["-8", "-1"])
    (project.root / "ran").unlink()
    assert ran("--from", "-8", "--to", "-1", "--force") == (0, ["-8", "-1"])
    (project.root / "ran").unlink()
    assert ran("--from=-1", "--to=3", "--force") == (0, ["-1", "3"])
    assert project.orch("logs", "-1").out == "from b\n"
    assert project.orch("logs", "--", "-1").out == "from b\n"
    assert project.orch("logs", "-1", "--attempt", "1").out == "from b\n"
    assert project.orch("retry", "-8").code == 1
    assert project.orch("cancel", "-8").code == 1


def test_wrong_usage_is_2_and_names_the_way_out(project: Project) -> None:
    pipeline(project)
    for name, words in {
        "only-words": ["run", "--only", "one"],
        "only-unknown": ["run", "--only", "7"],
        "only-and-from": ["run", "--only", "1", "--from", "1"],
        "range-empty": ["run", "--from", "70"],
        "needs-outside": ["run", "--only", "2"],
        "no-such-project": ["run", "--project", "/no/such/folder"],
        "jobs-zero": ["run", "--jobs", "0"],
    }.items():
        ended = project.orch(*words)
        assert ended.code == 2, (words, ended)
        golden(f"usage-{name}", project, ended)
    for words in (["run", "--jbos", "3"], ["stat"], ["logs"], ["logs", "one"], ["run", "extra"], ["config", "shwo"]):
        ended = project.orch(*words)
        assert ended.code == 2, (words, ended)
        assert ended.out == ""
        assert "Traceback" not in ended.err
    assert "--jobs" in project.orch("run", "--jbos", "3").err
    assert project.status()["run"]["id"] is None


def test_all_faults_of_all_files_in_one_go_with_the_nearest_name(project: Project) -> None:
    project.file(
        "phases/a.toml",
        '[[phase]]\nnumber = 1\nname = "one"\nrun = "true"\ntimout = "5m"\nneeds = []\n\n'
        '[[phase]]\nnumber = 1\nname = "twin"\nrun = "true"\nneeds = [40]\n',
    )
    project.file("phases/b.py", "from orchestrator import phase\n\n@phase(3, neds=[1])\ndef three(ctx):\n    pass\n")
    project.file("phases/c.py", "def broken(:\n")
    golden("faults", project, project.orch("run"))
    project.commands(
        {"number": 1, "name": "one", "run": "true", "needs": [2]}, {"number": 2, "name": "two", "run": "true", "needs": [1]},
        name="a.toml",
    )  # fmt: skip
    (project.root / "phases/b.py").unlink()
    (project.root / "phases/c.py").unlink()
    golden("circle", project, project.orch("run"))


def test_settings_that_are_wrong_are_all_named(project: Project) -> None:
    project.commands({"number": 1, "name": "one", "run": "true", "needs": []})
    project.settings('jbos = 3\ntimeout = "soon"\n[retry.FAILED]\ntries = -1\n')
    for words in (["config", "check"], ["run"], ["plan"]):
        golden("settings-wrong", project, project.orch(*words))
    project.settings('jobs = 3\ntimeout = "10m"\n')
    golden("config-check", project, project.orch("config", "check"))
    shown = project.orch("config", "show", env={"ORCH_TIMEOUT": "5m"}).out.splitlines()
    assert any(line.split()[:3] == ["timeout", "5m", "ORCH_TIMEOUT"] for line in shown)
    assert any(line.split()[:3] == ["jobs", "3", "orch.toml:1"] for line in shown)


def test_a_phases_folder_that_others_may_write_is_refused(project: Project) -> None:
    project.commands({"number": 1, "name": "one", "run": "true", "needs": []})
    (project.root / "phases").chmod(0o777)
    ended = project.orch("run")
    assert ended.code == 2
    assert "trust" in ended.err
    assert project.orch("run", env={"ORCH_TRUST": "true"}).code == 0


def test_init_makes_what_runs_at_once(project: Project) -> None:
    place = project.scratch / "nightly"
    made = project.orch("init", str(place))
    assert made.code == 0, made
    assert "orch run" in made.out
    run = project.orch("run", cwd=place)
    assert run.code == 0, run
    assert project.orch("status", cwd=place).code == 0
    again = project.orch("init", str(place))
    assert again.code == 2
    assert "exists already" in again.err


def test_the_version_is_that_of_the_package(project: Project) -> None:
    import orchestrator

    assert project.orch("--version") == (0, f"orch {orchestrator.__version__}\n", "")
    about = tomllib.loads((Path(orchestrator.__file__).parents[1] / "pyproject.toml").read_text())
    assert about["project"]["name"] == "orch"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(project: Project, command: str) -> None:
    ended = project.orch(*command.split(), "--help", env={"COLUMNS": "100"})
    assert ended.code == 0
    assert ended.err == ""
    assert f"Usage: orch {command}" in ended.out
    assert f"Example: orch {command}" in ended.out
    assert command.split()[0] in project.orch("--help").out


def test_a_log_that_was_rotated_is_shown_from_what_is_left(project: Project) -> None:
    project.settings(FAST.replace("[retry", "[logs]\nphase_bytes = 20000\n[retry"))
    project.commands({"number": 1, "name": "loud", "run": "seq 1 30000", "needs": []})
    assert project.orch("run").code == 0
    kept = sum(path.stat().st_size for path in (project.system / "logs/phases/1").iterdir())
    assert kept <= 2 * 20000 + 1000
    lines = project.orch("logs", "1").out.splitlines()
    assert lines[-1] == "30000"
    numbers = [
        int(line) for line in lines[1:] if line.isdigit()
    ]  # the first may be cut, and others say that some are missing
    assert numbers == sorted(numbers)
    assert len(numbers) > 1000


def test_a_log_is_followed_to_its_end(project: Project) -> None:
    project.commands(
        {"number": 1, "name": "slow", "run": "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done; echo last", "needs": []}
    )
    run = project.start("run")
    run.until(lambda: (project.system / "logs/phases/1/1.log").exists())
    ended = project.orch("logs", "1", "-f")
    assert ended.code == 0, ended
    assert ended.out == "1\n2\n3\n4\n5\nlast\n"
    assert run.wait().code == 0
