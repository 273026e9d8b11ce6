"""orch notify, and what a run tells by itself: real commands, a real sender, a real server."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from orchestrator import disk
from orchestrator.cli import notify as command
from orchestrator.config import settings
from orchestrator.core.outward import Target
from orchestrator.services import extras
from orchestrator.services.outbox import Outbox, take_turn
from tests.driving import FAST, Project, wait_for
from tests.services.given import message
from tests.services.listening import Server, server

__all__ = ["server"]

TEN = "n=$(cat tries 2>/dev/null || echo 0); echo $((n + 1)) > tries; test $n -ge 10"


def told(project: Project, server: Server, more: str = "", path: str = "/T0SECRET") -> None:
    project.settings(
        f'{FAST.replace("tries = 0", "tries = 20")}delay = "0s"\n[notify.ops]\nurl = "{server.url(path)}"\n{more}'
    )


def senders_are_gone(project: Project) -> None:
    wait_for(lambda: not [pid for pid in project.processes() if "services" in Path(f"/proc/{pid}/cmdline").read_text()])


def test_ten_failures_and_a_success_are_two_messages_to_a_server_that_is_down_half_the_time(
    project: Project, server: Server
) -> None:
    told(project, server)
    project.commands({"number": 3, "name": "load", "needs": [], "run": TEN})
    server.script = ["503", "ok", "reset"]
    assert project.orch("run").code == 0
    assert [one.document["event"] for one in server.until(2)] == ["failed", "recovered"]
    senders_are_gone(project)
    assert len(server.heard) == 4 and len(server.taken) == 2
    first, last = (one.document for one in server.taken)
    assert first["text"].startswith("project: phase 3 load failed: FAILED: exit status 1 after")
    assert "completed after 10 failures since" in last["text"]
    assert {one.ident for one in server.heard} == {first["id"], last["id"]}
    project.assert_nothing_left()
    everything = b"".join(path.read_bytes() for path in project.system.rglob("*") if path.is_file())
    assert b"SECRET" not in everything
    assert project.status()["notifications"] == {
        "waiting": 0, "oldest_seconds": 0.0, "refused": 0, "last_error": None, "last_refusal": None, "held": 0,
        "stray": {},
    }  # fmt: skip


def test_a_run_waits_for_no_sender_and_the_sender_keeps_nothing_of_it_open(project: Project, server: Server) -> None:
    told(project, server)
    project.commands({"number": 1, "name": "one", "run": "false", "retries": 0})
    server.script = ["silent"]
    began = time.monotonic()
    assert project.cold("run", "--quiet").code == 1  # its output is a pipe that is read to its end
    assert time.monotonic() - began < 9.0
    wait_for(lambda: server.heard)
    assert project.orch("notify", "drop", "--all").out == "1 message dropped\n"
    sender = next(pid for pid in project.processes() if "services" in Path(f"/proc/{pid}/cmdline").read_text())
    names = {os.readlink(f"/proc/{sender}/fd/{fd}") for fd in ("0", "1", "2")}
    assert names == {"/dev/null", str(project.system / "logs/notify.log")}
    assert os.getsid(sender) == sender


def test_what_waited_is_sent_by_the_next_command_that_holds_the_lock(project: Project, server: Server) -> None:
    told(project, server)
    project.commands({"number": 1, "name": "one", "run": "true"})
    project.orch("run", "--quiet")
    Outbox(project.root).put("ops", message("a"))
    assert project.orch("recover").code == 0
    assert [one.ident for one in server.until(1)] == ["a"]


def test_a_switch_hears_of_the_beginning_and_the_end_of_each_call(project: Project, server: Server) -> None:
    project.settings(f'{FAST}[notify.alive]\nping = "{server.url("/p")}"\n')
    project.commands({"number": 1, "name": "one", "run": "until test -e go; do sleep 0.05; done"})
    running = project.start("run", "--quiet")
    assert [one.path for one in server.until(1)] == ["/p/start"]
    project.file("go", "")
    assert running.wait().code == 0
    assert [one.path for one in server.until(2)] == ["/p/start", "/p"]
    assert project.orch("run", "--quiet").code == 0  # nothing to do
    assert [one.path for one in server.until(3)][2:] == ["/p"]
    project.commands({"number": 1, "name": "one", "run": "false"})
    assert project.orch("run", "--new", "--quiet").code == 1
    wait_for(lambda: server.taken[-1].path == "/p/fail")


def test_without_somebody_to_tell_nothing_is_kept_and_nobody_started(project: Project) -> None:
    project.commands({"number": 1, "name": "one", "run": "false"})
    assert project.orch("run", "--quiet").code == 1
    assert not (project.system / "outbox").exists()
    assert not (project.system / "logs/notify.log").exists()


def test_who_is_told_again_some_day_is_told_from_then_on(project: Project, server: Server) -> None:
    told(project, server)
    project.commands({"number": 1, "name": "one", "run": "true"})
    project.orch("run", "--quiet")
    project.settings(FAST)
    project.commands({"number": 1, "name": "one", "run": "false"})
    project.orch("run", "--new", "--quiet")
    assert not (project.system / "outbox/told.json").exists()
    told(project, server)
    assert project.orch("recover").code == 0
    senders_are_gone(project)
    assert server.heard == []


# ---- test


def test_a_real_message_is_sent_now_and_what_came_back_is_said(project: Project, server: Server) -> None:
    told(project, server, f'[notify.alive]\nping = "{server.url("/p")}"\n')
    ended = project.orch("notify", "test")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"ops: told (http://127.0.0.1:{server.port}/...): HTTP 200, after ")
    assert lines[1].startswith("alive: told")
    assert server.taken[0].document["event"] == "test"
    assert server.taken[0].document["text"].startswith("project: this is a test, sent by hand from ")
    assert server.taken[1].path == "/p"


def test_what_did_not_arrive_is_said_and_exits_with_1(project: Project, server: Server) -> None:
    told(project, server, f'[notify.other]\nurl = "{server.url("/o")}"\n')
    server.script = ["404"]
    ended = project.orch("notify", "test", "--json")
    assert ended.code == 1
    rows = json.loads(ended.out)
    assert [(row["target"], row["ok"]) for row in rows] == [("ops", False), ("other", True)]
    assert rows[0]["answer"] == f"http://127.0.0.1:{server.port}/...: HTTP 404 Unwell no"
    assert "SECRET" not in ended.text
    assert project.orch("notify", "test", "other").code == 0


@pytest.mark.parametrize(
    ("settings", "words", "said"),
    [
        ("", (), "orch: nobody is to be told anything\n"),
        (
            '[notify.ops]\nurl = "http://x"\n',
            ("opps",),
            "orch: there is no target opps\n  did you mean ops? there is ops",
        ),
        (
            '[notify.ops]\nurl = "http://x"\n[notify.all]\nurl = "http://x"\n',
            ("nope",),
            "orch: there is no target nope\n  there are ops, all\n",
        ),
        ('[notify.ops]\nurl = "http://127.0.0.1:99999/x"\n', (), "orch.toml:5: notify.ops.url: its port is none: a"),
        ('[notify.ops]\nurl = "x"\n', (), "orch.toml:5: notify.ops.url: is no URL: write"),
        ('[notify.ops]\nurl = "http://x"\nquiet = "night"\n', (), "notify.ops.quiet: 'night' are no quiet hours"),
        ('[notify.ops]\nurl = "http://x"\nquiet = "22:00-07:00"\ntz = "Berlin"\n', (), "there is no time zone Berlin"),
        ('[notify.ops]\nsecret = "hook"\n', (), "notify.ops.secret: there is no secret hook"),
    ],
)
def test_wrong_usage_and_wrong_settings_are_refused(
    project: Project, settings: str, words: tuple[str, ...], said: str
) -> None:
    project.settings(FAST + settings)
    ended = project.orch("notify", "test", *words)
    assert ended.code == 2 and said in ended.err


def test_without_apprise_its_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    found = settings(Path("/nowhere"), {}, {})
    assert extras.lacking(found) == []
    target = Target(url="tgram://T0SECRET/chat")
    assert extras.lacking(found.replace(notify={"ops": target})) == [
        "notify.ops (tgram://...): no other address than http:// and https:// can be used without apprise: "
        "pip install 'orch[notify]'"
    ]


# ---- list, drop, status


OPS = FAST + '[notify.ops]\nurl = "http://127.0.0.1:9/x"\n'


def kept(project: Project, *idents: str) -> Outbox:
    project.settings(OPS)
    outbox = Outbox(project.root)
    for ident in idents:
        outbox.put("ops", message(ident))
    return outbox


def test_what_waits_is_listed_and_can_be_dropped(project: Project) -> None:
    assert project.orch("notify", "list").out == "nothing waits to be told\n"
    outbox = kept(project, "a", "b", "c")
    (outbox.folder / "sender.json").write_text(json.dumps({"targets": {"ops": {"error": "HTTP 503"}}}))
    refused = outbox.first("ops")
    assert refused is not None
    outbox.refuse(refused, "HTTP 404")
    lines = project.orch("notify", "list").out.splitlines()
    assert lines[0].startswith("ops  waits for ") and lines[0].endswith("  b  this is b")
    assert lines[1] == "       HTTP 503"
    assert lines[4:] == ["ops  refused  a  this is a", "       HTTP 404"]
    rows = json.loads(project.orch("notify", "list", "--json").out)
    assert [(row["id"], row["state"], row["reason"]) for row in rows] == [
        ("b", "waits", "HTTP 503"), ("c", "waits", "HTTP 503"), ("a", "refused", "HTTP 404"),
    ]  # fmt: skip
    assert project.orch("notify", "drop", "b").out == "1 message dropped\n"
    assert project.orch("notify", "drop", "b").code == 2
    assert project.orch("notify", "drop").code == 2
    assert project.orch("notify", "drop", "--all").out == "2 messages dropped\n"


def test_status_says_what_could_not_be_delivered(project: Project) -> None:
    outbox = kept(project, "a", "b")
    assert "wait to be told" not in project.orch("status").out  # it may be a moment
    (outbox.folder / "sender.json").write_text(json.dumps({"targets": {"ops": {"error": "HTTP 503"}}}))
    first = outbox.first("ops")
    assert first is not None
    outbox.refuse(first, "HTTP 404")
    line = next(line for line in project.orch("status").out.splitlines() if "orch notify list" in line)
    assert line.startswith("1 message waits to be told, the oldest for ")
    assert line.endswith(" (ops: HTTP 503); 1 message was refused (ops: HTTP 404): `orch notify list`")
    notes = project.status()["notifications"]
    assert (notes["waiting"], notes["refused"], notes["last_error"]) == (1, 1, "ops: HTTP 503")


def test_status_and_health_name_a_target_that_is_gone(project: Project) -> None:
    kept(project, "a", "b")
    project.settings(FAST)
    project.commands({"number": 1, "name": "one", "run": "true"})
    told = "2 messages for ops, no target of the settings any more"
    assert f"{told}: `orch notify list`, `orch notify drop`" in project.orch("status").out
    assert project.status()["notifications"]["stray"] == {"ops": 2}
    ended = project.orch("health")
    assert ended.code == 1 and f"services -5: undelivered: {told}\n" in ended.out and "notify drop" in ended.out
    assert project.orch("notify", "drop", "--all").code == 0
    assert "undelivered" not in project.orch("health").out


def test_fsck_knows_the_outbox(project: Project, server: Server) -> None:
    told(project, server)
    project.commands({"number": 1, "name": "one", "run": "false", "retries": 0})
    assert project.orch("run", "--quiet").code == 1
    server.until(1)
    senders_are_gone(project)
    outbox = kept(project, "a", "b")
    first = outbox.first("ops")
    assert first is not None
    outbox.refuse(first, "no")
    assert project.orch("fsck").code == 0
    path = next((outbox.folder / "waiting/ops").iterdir())
    path.chmod(0o644)
    ended = project.orch("fsck")
    assert ended.code == 1 and path.name in ended.out
    assert "repaired" in project.orch("fsck", "--repair").out
    assert stat.S_IMODE(path.stat().st_mode) == disk.PRIVATE_FILE


# ---- missed


def test_a_missed_start_is_said_once_by_whoever_notices_it_without_the_lock(project: Project, server: Server) -> None:
    told(project, server)
    project.commands({"number": 1, "name": "one", "run": "sleep 30"})
    running = project.start("run", "--quiet")
    running.until(project.workers)
    for _ in range(2):
        assert project.orch("notify", "missed", "nightly", "1795305600") == (0, "", "")
    document = server.until(1)[0].document
    assert document["id"] == "missed.nightly.1795305600"
    assert document["text"] == (
        "project: schedule nightly: the start that was due at 2026-11-22T00:00:00Z did not happen"
    )
    senders_are_gone(project)
    assert project.orch("notify", "missed", "nightly", "1795305600").code == 0
    senders_are_gone(project)
    assert len(server.heard) == 1
    assert project.orch("cancel").code == 0


def test_help_does_not_show_what_only_cron_calls(project: Project) -> None:
    ended = project.orch("notify", "--help")
    assert "missed" not in ended.out and "drop" in ended.out
    assert command.EXAMPLE in ended.out


def test_no_address_is_shown(project: Project, server: Server) -> None:
    told(project, server, '[notify.other]\nurl = "tgram://T0SECRET:x/chat"\n')
    with_lock = take_turn(project.system / "outbox")
    assert with_lock is not None
    os.close(with_lock)
    for words in (("config", "show"), ("config", "show", "--json"), ("config", "check"), ("status", "--json")):
        ended = project.orch(*words)
        assert ended.code == 0 and "SECRET" not in ended.text, ended


def test_a_sender_is_not_taken_for_what_a_dead_agent_left_behind(project: Project, server: Server) -> None:
    """Both are children of the orchestrator, which ends what comes to it when an agent dies."""
    told(project, server)
    project.commands(
        {"number": 1, "name": "one", "needs": [], "run": "false", "retries": 0},
        {"number": 2, "name": "two", "needs": [], "run": "test -e begun || { touch begun; sleep 60; }"},
    )
    server.script = ["silent"]
    running = project.start("run", "--quiet")
    running.until(lambda: server.heard and (project.root / "begun").exists())

    before = [pid for pid in project.processes() if "services" in Path(f"/proc/{pid}/cmdline").read_text()]
    for pid in project.agents():
        os.kill(pid, signal.SIGKILL)
    assert running.wait().code == 1
    record = (project.system / "logs/orchestrator.log").read_text()

    (swept,) = (line for line in record.splitlines() if "left behind: " in line)
    assert "sleep" in swept and "python" not in swept
    assert [pid for pid in project.processes() if "services" in Path(f"/proc/{pid}/cmdline").read_text()] == before
    project.orch("notify", "drop", "--all")


def test_a_gate_is_told_and_its_warning_goes_when_it_is_decided(project: Project, server: Server) -> None:
    told(project, server)
    project.commands(
        {"number": 1, "name": "one", "run": "true", "approval": {"when": "after", "deadline": "1h", "show": "7 rows"}}
    )
    assert project.orch("run", "--quiet").code == 3
    document = server.until(1)[0].document
    assert document["event"] == "gate" and document["phases"] == [{"number": 1, "name": "one"}]
    assert "7 rows; `orch approve 1`, or `orch reject 1 --why ...`" in document["text"]
    rows = json.loads(project.orch("notify", "list", "--json").out)
    assert [(row["event"], row["state"]) for row in rows] == [("gate", "not due")]
    assert project.status()["notifications"]["waiting"] == 0
    assert project.orch("approve", "1").code == 0
    senders_are_gone(project)
    assert project.orch("notify", "list").out == "nothing waits to be told\n"
    assert len(server.heard) == 1


def test_as_a_service_it_waits_a_moment_for_its_messages_because_all_ends_with_it(
    project: Project, server: Server
) -> None:
    told(project, server)
    project.commands({"number": 1, "name": "one", "run": "false", "retries": 0})
    began = time.monotonic()
    ended = project.cold("run", "--quiet", env={"NOTIFY_SOCKET": str(project.scratch / "nobody")})
    assert ended.code == 1
    assert [one.document["event"] for one in server.taken] == ["failed"]  # by now, and not some time later
    assert time.monotonic() - began < 25.0
