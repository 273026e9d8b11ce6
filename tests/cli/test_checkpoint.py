"""Checkpoints and rollback as a person has them: real phases, the real command line."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.driving import FAST, Ended, Project

Orch = Callable[..., Ended]


@pytest.fixture
def orch(project: Project) -> Orch:
    return project.orch


HALF = """
from orchestrator import Critical, phase

@phase(2, needs=[1], outputs=["table"], on_critical="rollback", retries=5)
def build(ctx):
    "Write the table."
    (ctx.path("table") / "rows").write_text("half")
    (ctx.path("table") / "extra").write_text("half")
    raise Critical("the table is half written")
"""


def pipeline(project: Project, second: str = "exit 0") -> None:
    project.settings(FAST)
    project.commands(
        {"number": 1, "name": "fetch", "outputs": ["data/*.csv"], "run": "mkdir -p data; echo 1 > data/a.csv"},
        {
            "number": 2, "name": "build", "checkpoint": True, "outputs": ["data/a.csv", "out"],
            "run": f"mkdir -p out; echo 2 >> data/a.csv; echo 2 > out/b; {second}",
        },
    )  # fmt: skip


def ids(orch: Orch) -> list[str]:
    return [one["id"] for one in json.loads(orch("checkpoint", "list", "--json").out)]


def statuses(project: Project) -> dict[int, str]:
    phases: dict[str, Any] = project.state()["phases"]
    return {int(number): phase["status"] for number, phase in phases.items()}


def test_back_to_before_a_phase_and_on_again(project: Project, orch: Orch) -> None:
    pipeline(project)
    assert orch("run").code == 0
    (name,) = ids(orch)
    assert name.startswith("phase_2_")
    dry = orch("rollback", name, "--dry-run")
    assert dry.code == 0 and "would be put back: data/a.csv" in dry.out and "phase 2 would be pending" in dry.out
    assert project.lines("data/a.csv") == ["1", "2"] and ids(orch) == [name]
    told = json.loads(orch("rollback", name, "--json").out)
    assert (told["changed"], told["files"], told["removed"]) == (True, ["data/a.csv"], ["out/b"])
    assert statuses(project) == {1: "completed", 2: "pending"}
    assert project.lines("data/a.csv") == ["1"] and not (project.root / "out").exists()
    undone = orch("rollback", told["undo"])
    assert undone.code == 0 and statuses(project) == {1: "completed", 2: "completed"}
    assert project.lines("data/a.csv") == ["1", "2"] and project.lines("out/b") == ["2"]
    assert "nothing to do: all is as in" in orch("rollback", told["undo"]).out
    story = orch("story", "2").out
    assert f"rolled back to {name}" in story and f"checkpoint {name} was made before attempt 2.1" in story
    assert orch("rollback", name).code == 0
    assert orch("run").code == 0 and statuses(project) == {1: "completed", 2: "completed"}
    assert project.state()["phases"]["2"]["attempts"] == 1 and project.lines("data/a.csv") == ["1", "2"]
    assert orch("fsck").code == 0


def test_a_phase_that_calls_it_critical_goes_back_by_itself(project: Project, orch: Orch) -> None:
    project.settings(FAST)
    project.commands(
        {"number": 1, "name": "fetch", "outputs": ["table/rows"], "run": "mkdir table; echo whole > table/rows"}
    )
    project.file("phases/build.py", HALF)
    ended = orch("run")
    assert ended.code == 1, ended
    assert "the table is half written (it said that this is critical)" in ended.out
    assert "restored    2 build  its outputs are as in phase_2_" in ended.out
    assert "1 file put back, 1 removed" in ended.out
    assert project.lines("table/rows") == ["whole"] and not (project.root / "table" / "extra").exists()
    assert statuses(project) == {1: "completed", 2: "failed"}
    assert "its outputs are as in checkpoint" in orch("story", "2").out
    project.assert_nothing_left()


def test_by_hand_listed_and_shown(project: Project, orch: Orch) -> None:
    pipeline(project)
    assert orch("checkpoint", "list").out == "no checkpoints yet\n"
    made = orch("checkpoint", "create")
    assert made.code == 0 and made.out.startswith("phase_1_"), made
    assert orch("run").code == 0
    late = json.loads(orch("checkpoint", "create", "--json").out)
    assert late["phase"] == 2 and late["files"] == 2 and late["why"] == "by hand"
    assert ids(orch)[0] == late["id"] and len(ids(orch)) == 3
    shown = orch("checkpoint", "show", late["id"])
    assert shown.code == 0 and "data/a.csv" in shown.out and "completed" in shown.out
    document = json.loads(orch("checkpoint", "show", late["id"], "--json").out)
    assert {"phase", "timestamp", "state", "context", "files"} <= document.keys() and document["faults"] == []
    digest = document["files"]["2"][1]["digest"]
    (project.system / "backup" / "checkpoints" / late["id"] / "files" / digest).write_text("?")
    damaged = orch("checkpoint", "show", late["id"])
    assert damaged.code == 1 and "its copy of out/b is damaged" in damaged.err
    (project.root / "out" / "b").unlink()
    refused = orch("rollback", late["id"])
    assert refused.code == 4 and "its copy of out/b is damaged" in refused.err
    assert not (project.root / "out" / "b").exists()
    found = orch("fsck")
    assert found.code == 1 and late["id"] in found.out
    assert orch("fsck", "--repair").code == 1 and orch("fsck").code == 0
    assert late["id"] not in ids(orch)


def test_the_settings_say_how_many_are_kept(project: Project, orch: Orch) -> None:
    pipeline(project)
    project.settings(FAST + "[checkpoints]\nkeep = 2\n")
    for number in ("1", "2", "1"):
        assert orch("checkpoint", "create", number).code == 0
    assert len(ids(orch)) == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("rollback", "phase_2_2026"), 2, "there is no checkpoint phase_2_2026"),
        (("checkpoint", "show", "x"), 2, "none was made yet"),
        (("checkpoint", "create", "9"), 2, "there is no phase 9"),
        (("rollback",), 2, "orch rollback"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    project: Project, orch: Orch, words: tuple[str, ...], code: int, told: str
) -> None:
    pipeline(project)
    ended = orch(*words)
    assert ended.code == code and told in ended.err and len(ended.err.splitlines()) == 2, ended


def test_a_wrong_name_names_the_nearest_and_the_tab_key_knows_them(project: Project, orch: Orch) -> None:
    pipeline(project)
    orch("checkpoint", "create", "1")
    (name,) = ids(orch)
    assert f"the nearest is {name}" in orch("rollback", name[:-2]).err
    offered = project.orch(env={"_ORCH_COMPLETE": "complete_bash", "COMP_WORDS": "orch rollback ph", "COMP_CWORD": "2"})
    assert name in offered.out


def test_nobody_goes_back_while_something_is_in_progress(project: Project, orch: Orch) -> None:
    pipeline(project, second="while test ! -e go; do sleep 0.02; done")
    run = project.start("run")
    run.until(lambda: ids(orch) and project.lines("out/b"))
    (name,) = ids(orch)
    busy = orch("rollback", name)
    assert busy.code == 75 and "another run is active" in busy.err and "until it is over" in busy.err
    dry = orch("rollback", name, "--dry-run", "--json")
    assert (dry.code, dry.err) == (75, busy.err) and busy.err.startswith(f"orch: {json.loads(dry.out)['blocked']}")
    assert orch("checkpoint", "create").code == 75
    run.send(signal.SIGKILL)
    run.wait()
    refused = orch("rollback", name)
    assert refused.code == 1 and "in progress: 2 build; `orch cancel 2` ends it" in refused.err, refused
    assert project.lines("data/a.csv") == ["1", "2"]
    assert orch("cancel", "2").code == 0
    assert orch("rollback", name).code == 0
    assert project.lines("data/a.csv") == ["1"]
    project.assert_nothing_left()


def test_where_nothing_can_be_kept_the_phase_does_not_begin(project: Project, orch: Orch) -> None:
    pipeline(project)
    assert orch("run", "--only", "1").code == 0
    backup = project.system / "backup"
    backup.write_text("no folder")
    ended = orch("run", "--no-wait")
    assert ended.code == 3 and "CONFLICT: its checkpoint could not be made" in ended.out, ended
    assert project.lines("data/a.csv") == ["1"]


def test_a_plan_that_nobody_can_read_is_said_and_nothing_runs(project: Project, orch: Orch) -> None:
    pipeline(project)
    assert orch("checkpoint", "create", "1").code == 0
    plan = project.system / "backup" / "checkpoints" / "rollback.json"
    plan.write_text("?")
    assert "a rollback is under way, or was cut off" in orch("status").err
    ended = orch("run")
    assert ended.code == 4 and "rollback.json is damaged" in ended.err and not project.lines("data/a.csv"), ended
    plan.unlink()
    assert orch("run").code == 0
