"""Phase 15: the grade from what the drills saw, the table, the page's place; what has no result is named."""

from __future__ import annotations

import stat

import pytest

from orchestrator import Failed, ValidationFault
from phases import p15_report as phase
from tests.phases.reporting import check, results, told


@pytest.fixture
def well(monkeypatch):
    monkeypatch.setattr(phase, "status", lambda ctx: told())


EACH = 100 / len(phase.DRILLS)
PROMISES = 5 * len(phase.DRILLS)


def grade(changed, **more):
    return phase.graded(results(changed, **more), told())


def test_a_page_and_a_table(make, fits, well, capsys):
    context = make(15, results())
    result = fits(phase.report(context))
    assert result["verdict"] == (
        f"grade A, 100 of 100: {PROMISES} of {PROMISES} promises kept, 1 warning: system/report/index.html"
    )
    assert (result["figures"]["grade"], result["figures"]["score"]) == ("A", 100.0)
    page = context.path("system/report/index.html")
    assert (stat.S_IMODE(page.stat().st_mode), stat.S_IMODE(page.parent.stat().st_mode)) == (0o600, 0o700)
    assert len(page.read_bytes()) == result["figures"]["page_bytes"]
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"grade A, 100 of 100: {PROMISES} of {PROMISES} promises kept, 1 warning"
    assert " -7  clock              passed, 1 warned   the verdict of phase -7" in shown
    assert "  6  overlap            5 of 5 kept        the verdict of drill 6" in shown
    assert "  phase -7: nobody keeps the clock in step: due times will wander" in shown
    assert shown[-1] == "report: system/report/index.html"
    assert all(line.isprintable() and len(line) <= 150 for line in shown)


def test_it_is_made_again_over_an_older_one(make, well):
    context = make(15, results())
    phase.report(context)
    assert phase.report(make(15, results({1: [check(), check(True)]})))["figures"]["grade"] == "B"
    assert "grade B" in context.path("system/report/index.html").read_text()


def test_what_orch_says_of_the_run_is_asked_of_orch(make, fits):
    """A project in which nothing ran: no Gantt, and no fault."""
    context = make(15, results())
    assert fits(phase.report(context))["figures"]["grade"] == "A"
    assert phase.status(context)["run"]["state"] == "none"


@pytest.mark.parametrize(
    ("lost", "expected"),
    [(0, "A"), (0.5, "B"), (1, "B"), (1.5, "C"), (2, "C"), (3, "D"), (5, "F"), (len(phase.DRILLS), "F")],
)
def test_grades(lost, expected):
    """By how many drills' worth of promises was not kept."""
    broken = {number: [check()] for number in phase.DRILLS[: int(lost)]}
    if lost % 1:
        broken[phase.DRILLS[-1]] = [check(), check(True)]
    found = grade(broken)
    assert (found.grade, found.score) == (expected, round(100 - lost * EACH, 1))


@pytest.mark.parametrize("grave", ["lost", "done twice", "stuck", "orphaned"])
def test_one_grave_thing_is_an_f_whatever_the_rest(grave):
    found = grade({3: [check(True)] * 99 + [check(grave=grave)]})
    assert (found.grade, round(found.score)) == ("F", 100)
    assert phase.why_f(found) == f"phase 3: {grave}: it was otherwise"


def test_a_drill_that_was_cut_short_counts_nothing():
    cut = grade({2: [check(True), check(True), check()]})
    assert cut.score == round(100 - EACH / 3, 1)
    found = results({2: [check(True), check(True), check()]})
    found[2]["cut_short"] = True
    assert phase.graded(found, told()).score == round(100 - EACH, 1)
    assert phase.share_kept({"checks": []}) == 0.0


def test_an_f_fails_the_run_after_the_page_is_written(make, well, capsys):
    context = make(15, results({6: [check(grave="orphaned", found="2 of 3 are there")]}))
    with pytest.raises(
        Failed, match=r"grade F: phase 6: orphaned: 2 of 3 are there\. The evidence is in system/report"
    ):
        phase.report(context)
    assert "do not leave runs alone" in context.path("system/report/index.html").read_text()
    assert "  phase 6: a promise of some length: 2 of 3 are there (orphaned)" in capsys.readouterr().out


def test_too_few_points_are_an_f_too():
    found = grade(dict.fromkeys(phase.DRILLS[: len(phase.DRILLS) // 2], (check(),)))
    assert phase.why_f(found) == "54.5 of 100, fewer than 60"


@pytest.mark.parametrize("left", [None, {}, {"verdict": "well", "figures": {}}])
def test_a_drill_without_findings_is_named(make, well, left):
    with pytest.raises(ValidationFault, match=r"phase 4 left no verdict, figures, checks: `orch run --only 4 --force`"):
        phase.report(make(15, {**results(), 4: left}))
