"""Pools by the command line: tokens are never held twice, who waits is said, and what could never start is refused."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.look import Look
from tests.core.given import Case, intended, retrying
from tests.driving import FAST, Project

WORK = "mkdir in_use && sleep 0.1 && rmdir in_use"  # a second one at the same time fails


def pipeline(project: Project, *, run: str = WORK, pools: str = "gpu = 1") -> None:
    project.settings(f"{FAST}[pools]\n{pools}\n")
    project.commands(
        *({"number": n, "name": f"gpu{n}", "needs": [], "pools": {"gpu": 1}, "run": run} for n in (1, 2, 3)),
        {"number": 4, "name": "free", "needs": [], "run": "true"},
    )


def test_what_shares_a_token_never_runs_at_the_same_time(project: Project) -> None:
    pipeline(project)
    ended = project.orch("run", "--jobs", "4")
    assert ended.code == 0, ended
    order = [line.split()[1:3] for line in ended.out.splitlines() if " start " in line or " completed " in line]
    assert order[:2] == [["start", "1"], ["start", "4"]], "who needs no token passes"
    project.assert_nothing_left()


def test_status_says_who_waits_for_which_token_and_who_has_it(project: Project) -> None:
    pipeline(project, run="while ! test -e go; do sleep 0.05; done")
    run = project.start("run", "--jobs", "4")
    run.until(lambda: project.statuses().get(4) == "completed")
    phases = {phase["number"]: phase for phase in project.status()["phases"]}
    assert {number: phase["waits_for"] for number, phase in phases.items()} == {
        1: None, 2: "gpu, held by 1", 3: "gpu, held by 1", 4: None,
    }  # fmt: skip
    told = project.orch("status").out
    assert "    2  gpu2  pending       waits for gpu, held by 1" in told.splitlines(), told
    run.kill()
    assert "waits for gpu, held by 1" in project.orch("status").out, "its agent goes on, and holds it"
    project.file("go", "")
    following = project.orch("run")
    assert following.code == 0, following
    assert set(project.statuses().values()) == {"completed"}
    project.assert_nothing_left()


def test_what_could_never_start_is_refused_by_place_and_name(project: Project) -> None:
    pipeline(project, pools="gpus = 1")
    for words in (("run",), ("plan",), ("run", "--dry-run")):
        told = project.orch(*words)
        assert told.code == 2, told
        assert "phases/p.toml:1: phase 1: pools: there is no pool gpu: did you mean gpus?" in told.err, told
        assert "the phases have 3 faults; nothing was started" in told.err
    project.settings("[pools]\ngpu = 0\n")
    told = project.orch("config", "check")
    assert told.code == 2 and "pools.gpu = 0 is not a whole number from 1" in told.err, told
    assert not (project.system / "journal").exists()


@pytest.mark.parametrize(("due_in", "waits"), [(60.0, {}), (-1e9, {1: "db, held by 2"})])
def test_a_retry_that_is_due_later_waits_for_its_time_and_not_for_a_token(due_in: float, waits: dict[int, str]) -> None:
    case = Case({1: (), 2: ()}, keys={number: {"pools": {"db": 1}} for number in (1, 2)}, pools={"db": 1})
    case.given(intended(1), retrying(1, due_in)).live(2)
    look: Any = Look.__new__(Look)
    look.state, look._specs, look._root, look._rules = case.state, case.plan.specs, None, lambda _: case.plan.rules
    assert look.waits_for_tokens() == waits
