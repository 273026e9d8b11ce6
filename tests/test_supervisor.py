from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.supervisor import Supervisor
from tests.driving import ORCH, PATIENCE, Project, projects, wait_for

__all__ = ["projects"]


class Systemd:
    """Its end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE)

    def news(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")

    def all_news(self) -> list[str]:
        self.socket.settimeout(0)
        found: list[str] = []
        try:
            while True:
                found += self.news()
        except BlockingIOError:
            return found


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@orch-test-{os.getpid()}")
    yield made
    made.socket.close()


def test_it_is_ready_once_lives_and_leaves(systemd: Systemd) -> None:
    environ = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "90000000", "WATCHDOG_PID": "1", "HOME": "/"}
    supervisor = Supervisor(environ)
    assert environ == {"HOME": "/"}
    for wanted in (
        (lambda: supervisor.alive("run 1: 2 of\n3"), ["READY=1", "WATCHDOG=1", "STATUS=run 1: 2 of 3"]),
        (lambda: supervisor.alive("x" * 999), ["WATCHDOG=1", "STATUS=" + "x" * 200]),
        (supervisor.rests, ["WATCHDOG_USEC=604800000000", "STATUS=between two runs"]),
        (supervisor.rests, None),
        (lambda: supervisor.alive("run 2"), ["WATCHDOG_USEC=90000000", "WATCHDOG=1", "STATUS=run 2"]),
        (supervisor.leaving, ["STOPPING=1", "STATUS=ending"]),
    ):
        wanted[0]()
        if wanted[1] is not None:
            assert systemd.news() == wanted[1]
    assert systemd.all_news() == []


def test_one_that_had_nothing_to_do_was_ready_all_the_same(systemd: Systemd) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": systemd.address})
    supervisor.rests()
    supervisor.leaving()
    assert systemd.news() == ["READY=1", "STOPPING=1", "STATUS=ending"]


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"NOTIFY_SOCKET": "@" + "x" * 200}]
)
def test_where_nobody_listens_it_is_silent(environ: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    supervisor = Supervisor(environ)
    supervisor.alive("a")
    supervisor.rests()
    supervisor.leaving()
    assert capfd.readouterr() == ("", "")


def test_who_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    systemd = Systemd(str(tmp_path / "notify"))
    supervisor = Supervisor({"NOTIFY_SOCKET": systemd.address})
    for _ in range(2000):
        supervisor.alive("again")
    systemd.socket.close()


def test_a_run_says_when_it_goes_round_and_what_it_starts_cannot_speak_for_it(projects, systemd: Systemd) -> None:
    project: Project = projects("project")
    project.settings('heartbeat_timeout = "2s"\nbeat_interval = "0.5s"\nkill_grace = "0.3s"\n')
    project.commands({"number": 1, "name": "work", "run": 'env > seen; until [ -e "go" ]; do sleep 0.02; done'})
    run = project.start("run", "--quiet", argv=ORCH, env={"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "2000000"})
    news = systemd.news()
    assert news[:2] == ["READY=1", "WATCHDOG=1"], run.text
    assert news[2].startswith("STATUS=run ")
    for _ in range(3):
        assert systemd.news()[0] == "WATCHDOG=1"
    os.kill(run.pid, signal.SIGSTOP)  # a loop that hangs
    systemd.all_news()
    systemd.socket.settimeout(1.5)
    with pytest.raises(TimeoutError):
        systemd.news()
    os.kill(run.pid, signal.SIGCONT)
    wait_for(lambda: (project.root / "seen").exists())
    seen = (project.root / "seen").read_text()
    assert "ORCH_RUN=" in seen and "NOTIFY_SOCKET" not in seen and "WATCHDOG" not in seen
    project.file("go", "")
    assert run.wait().code == 0
    told = systemd.all_news()
    assert "READY=1" not in told and told[-2:] == ["STOPPING=1", "STATUS=ending"]
