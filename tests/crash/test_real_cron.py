"""Debian's cron itself, for eight minutes: an overlap, a kill -9, a missed minute; the records are exactly right.

A proof of its own (`make cron`). The daemon gets a crontab folder and a /run that nobody else sees.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.names import epoch
from tests.driving import FAST, ORCH, Project, wait_for

NEEDED = "ORCH_TEST_CRON" in os.environ
MISSING = [
    tool
    for tool in ("cron", "crontab", "unshare", "nsenter")
    if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None
]
pytestmark = [
    pytest.mark.skipif(not NEEDED, reason="it takes ten minutes: make cron"),
    pytest.mark.skipif(bool(MISSING) or os.geteuid() != 0, reason=f"it needs root, and cron: {MISSING}"),
    pytest.mark.timeout(900),
]
OF_OTHERS = "# mine\n17 4 1 1 * echo 'happy new year'\n"
OWN_PLACES = (
    "mount -t tmpfs -o mode=1730,gid=$(stat -c %g /var/spool/cron/crontabs) none /var/spool/cron/crontabs"
    " && mount -t tmpfs none /etc/cron.d && mount --bind /dev/null /etc/crontab && mount -t tmpfs none /run"
    " && exec cron -f"
)
WORK = "echo $ORCH_DUE >> dues; env > environment; while [ -e hold ]; do sleep 0.1; done"


class Machine:
    """A cron daemon in a mount namespace of its own, and commands beside it."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.daemon = self._begin(("unshare", "-m", "sh", "-c", OWN_PLACES))

    def _begin(self, argv: tuple[str, ...]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def do(self, *argv: str, given: str | None = None) -> str:
        environ = self._project.environ(PATH="/usr/bin:/bin", TZ="UTC")
        ended = subprocess.run(
            ["nsenter", "-t", str(self.daemon.pid), "-m", f"-w{self._project.root}", *argv], env=environ, input=given,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended
        return ended.stdout

    def is_up(self) -> bool:
        return b"cron\0-f" in Path(f"/proc/{self.daemon.pid}/cmdline").read_bytes()

    def gone_until(self, moment: float) -> None:
        """Not stopped, for then it would begin afterwards what it had slept through: ended, and begun anew."""
        keeper = self._begin(("nsenter", "-t", str(self.daemon.pid), "-m", "sleep", "600"))
        time.sleep(0.5)
        self.end()
        time.sleep(max(0.0, moment - time.time()))
        again = ("nsenter", "-t", str(keeper.pid), "-m", "sh", "-c", "rm -f /run/crond.pid; exec cron -f")
        self.daemon = self._begin(again)
        wait_for(self.is_up)
        keeper.kill()
        keeper.wait()

    def end(self) -> None:
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(10)


@pytest.fixture
def machine(project: Project) -> Iterator[Machine]:
    found = Machine(project)
    try:
        wait_for(found.is_up)
        yield found
    finally:
        found.end()


def test_each_minute_of_a_night_has_the_record_that_it_should(project: Project, machine: Machine) -> None:
    project.settings(FAST)
    project.commands({"number": 1, "name": "work", "run": WORK, "timeout": "5m"})
    machine.do("crontab", "-", given=OF_OTHERS)
    time.sleep(max(0.0, 5 - time.time() % 60))
    told = machine.do(*ORCH, "cron", "add", "--at", "* * * * *", "--watch")
    assert "default: every minute" in told.lower() or "default:" in told, told
    first = int(time.time()) // 60 * 60 + 60

    def minute(number: int, second: float = 0.0) -> None:
        time.sleep(max(0.0, first + 60 * (number - 1) + second - time.time()))

    def records() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = project.state()["schedules"]["default"]
        return found

    minute(1, 40)  # 1: ran
    assert [record["how"] for record in records()] == ["ran"]
    hold = project.file("hold", "")
    minute(3, 30)  # 2: runs on, 3: skipped
    hold.unlink()
    minute(3, 50)
    project.file("hold", "")
    minute(4, 15)  # 4: its orchestrator is killed, its agent works on
    os.kill(project.status()["run"]["pid"], signal.SIGKILL)
    minute(5, 30)  # 5: skipped, there is still work in hand
    hold.unlink()
    minute(6, 30)  # 6: ran
    machine.gone_until(first + 60 * 6 + 30)  # 7: nobody begins it
    minute(8, 40)  # 8: ran, and knows of 7
    left = machine.do("crontab", "-l")
    assert left.startswith(OF_OTHERS) and left.count("cron/default") == 0 and "default.sh" in left
    machine.do(*ORCH, "cron", "remove")
    assert machine.do("crontab", "-l") == OF_OTHERS, "byte for byte"
    project.file("records.json", json.dumps(records()))
    expected = [
        (1, "ran", ""), (2, "ran", ""), (3, "skipped", "was still going on"), (4, "ran", ""),
        (5, "skipped", "going on"), (6, "ran", ""), (7, "skipped", "nobody began it in time"), (8, "ran", ""),
    ]  # fmt: skip
    found = [((epoch(record["due"]) - first) / 60 + 1, record["how"], record["why"]) for record in records()]
    assert [(number, how) for number, how, _ in found] == [(number, how) for number, how, _ in expected], found
    for (_, _, why), (_, _, wanted) in zip(found, expected, strict=True):
        assert wanted in why, found
    assert [record["missed"] for record in records()] == [number == 7 for number in range(1, 9)]
    ran = [record["due"] for record in records() if record["how"] == "ran"]
    assert project.lines("dues") == ran, "each run knew the instant that it was for"
    environment = (project.root / "environment").read_text()
    assert "TERM=" not in environment and "PATH=/usr/bin:/bin\n" in environment, "as bare as cron gives it"
