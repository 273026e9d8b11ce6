"""What is kept and what is run again, by the command line; more of it is in docs/phases.md, which is tested too."""

from __future__ import annotations

import json
from typing import Any

from tests.driving import FAST, Project

PHASE = """
from orchestrator import Context, phase
from lib.rate import RATE


@phase(1, inputs=["data/*.csv"], outputs=["out/total.txt"], params={"factor": "$factor"})
def total(ctx: Context) -> dict:
    values = [int(file.read_text()) for file in sorted(ctx.path("data").glob("*.csv"))]
    ctx.path("out").mkdir(exist_ok=True)
    ctx.path("out/total.txt").write_text(str(sum(values) * RATE * ctx.params["factor"]))
    return {"values": len(values)}


@phase(2, cache=True)
def report(ctx: Context) -> None:
    with open("log", "a") as log:
        print(ctx.result(1)["values"], ctx.path("out/total.txt").read_text(), file=log)
"""


def steps(project: Project, *words: str) -> dict[int, dict[str, Any]]:
    ended = project.orch(*(words or ("plan",)), "--json")
    assert ended.code == 0, ended
    document = json.loads(ended.out)
    return {step["number"]: step for step in (document["phases"] if isinstance(document, dict) else document)}


def test_a_pipeline_in_python_from_its_first_run_to_its_last(project: Project) -> None:
    project.settings(f"{FAST}[params]\nfactor = 1\n")
    project.file("phases/p1.py", PHASE)
    project.file("lib/rate.py", "RATE = 2\n")
    project.file("data/a.csv", "3")
    assert project.orch("run").code == 0
    again = project.orch("run", "--new", "--json")
    events = [json.loads(line)["event"] for line in again.out.splitlines()]
    assert events.count("PhaseKept") == 2 and "AttemptIntended" not in events
    assert "kept: unchanged since run " in project.orch("story", "1").out

    project.file("data/b.csv", "4")  # another total
    assert project.orch("run").code == 0
    project.file("data/a.csv", "4")
    project.file("data/b.csv", "3")  # the same again: early cutoff
    planned = steps(project)
    changed = planned[1]["changed"]
    assert (changed["what"], changed["how"]) == ("inputs: data/a.csv", "changed") and changed["old"] != changed["new"]
    assert planned[2]["what"] == "depends" and " kept        2 report" in project.orch("run").out

    project.file("lib/rate.py", "RATE = 3\n")
    assert steps(project)[1]["why"].startswith("code: phases/p1.py, or what it imports, changed (")
    assert project.orch("run", "--new", "--set", "factor=10").code == 0
    assert project.lines("log") == ["1 6", "2 14", "2 210"]
    assert project.orch("run").out.startswith("nothing to do: 2 done")
    project.assert_nothing_left()


def test_what_a_killed_attempt_left_behind_is_never_taken_as_good(project: Project) -> None:
    run = "cp in out; test -e slow && sleep 60; true"
    project.settings(FAST)
    project.file("in", "one")
    project.commands({"number": 1, "name": "copy", "inputs": ["in"], "outputs": ["out"], "run": run})
    assert project.orch("run").code == 0
    project.file("in", "two")
    project.file("slow", "")
    running = project.start("run")
    running.until(lambda: project.lines("out") == ["two"])
    project.orch("cancel")
    running.wait()
    project.file("in", "one")  # as it was when it succeeded; but out is not
    (project.root / "slow").unlink()
    assert [step["what"] for step in steps(project, "run", "--new", "--dry-run").values()] == ["run"]
    assert project.orch("run", "--new").code == 0
    assert project.lines("out") == ["one"]


def test_what_cannot_be_is_refused_before_anything_runs(project: Project) -> None:
    project.settings(f"{FAST}[params]\nyear = 2024\n")
    project.commands(
        {"number": 1, "name": "a", "needs": [], "outputs": ["out"], "run": "touch ran"},
        {"number": 2, "name": "b", "needs": [], "outputs": ["out/b"], "run": "touch ran", "params": {"y": "$yaer"}},
        {"number": 3, "name": "c", "run": "touch ran", "when": "params.x and result(1)"},
    )
    ended = project.orch("run")
    assert ended.code == 2 and not project.lines("ran")
    for told in (
        "phases 1 and 2 may run at the same time, and their outputs overlap: 1 writes out, 2 writes out/b: let 2 need 1",
        "phase 2: params: there is no parameter $yaer: did you mean $year?",
        "phase 3: when: it has no parameter x",
        "phase 3: when: it does not need phase 1, so nobody knows its result by then",
    ):
        assert told in ended.err, ended.err
