"""Whoever has the status refreshed all day costs nothing that stays: 100,000 times, in the short form some 1,500."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.driving import Project, times
from tests.perf.refreshing import Held

REFRESHES = times(1_500, 100_000)
FEW = 60  # objects that come and go with what the run says meanwhile
BLOCKS = 500  # texts and numbers among them, kept where something remembers its last few
PAGES = 6144  # KiB that lie about where something was for a moment: 1,600 after 15,000, 4,000 after 100,000


@pytest.mark.timeout(60 + REFRESHES // 20)
def test_refreshing_the_status_of_a_live_run_grows_nothing(project: Project) -> None:
    project.commands(
        {"number": 1, "run": ["true"], "needs": []},
        {"number": 2, "run": ["sleep", "10000"]},
        *({"number": number, "run": ["true"]} for number in range(3, 25)),
    )
    run = project.start("run")
    run.until(lambda: project.statuses().get(2) == "in_progress")
    files = everything_in(project)
    before, after = refreshed(project, REFRESHES)
    assert not run.is_over
    found = everything_in(project)
    run.send(signal.SIGTERM)  # or its agent would be waited for
    run.wait()
    assert after.blocks - before.blocks <= BLOCKS, (before, after)
    assert after.objects - before.objects <= FEW, (before, after)
    assert after.resident_kib - before.resident_kib <= PAGES, (before, after)
    assert (after.descriptors, after.threads) == (before.descriptors, before.threads)
    assert found == files


def refreshed(project: Project, count: int) -> list[Held]:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.perf.refreshing", str(project.root), str(count)],
        env=project.environ(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [Held(**each) for each in json.loads(ended.stdout)]


def everything_in(project: Project) -> list[str]:
    """What is being written has a name that begins with a dot."""
    return sorted(str(path) for path in project.system.rglob("*") if not path.name.startswith("."))
