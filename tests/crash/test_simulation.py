"""The whole of orch through hundreds of simulated disasters, each a function of its seed; the rules are looked at all the time."""

from __future__ import annotations

import pytest

from tests.crash.simulation import FAULTS, MINUTES, OPERATIONS, simulate, total
from tests.driving import times

SEEDS = times(120, 10_000)
ONCE_MORE = 50  # every so many seeds, the same one again
LEAST = times(10, 20)  # so often each fault must have happened, else nothing was tested
PARTS = 2  # each on a core of its own


@pytest.mark.timeout(max(120, SEEDS))
@pytest.mark.parametrize("part", range(PARTS))
def test_every_rule_holds_whatever_fails(part: int) -> None:
    reports = []
    for seed in range(part, SEEDS, PARTS):
        report = simulate(seed)
        assert not report.broken, report.told()
        if seed % ONCE_MORE == part:
            again = simulate(seed)
            assert again.story == report.story, f"seed {seed} was another story the second time"
        report.story = []
        reports.append(report)
    fired, operations = total(reports)
    simulated = sum(report.seconds for report in reports)
    print(
        f"{len(reports)} of the seeds 0 to {SEEDS - 1}, {simulated / 3600:.1f} simulated hours (at most {MINUTES} minutes and the end of each)"
    )
    print(f"{sum(fired.values())} faults fired: {dict(sorted(fired.items()))}")
    print(f"operations done: {dict(sorted(operations.items()))}")
    assert not [kind for kind in FAULTS if fired[kind] < LEAST / PARTS], (
        f"these faults were too rare to prove anything: {fired}"
    )
    assert not [kind for kind in OPERATIONS if not operations[kind]], f"some of it was never done: {operations}"
