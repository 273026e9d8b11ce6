"""orch status works when nothing else does, imports no phase code, and writes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.showing import _phases
from orchestrator.core import events as ev
from orchestrator.core.gate import Gate
from orchestrator.look import Look
from tests.core.given import Case, completed, intended
from tests.driving import MORTAL, Project, wait_for

MARKER = "import pathlib\npathlib.Path('/{root}/imported').touch()\nfrom orchestrator import phase\n\n@phase(2)\ndef two(ctx):\n    pass\n"


def listing(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything in the project, and when it was changed: also what was only opened for writing, or put in its place."""
    found = {}
    for path in [root, *root.rglob("*")]:
        about = path.lstat()
        found[str(path)] = (about.st_ino, about.st_mode, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return found


def finished(project: Project) -> None:
    project.commands({"number": 1, "name": "one", "run": "true", "needs": []})
    project.file("phases/p2.py", MARKER.format(root=project.root))
    assert project.orch("run").code == 0
    (project.root / "imported").unlink()
    wait_for(lambda: not any((project.system / "agents").iterdir()), why="its agent leaves a moment after it")


READERS = (
    ["status"],
    ["status", "--json"],
    ["status", "--all"],
    ["logs", "1"],
    ["config", "show"],
    ["config", "check"],
)


def test_readers_write_nothing_and_import_nothing(project: Project) -> None:
    finished(project)
    before = listing(project.root)
    for words in READERS:
        assert project.orch(*words).code == 0
        assert listing(project.root) == before, words


def test_without_a_cache_of_definitions_it_imports_nothing_either(project: Project) -> None:
    finished(project)
    for path in (project.system / "cache").rglob("*.json"):
        path.unlink()
    project.file("phases/p2.py", MARKER.format(root=project.root) + "# changed\n")
    before = listing(project.root)
    ended = project.orch("status")
    assert ended.code == 0
    assert "completed" in ended.out
    assert not (project.root / "imported").exists()
    assert listing(project.root) == before


def test_a_syntax_error_is_said_and_the_rest_is_shown(project: Project) -> None:
    finished(project)
    project.file("phases/p2.py", "from orchestrator import phase\n\n@phase(2)\ndef two(ctx:\n    pass\n")
    ended = project.orch("status")
    assert ended.code == 0, ended
    assert "1  one  completed" in ended.out
    assert "phases/p2.py:4" in ended.text, "nobody says that a phase file has a syntax error"
    document = project.status()
    assert [phase["status"] for phase in document["phases"]] == ["completed", "completed"]
    assert any("phases/p2.py:4" in str(fault) for fault in [*document["notices"], *document.get("faults", [])])
    run = project.orch("run")
    assert run.code == 2
    assert "phases/p2.py:4" in run.err


def test_with_no_system_at_all(project: Project) -> None:
    project.commands({"number": 1, "name": "one", "run": "true"})
    before = listing(project.root)
    ended = project.orch("status")
    assert (ended.code, ended.out, ended.err) == (0, "no run yet: `orch run` begins one\n", "")
    document = project.status()
    assert document["run"]["state"] == "none"
    assert document["run"]["id"] is None
    assert document["progress"]["percent"] == 0
    assert listing(project.root) == before


def test_with_a_system_that_may_not_be_written(project: Project) -> None:
    finished(project)
    usual = project.orch("status").out
    folders = [project.system, *(path for path in project.system.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o500)
    try:
        with_modes = project.orch("status", before=MORTAL)
        assert (with_modes.code, with_modes.out, with_modes.err) == (0, usual, "")
        assert project.orch("logs", "1", before=MORTAL).code == 0
        for words in (["run", "--new"], ["recover"], ["cancel"], ["retry", "1"]):
            ended = project.orch(*words, before=MORTAL)
            assert ended.code == 74, (words, ended)
            assert "the state could not be written" in ended.err
            assert "Permission denied" in ended.err
            assert "Traceback" not in ended.err
    finally:
        for path in folders:
            path.chmod(0o700)
    assert project.orch("run", "--new").code == 0


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_who_may_not_read_it_is_told_so(project: Project) -> None:
    finished(project)
    for path in (project.system / "state.json", *(project.system / "journal").iterdir()):
        path.chmod(0)
    ended = project.orch("status", before=MORTAL)
    assert ended.code not in (0, 70), ended
    assert "Permission denied" in ended.err
    assert "Traceback" not in ended.err


def test_from_any_folder_inside_the_project(project: Project) -> None:
    finished(project)
    usual = project.orch("status").out
    deep = project.root / "data" / "deep"
    deep.mkdir(parents=True)
    for where in (deep, project.root / "phases", project.system / "logs"):
        assert project.orch("status", cwd=where).out == usual
    assert project.orch("status", "--project", str(project.root), cwd=Path("/")).out == usual
    assert project.orch("status", cwd=Path("/"), env={"ORCH_PROJECT": str(project.root)}).out == usual
    nowhere = project.orch("status", cwd=Path("/"))
    assert nowhere.code == 2
    assert nowhere.err.startswith("orch: no project here: / does not have phases/\n")


def test_the_document_of_a_live_run(project: Project) -> None:
    project.commands(
        {"number": -8, "name": "host", "run": "true", "needs": []},
        {"number": 1, "name": "long", "run": "touch began; until test -e go; do sleep 0.02; done"},
        {"number": 2, "name": "after", "run": "exit 1"},
    )
    run = project.start("run")
    run.until(lambda: project.statuses().get(1) == "in_progress" and (project.root / "began").exists())
    document = project.status()
    about = document["run"]
    assert (about["state"], about["pid"], about["alive"], about["hung"]) == ("running", run.pid, True, False)
    assert about["heartbeat_age_seconds"] < 60
    assert about["started_at"].endswith("Z")
    (agent,) = document["agents"]
    assert agent["alive"]
    assert agent["attempts"] == ["1.1"]
    assert [agent["pid"]] == project.agents()
    assert document["progress"]["done"] == 1
    assert document["progress"]["total"] == 3
    assert document["progress"]["percent"] == 33.3
    assert "eta_seconds" in document["progress"]
    assert [phase["number"] for phase in document["phases"]] == [-8, 1, 2]
    names = {
        "number",
        "name",
        "status",
        "attempts",
        "started_at",
        "finished_at",
        "duration_seconds",
        "retry_at",
        "error",
    }
    assert all(names <= set(phase) for phase in document["phases"])
    project.file("go", "")
    assert run.wait().code == 1
    document = project.status()
    assert (document["run"]["state"], document["run"]["alive"]) == ("finished", False)
    assert set(document["phases"][2]["error"]) >= {"code", "message", "remedy"}
    assert document["phases"][2]["error"]["code"] == "FAILED"


@pytest.mark.parametrize("garbage", ["", "{", "null", "[]", '{"version": 1}', "\0" * 400], ids=str)
def test_garbage_in_state_json_is_mended_from_the_journal(project: Project, garbage: str) -> None:
    finished(project)
    (project.system / "state.json").write_text(garbage)
    before = listing(project.root)
    ended = project.orch("status")
    assert ended.code == 0, ended
    assert "2 of 2 done" in ended.out
    assert "state.json" in ended.err
    assert listing(project.root) == before
    assert project.orch("run").code == 0
    assert set(project.state()["phases"]) == {"1", "2"}
    assert project.orch("status").err == ""


def test_damage_that_nobody_can_mend_is_said_and_not_touched(project: Project) -> None:
    finished(project)
    (journal,) = (project.system / "journal").glob("*.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([lines[0], "garbage\n", *lines[2:]]))
    (project.system / "state.json").unlink()
    before = listing(project.root)
    for words in (["status"], ["status", "--json"], ["run"], ["recover"], ["cancel"], ["pause"]):
        ended = project.orch(*words)
        assert ended.code == 4, (words, ended)
        assert "Traceback" not in ended.err
        assert str(journal.name) in ended.err
    assert not [*(project.system / "asks").glob("*.json")], "what could not be asked is not asked later"
    kept = {path: about for path, about in listing(project.root).items() if path.endswith(".jsonl")}
    assert all(before[path] == about for path, about in kept.items())


def test_a_newer_format_is_named(project: Project) -> None:
    finished(project)
    path = project.system / "state.json"
    path.write_text(path.read_text().replace('"version":1', '"version":99', 1))
    for words in (["status"], ["run"]):
        ended = project.orch(*words)
        assert ended.code == 4, ended
        assert "99" in ended.err
    assert '"version":99' in path.read_text()


def test_what_waits_to_be_recovered_is_shown_by_the_rules_of_the_project(project: Project) -> None:
    """An outcome that nobody has taken: whether it is tried again is a matter of settings."""
    project.settings("[retry.TRANSIENT]\ntries = 0\n")
    project.commands({"number": 1, "name": "one", "run": "touch begun; sleep 0.3; exit 75", "needs": []})
    run = project.start("run")
    run.until(lambda: (project.root / "begun").exists())
    run.kill()
    wait_for(lambda: any(project.system.glob("agents/*/outcomes/*.json")))
    assert project.statuses() == {1: "failed"}
    assert project.orch("recover").code == 0
    assert project.statuses() == {1: "failed"}


def test_a_long_status_makes_its_column_wider_for_all() -> None:
    case = Case({1: (), 2: ()}).given(
        intended(1), completed(1), ev.GateOpened(2, Gate("before", "r1", "digest", "now"))
    )
    look: Any = Look.__new__(Look)
    look.state, look._specs, look._items = case.state, {}, None
    first, second = _phases(look, 60, 80, fills=False)
    assert first.index("2.00s") == second.index("waits for"), (first, second)
