"""Findings as the phases leave them, for the tests of the report."""

from __future__ import annotations

import copy
from typing import Any

from phases import p15_report as phase
from phases._page import COSTS

NAMES = {
    -8: "host", -7: "clock", -6: "file_system", -5: "process_control", -4: "settings", -3: "state_and_journal",
    -2: "services", -1: "baseline", 0: "gate", 1: "take_over", 2: "deadline", 3: "agent_lost", 4: "retries",
    5: "parallel", 6: "overlap", 7: "cache", 8: "rollback", 9: "approval", 10: "disk_full", 11: "damaged", 15: "report",
}  # fmt: skip
CHECKS = [{"expected": f"promise {number}", "kept": True, "found": "as expected", "grave": ""} for number in range(5)]


def check(kept: bool = False, grave: str = "", found: str = "it was otherwise") -> dict[str, Any]:
    return {"expected": "a promise of some length", "kept": kept, "found": found, "grave": grave}


def results(changed: dict[int, list[dict[str, Any]]] | None = None, **more: Any) -> dict[int, dict[str, Any]]:
    """All is well, but for the checks of the phases in `changed`."""
    found: dict[int, dict[str, Any]] = {
        number: {"verdict": f"the verdict of phase {number}", "figures": {}, "warnings": []} for number in phase.GROUND
    }
    for number in phase.DRILLS:
        checks = (changed or {}).get(number, copy.deepcopy(CHECKS))
        found[number] = {**copy.deepcopy(found[0]), "checks": checks, "cut_short": False, **more}
        found[number]["verdict"] = f"the verdict of drill {number}"
    for place, (_, number, name, p95, _unit) in enumerate(COSTS):
        found[number]["figures"][name] = 0.02 * 2**place
        if p95:
            found[number]["figures"][p95] = 0.05 * 2**place
    found[5]["figures"] |= {"ideal_seconds": 2.4, "wall_seconds": 3.0}
    found[-7]["warnings"] = ["nobody keeps the clock in step: due times will wander"]
    return found


def told(numbers: list[int] | None = None) -> dict[str, Any]:
    """As `orch status --json` tells it, while the report is being made."""
    phases = []
    for place, number in enumerate(numbers or NAMES):
        ended = None if number == 15 else f"2026-11-20T10:00:{place * 2 + 4:02d}.500Z"
        phases.append(
            {"number": number, "name": NAMES[number], "status": "completed" if ended else "in_progress",
             "started_at": f"2026-11-20T10:00:{place * 2:02d}.000Z", "finished_at": ended}
        )  # fmt: skip
    return {"run": {"id": "20261120T100000-abcd", "started_at": "2026-11-20T10:00:00.000Z"}, "phases": phases}
