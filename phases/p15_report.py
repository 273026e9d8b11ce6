"""Phase 15: the grade of this machine, with its evidence, as one page and as a table.

It needs all others. A drill that found a promise broken has said so in its result, and is graded here; only where a
phase could not be tried at all there is no report, because nobody knows what it would have found. The report is written
before a grade of F fails this phase, and with it the run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from orchestrator import Context, Failed, ValidationFault, __version__, disk, phase
from phases._drill import PATIENCE, environment, shortened
from phases._page import Report, page

GROUND = (-8, -7, -6, -5, -4, -3, -2, -1, 0)
DRILLS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
LEAST_SCORES = (("B", 90.0), ("C", 75.0), ("D", 60.0))
PLACE = "system/report/index.html"
WIDTH = 100

Results = dict[int, dict[str, Any]]


@phase(15, needs=[*GROUND, *DRILLS], timeout="2m", retries=0)
def report(ctx: Context) -> dict[str, Any]:
    """Grade this machine; write the report."""
    results = {number: result_of(ctx, number) for number in (*GROUND, *DRILLS)}
    told = status(ctx)
    found = graded(results, told)
    text = page(found)
    path = ctx.path(PLACE)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    disk.replace(path, text.encode(), durable=False)
    print("\n".join(table(found)))
    if found.grade == "F":
        raise Failed(f"grade F: {why_f(found)}. The evidence is in {PLACE}; do not leave runs alone on this machine")
    return {"verdict": f"{found.sentence}: {PLACE}", "figures": figures(found, text), "warnings": []}


def result_of(ctx: Context, number: int) -> dict[str, Any]:
    found = ctx.result(number)
    needed = ("verdict", "figures", "checks") if number in DRILLS else ("verdict", "figures")
    if not isinstance(found, dict) or not all(name in found for name in needed):
        raise ValidationFault(
            f"phase {number} left no {', '.join(needed)}: `orch run --only {number} --force`, then `orch run`"
        )
    return found


def status(ctx: Context) -> dict[str, Any]:
    """What `orch status --json` says of this run: when each phase began and ended."""
    command = [sys.executable, "-m", "orchestrator.cli", "status", "--json", "--project", str(ctx.project.resolve())]
    done = subprocess.run(
        command, env=environment(), timeout=PATIENCE, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        raise Failed(f"`orch status --json` ended with {done.returncode}: {shortened(done.stderr.strip())}")
    return dict(json.loads(done.stdout))


# The grade


def graded(results: Results, told: dict[str, Any]) -> Report:
    checks = {number: results[number]["checks"] for number in DRILLS}
    score = sum(share_kept(results[number]) for number in DRILLS) / len(DRILLS) * 100
    every = [check for number in DRILLS for check in checks[number]]
    return Report(
        grade=grade_of(score, every),
        score=round(score, 1),
        kept=sum(check["kept"] for check in every),
        promises=len(every),
        warnings=[
            (number, text) for number, result in results.items() if number for text in result.get("warnings", ())
        ],
        results=results,
        run=told["run"],
        phases=[phase for phase in told["phases"] if phase["number"] in results or phase["status"] == "in_progress"],
        version=__version__,
    )


def share_kept(result: dict[str, Any]) -> float:
    """Of a drill that was cut short nobody knows what else it would have found."""
    checks = result["checks"]
    return 0.0 if result.get("cut_short") or not checks else sum(check["kept"] for check in checks) / len(checks)


def grade_of(score: float, checks: list[dict[str, Any]]) -> str:
    if any(check["grave"] for check in checks):
        return "F"
    if all(check["kept"] for check in checks):
        return "A"
    return next((grade for grade, least in LEAST_SCORES if score >= least), "F")


def why_f(found: Report) -> str:
    grave = [(number, check) for number, check in found.broken if check["grave"]]
    if not grave:
        return f"{found.score:g} of 100, fewer than {LEAST_SCORES[-1][1]:g}"
    return shortened("; ".join(f"phase {number}: {check['grave']}: {check['found']}" for number, check in grave), 300)


def figures(found: Report, text: str) -> dict[str, Any]:
    return {
        "grade": found.grade,
        "score": found.score,
        "promises": found.promises,
        "promises_kept": found.kept,
        "warnings": len(found.warnings),
        "page_bytes": len(text.encode()),
    }


# The table


def table(found: Report) -> list[str]:
    lines = [found.sentence, ""]
    for number, result in found.results.items():
        name = found.name(number)
        lines.append(f"{number:>3}  {name:<18} {outcome(result):<18} {shortened(result['verdict'], WIDTH)}")
    for title, rows in (("NOT KEPT", found.broken_lines), ("warnings", found.warning_lines)):
        lines += ["", title, *(f"  {row}" for row in rows)] if rows else []
    return [*lines, "", f"report: {PLACE}"]


def outcome(result: dict[str, Any]) -> str:
    if checks := result.get("checks"):
        return f"{sum(check['kept'] for check in checks)} of {len(checks)} kept"
    warnings = len(result.get("warnings", ()))
    return f"passed, {warnings} warned" if warnings else "passed"
