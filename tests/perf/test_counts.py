"""What a phase costs, counted and not timed: a slow machine can neither hide that it has grown nor invent it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import inputs
from bench.graphs import Task, chain, layered
from bench.tracing import HANDS, ORCHESTRATOR, WORK, CannotTrace, Counted, counted
from tests.driving import ORCH
from tests.perf.limits import CHAIN, LAYERS, Limits
from tests.warm import PACKAGE

RUNS = {"24 in a chain": (chain(24), CHAIN), "60 in layers, 2 slots": (layered(6, 10), LAYERS)}


@pytest.mark.parametrize("name", RUNS)
def test_a_phase_asks_no_more_of_the_kernel_than_it_may(name: str, tmp_path: Path) -> None:
    tasks, limits = RUNS[name]
    asked = asked_for(trace(tasks, tmp_path))
    over = {what: (many, most) for what, many, most in zip(asked._fields, asked, limits, strict=True) if many > most}
    assert not over, f"more than the limit: {over}; in all {asked}"


def trace(tasks: list[Task], folder: Path) -> Counted:
    root = folder / "project"
    root.mkdir()
    inputs.orch(tasks, root)
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": PACKAGE}
    try:
        return counted((*ORCH, "run", "--quiet", "--jobs", "2"), root, environ, folder / "record", len(tasks))
    except CannotTrace as why:
        pytest.skip(str(why))


def asked_for(found: Counted) -> Limits:
    parts = [found.per_phase(part) for part in (ORCHESTRATOR, HANDS, WORK)]
    others = [found.syncs, found.bytes_written, found.processes / found.phases]
    return Limits._make(round(many, 2) for many in (*parts, *others))
