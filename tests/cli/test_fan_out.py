"""Fan-out by the command line: items that really run, what is shown of them, and a run that is cut off half-way."""

from __future__ import annotations

import json
from collections import Counter

from tests.driving import FAST, Project

WAITS = "echo $ORCH_ITEM >> began; while ! test -e go; do sleep 0.02; done; echo $ORCH_ITEM >> ran"


def fan(project: Project, run: str, **keys: object) -> None:
    project.commands(
        {"number": 1, "name": "all", "foreach": ["a", "b", "c", "d"], "run": run, **keys},
        {"number": 2, "name": "after", "run": "echo after >> ran"},
    )


def phase(project: Project, number: int) -> dict[str, object]:
    return next(one for one in project.status()["phases"] if one["number"] == number)


def test_status_shows_one_phase_with_how_many_of_how_many(project: Project) -> None:
    fan(project, WAITS, max_parallel=2)
    run = project.start("run", "--jobs", "4")
    run.until(lambda: len(project.lines("began")) == 2)
    run.until(lambda: (phase(project, 1)["items"] or {}) == {"total": 4, "pending": 2, "in_progress": 2})
    assert phase(project, 1)["status"] == "in_progress"
    assert "    1  all    in_progress   0/4 items, 2 pending, 2 in progress" in project.orch("status").out
    project.file("go", "")
    assert run.wait().code == 0
    assert sorted(project.lines("ran")[:4]) == ["a", "b", "c", "d"] and project.lines("ran")[4] == "after"
    assert phase(project, 1)["items"] == {"total": 4, "completed": 4}
    assert "4/4 items" in project.orch("status").out
    project.assert_nothing_left()


def test_what_was_cut_off_half_way_goes_on_with_what_is_left(project: Project) -> None:
    fan(
        project,
        f"test $ORCH_ITEM = a || test $ORCH_ITEM = b || test -e go || {{ {WAITS}; exit; }}; echo $ORCH_ITEM >> ran",
    )
    run = project.start("run", "--jobs", "3")
    run.until(lambda: sorted(project.lines("ran")) == ["a", "b"] and len(project.lines("began")) == 2)
    run.until(lambda: (phase(project, 1)["items"] or {}).get("completed") == 2)
    run.kill()
    project.file("go", "")
    ended = project.orch("run")
    assert ended.code == 0, ended
    assert Counter(project.lines("ran")) == {"a": 1, "b": 1, "c": 1, "d": 1, "after": 1}
    project.assert_nothing_left()


def test_an_item_that_failed_is_looked_at_and_sent_again_by_its_number(project: Project) -> None:
    fan(project, "echo looking at $ORCH_ITEM, number $ORCH_ITEM_INDEX; test $ORCH_ITEM != c || test -e go")
    ended = project.orch("run")
    assert ended.code == 1, ended
    assert "FAILED      1 all  FAILED: 1 of 4 items failed, the first is 1[2]: FAILED: exit status 1" in ended.out
    assert "next: `orch logs '1[2]'` shows what it printed" in ended.out
    assert project.orch("logs", "1[2]").out == "looking at c, number 2\n"
    refused = project.orch("logs", "1")
    assert refused.code == 2 and "`orch logs '1[2]'` shows the first that failed" in refused.err, refused
    assert project.orch("logs", "1[4]").err.startswith("orch: there is no 1[4]: phase 1 has 4 items")
    assert project.orch("logs", "2[0]").err.startswith("orch: there is no 2[0]: phase 2 has no items")
    told = project.orch("story", "1[2]").out
    assert "attempt 1[2].1 failed: FAILED: exit status 1" in told and "1[1]" not in told, told
    project.file("go", "")
    assert project.orch("retry", "1[2]").out == "phase 1[2] is pending, with fresh tries; `orch run` runs it\n"
    again = project.orch("run", "--json")
    assert again.code == 0, again
    events = [json.loads(line) for line in again.out.splitlines()]
    assert [one["number"] for one in events if one["event"] == "AttemptIntended"] == ["1[2]", 2]
    refused = project.orch("retry", "1[0]")
    assert refused.code == 1 and "`orch reset '1[0]'` has it run again" in refused.err, refused
    assert project.orch("reset", "1[0]").out == "phase 1[0] is pending, as if never run; `orch run` runs it\n"
    once_more = [json.loads(line) for line in project.orch("run", "--json").out.splitlines()]
    assert [one["number"] for one in once_more if one["event"] == "AttemptIntended"] == ["1[0]"]


def test_files_are_those_that_are_there_when_it_begins(project: Project) -> None:
    project.settings(FAST)
    project.commands(
        {"number": 1, "name": "make", "run": "mkdir -p 'data/x y' && touch data/b.csv 'data/x y/a.csv' data/c.txt"},
        {"number": 2, "name": "use", "foreach": "data/**/*.csv", "run": 'echo "$ORCH_ITEM" >> ran'},
    )
    assert "for each of the files data/**/*.csv" in project.orch("plan").out
    ended = project.orch("run", "--jobs", "1")
    assert ended.code == 0, ended
    assert project.lines("ran") == ["data/b.csv", "data/x y/a.csv"]


def test_faults_are_named_where_they_stand(project: Project) -> None:
    lines = [
        ("foreach = 3", "foreach: 3 is no list"), ('foreach = "../x"', "leads out of the project"),
        ("foreach = 'result(x)'", "is not the way to a result"), ("foreach = 'result(9)'", "fans out over the result of phase 9"),
        ("foreach = [1]\nfail_after = \"0%\"", "neither a number of items nor a share"),
        ("foreach = [1]\nmax_parallel = 0", "max_parallel: 0 is not a whole number above 0"),
        ("max_parallel = 2", "max_parallel without foreach"), ("foreach = [2026-11-20]", "is no JSON"),
        ("foreach = [1]\nfail_fast = true\nfail_after = 2", "one of them"),
        ("foreach = 'params[0]'", "is not the way to a parameter"),
        ("foreach = 'params[\"regoins\"]'\nparams = { regions = [] }", "it has no parameter regoins: did you mean regions?"),
        ("foreach = 'params[\"year\"]'\nparams = { year = 2024 }", "its parameter year is no list: it is 2024"),
        ("foreach = 'params.regions'\nparams = { regions = [] }", "params.regions is the name of a file"),
    ]  # fmt: skip
    text = "\n".join(f'[[phase]]\nnumber = {n}\nneeds = []\nrun = "true"\n{keys}' for n, (keys, _) in enumerate(lines))
    project.file("phases/p.toml", text + "\n")
    told = project.orch("plan")
    assert told.code == 2
    for _, words in lines:
        assert words in told.err, (words, told.err)


def test_a_list_from_the_settings_is_refused_where_it_is_none(project: Project) -> None:
    keys = {"params": {"regions": "$regions"}, "foreach": 'params["regions"]'}
    project.commands({"number": 1, "name": "each", "run": "echo $ORCH_ITEM >> ran", "cache": True, **keys})
    project.settings(f'{FAST}[params]\nregions = "eu"\n')
    refused = project.orch("run")
    assert refused.code == 2 and 'foreach: the parameter regions is no list: it is "eu"' in refused.err, refused
    project.settings(f'{FAST}[params]\nregions = [["eu"]]\n')
    assert "nor a list of these" in project.orch("run").err
    project.settings(f'{FAST}[params]\nregions = ["eu", "us"]\n')
    assert project.orch("run", "--jobs", "1").code == 0 and project.lines("ran") == ["eu", "us"]
    assert project.orch("run", "--new", "--set", 'regions=["jp", "eu"]').code == 0
    assert project.lines("ran") == ["eu", "us", "jp"]


def test_one_item_that_was_mended_is_run_and_its_log_is_its_own(project: Project) -> None:
    """Cut off half-way, continued, and run again: what is done under the same key is never done twice."""
    project.settings(FAST)
    for name in "abc":
        project.file(f"data/{name}", "bad" if name == "b" else name)
    keys = {"foreach": "data/*", "outputs": ["made"], "cache": True}
    body = "cat $ORCH_ITEM; echo $ORCH_ITEM >> ran; mkdir -p made; test $(cat $ORCH_ITEM) != bad && cp $ORCH_ITEM made/"
    project.commands({"number": 1, "name": "each", "run": body, **keys})
    assert project.orch("run", "--jobs", "1").code == 1
    project.file("data/b", "good")
    project.file("data/0", "new")
    assert project.orch("run", "--jobs", "1").code == 0
    assert Counter(project.lines("ran")) == {"data/a": 1, "data/b": 2, "data/c": 1, "data/0": 1}
    assert [project.orch("logs", f"1[{place}]").out for place in range(4)] == ["new", "a", "good", "c"]
    again = project.orch("run", "--new")
    assert "kept        1 each" in again.out and len(project.lines("ran")) == 5, again
    assert project.orch("logs", "1[1]").out == "a"
    project.file("made/c", "by hand")
    assert "outputs: made/c changed" in project.orch("plan").out
    assert project.orch("run", "--new").code == 0 and len(project.lines("ran")) == 9
