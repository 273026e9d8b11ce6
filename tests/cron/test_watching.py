"""The entry that watches: a shell script that needs neither Python nor orch."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from orchestrator.core.outward import FAILED, Target
from orchestrator.core.schedule import Schedule
from orchestrator.cron import scripts
from orchestrator.store import schedules

SHELLS = [name for name in ("dash", "busybox", "bash") if shutil.which(name)]
GRACE = 900
NIGHT = Schedule("night", "0 3 * * *", watch=float(GRACE))


class Watched:
    """A project's folder with that script, and an orch in the place of the real one."""

    def __init__(self, root: Path, shell: str = "sh") -> None:
        self.root, self.system, self.shell = root, root / "system", shell
        (root / "system").mkdir(parents=True)
        self.bin = root / "bin"
        self.bin.mkdir()
        schedules.write(self.system, NIGHT)
        self.write()

    def write(self, *targets: Target) -> None:
        script = scripts.watch_script(self.root, NIGHT, {"PATH": f"{self.bin}:/usr/bin:/bin"}, targets)
        python = self.bin / "python"
        if not python.exists():
            self.orch("exit 1")
        scripts.script_of(self.root, "night", scripts.WATCH).write_text(
            script.replace(shlex.quote(scripts.orch()[0]), shlex.quote(str(python)), 1)
        )

    def orch(self, what: str) -> None:
        python = self.bin / "python"
        python.write_text(f'#!/bin/sh\necho "$@" >> "{self.root}/asked"\n{what}\n')
        python.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        path = self.root / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def by(self, *seconds: float) -> list[int]:
        """By when a start must have been noticed, from now."""
        found = [int(time.time() + each) for each in seconds]
        schedules.write_next(self.system, "night", *found)
        return found

    def look(self) -> str:
        shell = ["busybox", "sh"] if self.shell == "busybox" else [self.shell]
        done = subprocess.run(
            [*shell, str(scripts.script_of(self.root, "night", scripts.WATCH))],
            cwd="/",
            env={"HOME": "/"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == "" and (done.returncode == 1 or not done.stdout), done
        return done.stdout


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "it's 100%")


@pytest.mark.parametrize("shell", SHELLS)
def test_an_instant_that_nobody_began_is_said_once(tmp_path: Path, shell: str) -> None:
    watched = Watched(tmp_path / "p", shell)
    watched.by(60, 86400)
    assert watched.look() == "", "there is time yet"
    first, _ = watched.by(-60, 86400)
    due = time.strftime("%Y-%m-%dT%H:%M:00Z", time.gmtime(first - GRACE))
    assert watched.look() == f"orch: schedule night of {watched.root}: nobody started what was due at {due}\n"
    assert watched.look() == "" and watched.look() == ""
    schedules.write_next(watched.system, "night", first - 60, first, first + 86400)
    assert watched.look() == "", "the clock went on, and nothing else"


def test_each_further_instant_is_said_too_though_nobody_tells_of_them(watched: Watched) -> None:
    first, second, _ = watched.by(-4000, -10, 3600)
    assert ", and 1 before it\n" in watched.look() and watched.look() == ""
    schedules.write_next(watched.system, "night", first, second, time.time() - 1)  # as if an hour had passed
    assert "nobody started" in watched.look() and watched.look() == ""


def test_what_was_said_while_the_clock_was_wrong_silences_nothing_after_it_is_right(watched: Watched) -> None:
    (watched.system / "schedules" / "night.said").write_text(f"{int(time.time()) + 30 * 86400}\n")
    watched.by(-60, 86340)
    assert "nobody started what was due" in watched.look()
    assert watched.look() == "", "and that is said once"


def test_begun_after_all_it_watches_for_the_next(watched: Watched) -> None:
    watched.by(-60)
    assert watched.look() != ""
    watched.by(3600)
    assert watched.look() == ""
    watched.by(-1)
    assert watched.look() != ""


@pytest.mark.parametrize("damage", ["gone", "empty", "words", "binary", "folder"])
def test_what_cannot_be_read_is_said_once(watched: Watched, damage: str) -> None:
    path = schedules.path_of(watched.system, "night", ".next")
    path.unlink(missing_ok=True)
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"empty": b"", "words": b"tomorrow\n", "binary": b"12\xff34"}[damage])
    assert "night.next cannot be read, so nobody knows whether it was started" in watched.look()
    assert watched.look() == "" and watched.asked == []


def test_a_schedule_that_is_gone_is_not_missed_and_a_folder_that_is_gone_is(watched: Watched) -> None:
    watched.by(-60)
    script = scripts.script_of(watched.root, "night", scripts.WATCH)
    text = script.read_text()
    schedules.path_of(watched.system, "night").unlink()
    assert watched.look() == ""
    elsewhere = watched.root.parent / "elsewhere.sh"
    elsewhere.write_text(text)
    shutil.rmtree(watched.root)
    done = subprocess.run(["sh", str(elsewhere)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "cannot be entered, so nobody starts what is due" in done.stdout


# Who is told


class Hook(BaseHTTPRequestHandler):
    got: ClassVar[list[tuple[str, str, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(307 if self.path == "/away" else 204)
        self.send_header("Location", "/there")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.got.clear()
    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_orch_is_asked_to_tell_it_and_if_it_can_nobody_else_does(watched: Watched, hook: str) -> None:
    watched.orch("exit 0")
    watched.write(Target(url=f"{hook}/ops"))
    (by,) = watched.by(-60)
    assert watched.look() != "" and watched.look() == ""
    assert watched.asked == [f"-P -m orchestrator.cli notify missed night {by - GRACE} --project {watched.root}"]
    assert Hook.got == []


@pytest.mark.parametrize("program", [name for name in ("curl", "wget") if shutil.which(name)])
def test_where_orch_is_broken_each_plain_webhook_is_told_by_the_shell(
    watched: Watched, hook: str, program: str
) -> None:
    for name in ("sh", "date", "cat", "sed", "mv", "timeout", program):
        os.symlink(shutil.which(name) or "", watched.bin / name)
    targets = (
        Target(url=f"{hook}/ops?a=1&b='2'"), Target(url=f"{hook}/other", events=(FAILED,)), Target(secret="url"), Target(ping=f"{hook}/ping"),
        Target(url="slack://token"), Target(url=f"{hook}/second"),
    )  # fmt: skip
    watched.write(*targets)
    script = scripts.script_of(watched.root, "night", scripts.WATCH)
    script.write_text(script.read_text().replace(":/usr/bin:/bin", ""))
    (by,) = watched.by(-60)
    shown = watched.look()
    assert len(shown.splitlines()) == 1 and watched.look() == ""
    assert [path for path, _, _ in Hook.got] == ["/ops?a=1&b='2'", "/second"]
    for _, kind, body in Hook.got:
        assert kind == "application/json" and body["event"] == "missed" and body["schedule"] == "night"
        assert (
            body["due"] == str(by - GRACE)
            and body["id"] == f"missed.night.{by - GRACE}"
            and body["project"] == str(watched.root)
        )


@pytest.mark.parametrize("program", [name for name in ("curl", "wget") if shutil.which(name)])
def test_who_redirects_has_not_heard_it_and_nobody_else_does(watched: Watched, hook: str, program: str) -> None:
    for name in ("sh", "date", "sed", "mv", "cat", program):
        os.symlink(shutil.which(name) or "", watched.bin / name)
    watched.write(Target(url=f"{hook}/away"))
    script = scripts.script_of(watched.root, "night", scripts.WATCH)
    script.write_text(script.read_text().replace(":/usr/bin:/bin", ""))
    watched.by(-60)
    assert "could not be told so" in watched.look()
    assert [path for path, _, _ in Hook.got] == ["/away"]


def test_where_nobody_can_be_told_that_is_said(watched: Watched) -> None:
    for name in ("sh", "date", "cat", "sed", "mv"):
        os.symlink(shutil.which(name) or "", watched.bin / name)
    watched.write(Target(url="http://127.0.0.1:9/"))
    script = scripts.script_of(watched.root, "night", scripts.WATCH)
    script.write_text(script.read_text().replace(":/usr/bin:/bin", ""))
    watched.by(-60)
    assert "neither curl nor wget is there" in watched.look()


@pytest.mark.parametrize("shell", SHELLS)
def test_what_nobody_could_be_told_is_told_at_a_later_look_and_said_once(tmp_path: Path, hook: str, shell: str) -> None:
    watched = Watched(tmp_path / "p", shell)
    watched.write(Target(url="http://127.0.0.1:9/"))
    script = scripts.script_of(watched.root, "night", scripts.WATCH)
    script.write_text(script.read_text().replace("-fsS -m 30 --retry 5 --retry-connrefused", "-fs"))
    (by,) = watched.by(-60)
    assert "could not be told so" in watched.look()
    assert watched.look() == "" and len(watched.asked) == 2, "it is tried again, and cron mails it once"
    script.write_text(script.read_text().replace("http://127.0.0.1:9/", f"{hook}/ops"))
    assert watched.look() == "" and [body["due"] for _, _, body in Hook.got] == [str(by - GRACE)]
    assert watched.look() == "" and (len(watched.asked), len(Hook.got)) == (3, 1), "it is told now"


def test_whom_only_orch_can_tell_is_told_when_it_is_well_again(watched: Watched) -> None:
    watched.write(Target(secret="hook"))
    watched.by(-60)
    assert watched.look() != "" and watched.look() == ""
    watched.orch("exit 0")
    assert watched.look() == "" and watched.look() == ""
    assert len(watched.asked) == 3
