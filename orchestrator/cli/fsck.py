"""orch fsck: whether all that orch keeps in system/ is in order, what is wrong with it, and its repair."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator import fsck
from orchestrator.cli.frame import root_of, show, show_json
from orchestrator.cli.options import JsonOption, ProjectOption
from orchestrator.core.flaw import Flaw

EXAMPLE = "Example: orch fsck --repair"


def command(
    repairs: Annotated[
        bool,
        typer.Option("--repair", help="Repair what was found; a copy of what is changed is kept in system/backup."),
    ] = False,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Check all that orch keeps in system/; exits with 1 if something is found, 4 if nothing can repair it."""
    root = root_of(project)
    report = fsck.repair(root) if repairs else fsck.examine(root)
    if as_json:
        show_json(document(report, repaired=repairs))
    else:
        show("\n".join(lines(report, repaired=repairs)))
    raise typer.Exit(report.exit_code)


def document(report: fsck.Report, *, repaired: bool) -> dict[str, Any]:
    return {
        "clean": not report.flaws, "decisions": report.decisions, "segments": report.segments,
        "findings": [_finding(flaw) for flaw in report.flaws],
        "repaired": repaired and bool(report.flaws) and report.exit_code == 1,
        "copies": [str(path) for path in report.kept],
        "left": [_finding(flaw) for flaw in report.left],
    }  # fmt: skip


def _finding(flaw: Flaw) -> dict[str, Any]:
    return {
        "file": flaw.file, "line": flaw.line, "byte": flaw.byte, "what": flaw.what, "why": flaw.why,
        "repair": flaw.repair or None, "repairable": not flaw.is_hopeless,
    }  # fmt: skip


def lines(report: fsck.Report, *, repaired: bool) -> list[str]:
    if not report.is_there:
        return ["nothing to check: nothing has been run here yet"]
    if not report.flaws:
        return [f"all in order: {_many(report.decisions, 'decision')} in {_many(report.segments, 'segment')}"]
    told = [fsck.words(flaw) for flaw in report.flaws]
    found = _many(len(report.flaws), "finding")
    hopeless = sum(flaw.is_hopeless for flaw in report.flaws)
    if not repaired:
        rest = f", {hopeless} of them beyond repair" if hopeless else ""
        can = hopeless < len(report.flaws)
        return [*told, f"{found}{rest}" + ("; `orch fsck --repair` repairs them, with a copy kept" if can else "")]
    kept = f"; a copy of what was changed is in {' and '.join(map(str, report.kept))}" if report.kept else ""
    left = hopeless + len(report.left)
    told += [f"still there: {fsck.words(flaw)}" for flaw in report.left]
    return [*told, f"{found}, {'all repaired' if not left else f'{left} left'}{kept}"]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
