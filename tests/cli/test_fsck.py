"""orch fsck as a person uses it: what it finds and where, that it changes nothing unasked, and what a repair leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.driving import Project, wait_for

DONE = {1: "completed", 2: "completed", 3: "completed"}


@pytest.fixture
def ran(project: Project) -> Project:
    """Three phases, done."""
    project.commands(*({"number": number, "run": f"echo {number} >> ran"} for number in DONE))
    assert project.orch("run", "--quiet").code == 0
    wait_for(lambda: not project.processes())
    return project


def journal(project: Project) -> Path:
    return max((project.system / "journal").glob("*.jsonl"))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def files(project: Project) -> dict[str, bytes]:
    return {
        str(path.relative_to(project.root)): path.read_bytes()
        for path in sorted(project.system.rglob("*"))
        if path.is_file() and not path.is_relative_to(project.system / "logs")
    }


def found(project: Project) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(project.orch("fsck", "--json").out)
    return document


def test_where_nothing_ran_there_is_nothing_to_check(project: Project) -> None:
    ended = project.orch("fsck")
    assert (ended.code, ended.out) == (0, "nothing to check: nothing has been run here yet\n")
    assert not project.system.exists()


def test_what_is_in_order_is_said_and_left_as_it_is(ran: Project) -> None:
    before = files(ran)
    assert ran.orch("fsck").out.startswith("all in order: ")
    assert found(ran)["clean"] is True
    assert ran.orch("fsck", "--repair").code == 0
    assert files(ran) == before


def torn(project: Project) -> None:
    with open(journal(project), "ab") as file:
        file.write(b'{"v":1,"seq":')


SMALL: dict[str, tuple[str, Callable[[Project], object]]] = {
    "a byte of state.json": ("system/state.json", lambda project: flip(project.system / "state.json", 100)),
    "a byte of the journal": ("system/journal/000000000001.jsonl", lambda project: flip(journal(project), 100)),
    "state.json gone": ("system/state.json", lambda project: (project.system / "state.json").unlink()),
    "half a line": ("system/journal/000000000001.jsonl", torn),
    "a file that others may read": ("system/state.json", lambda project: (project.system / "state.json").chmod(0o644)),
    "a folder in the place of the heartbeat": (
        "system/logs/heartbeat.json",
        lambda project: (
            (project.system / "logs/heartbeat.json").unlink(),
            (project.system / "logs/heartbeat.json").mkdir(),
        ),
    ),
    "an ask that is none": ("system/asks/x.json", lambda project: (project.system / "asks/x.json").write_text("[]")),
}


@pytest.mark.parametrize("what", SMALL)
def test_small_damage_is_named_left_alone_and_repaired_when_asked(ran: Project, what: str) -> None:
    file, spoil = SMALL[what]
    spoil(ran)
    before = files(ran)
    told = ran.orch("fsck", "--json")
    assert told.code == 1 and not told.err, told
    assert {finding["file"] for finding in json.loads(told.out)["findings"]} == {file}
    assert files(ran) == before
    repaired = ran.orch("fsck", "--repair")
    assert repaired.code == 1 and file in repaired.out and ", all repaired" in repaired.out, repaired
    again = files(ran)
    assert ran.orch("fsck", "--repair").code == 0
    assert {path: data for path, data in files(ran).items() if "lock" not in path} == {
        path: data for path, data in again.items() if "lock" not in path
    }
    assert ran.orch("run", "--quiet").code == 0
    assert ran.lines("ran") == ["1", "2", "3"], "something was done again"


def test_where_neither_copy_proves_it_the_newest_state_that_is_proven_comes_back(ran: Project) -> None:
    flip(ran.system / "state.json", 100)
    data = journal(ran).read_bytes()
    flip(journal(ran), data.rstrip(b"\n").rfind(b"\n") + 20)
    damaged = {path: data for path, data in files(ran).items() if "journal" in path or "state.json" in path}
    for words in (("status",), ("run",)):
        ended = ran.orch(*words)
        assert ended.code == 4 and "orch fsck" in ended.err, (words, ended)
    assert {path: files(ran)[path] for path in damaged} == damaged, "touched"
    assert ran.orch("fsck").code == 1
    repaired = ran.orch("fsck", "--repair", "--json")
    document = json.loads(repaired.out)
    assert repaired.code == 1 and document["repaired"], repaired
    (kept,) = document["copies"]
    copies = {str(path.relative_to(kept)): path.read_bytes() for path in Path(kept).rglob("*") if path.is_file()}
    assert {"system/" + path: data for path, data in copies.items() if f"system/{path}" in damaged} == damaged
    assert ran.orch("fsck").code == 0
    assert ran.orch("run", "--quiet").code == 0
    assert ran.statuses() == DONE
    assert set(ran.lines("ran")) == {"1", "2", "3"}


def test_a_run_that_is_active_is_not_repaired_under_its_feet(project: Project) -> None:
    project.commands({"number": 1, "run": "while ! test -e go; do sleep 0.05; done"})
    run = project.start("run")
    run.until(lambda: project.phases().get(1, {}).get("step") == "running")
    assert project.orch("fsck").code == 0
    (project.system / "state.json").chmod(0o644)
    assert project.orch("fsck", "--repair").code == 75
    project.file("go", "")
    assert run.wait().code == 0


def test_a_newer_format_is_refused_by_name(ran: Project) -> None:
    (ran.system / "state.json").write_text('{"version": 99}')
    for words in (("fsck", "--repair"), ("status",)):
        ended = ran.orch(*words)
        assert ended.code == 4 and "99" in ended.err and "state.json" in ended.err, (words, ended)
    assert (ran.system / "state.json").read_text() == '{"version": 99}'


def test_it_works_while_phases_are_broken(ran: Project) -> None:
    ran.file("phases/p.toml", "[[phase]\n")
    assert ran.orch("fsck").code == 0
    assert os.path.exists(ran.system / "state.json")
