"""What systemd makes of the lines of a timer, where it is there to ask."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from orchestrator.core.covering import calendar_lines
from orchestrator.core.schedule import Schedule, all_between
from tests.core.test_schedule import BERLIN, EXPRESSIONS, LORD_HOWE, at
from tests.driving import TIMES

NOW = at("2027-01-15 12:00")
MANY = 3000 if TIMES else 60


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: apt install systemd)"
)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE])
def test_systemd_comes_to_the_same_instants(zone: str) -> None:
    days = {BERLIN: ("2027-03-28", "2027-10-31"), LORD_HOWE: ("2027-04-03", "2027-10-02")}[zone]
    for text in EXPRESSIONS if TIMES else ("0,30 2 * * *", "*/10 1,2 * * *"):
        for day in (*days, "2028-02-28") if TIMES else days:
            first = at(day) - 43200
            for begin in (first, first + 86400) if "*" in text.split()[1] else (first,):
                _compare(Schedule("a", text), zone, begin)


def _compare(one: Schedule, zone: str, begin: float) -> None:
    base = f"--base-time={datetime.fromtimestamp(begin, UTC):%Y-%m-%d %H:%M:%S} UTC"
    lines = calendar_lines(one, ZoneInfo(zone), NOW)
    near = [line for line in lines if not line[:4].isdecimal() or abs(at(line[:10]) - begin) < 10 * 86400]
    env = {**os.environ, "TZ": "UTC", "LC_ALL": "C"}
    ran = subprocess.run(
        ["systemd-analyze", "calendar", base, f"--iterations={MANY}", *near],
        capture_output=True,
        text=True,
        env=env,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    theirs, until = set[float](), float("inf")
    for part in ran.stdout.split("Normalized form:")[1:]:
        found = [at(told) for told in re.findall(r"(?:elapse|#\d+): \w+ (\S+ \S+) UTC", part)]
        theirs.update(found)
        if len(found) == MANY:
            until = min(until, found[-1])
    wanted = all_between(one, ZoneInfo(zone), begin, min(until, begin + 9 * 86400), 10**6)
    assert sorted(instant for instant in theirs if begin < instant <= min(until, begin + 9 * 86400)) == wanted, (
        one,
        near,
    )
