"""orch cron add, list, next and remove, with a crontab program that has a file behind it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from orchestrator.core.names import epoch, iso
from orchestrator.core.schedule import Schedule
from orchestrator.store import schedules
from tests.cron.given import Crontab
from tests.docs.reading import blocks
from tests.driving import FAST, PATIENCE, Ended, Project

BERLIN = ("--tz", "Europe/Berlin")


@pytest.fixture
def crontab(tmp_path: Path) -> Crontab:
    return Crontab(tmp_path / "bin")


@pytest.fixture
def orch(project: Project, crontab: Crontab) -> Callable[..., Ended]:
    project.commands({"number": 1, "name": "work", "run": "echo hi; pwd"})
    return lambda *words, **env: project.orch("cron", *words, env={**crontab.env, "TZ": "", **env})


def test_what_is_added_is_in_the_crontab_is_shown_and_is_gone_when_it_is_removed(project, crontab, orch) -> None:
    before = "MAILTO=me\n# mine\n5 4 * * * true"
    crontab.file.write_text(before + "\n")
    ended = orch("add", "--at", "0 3 * * *", "--name", "night", "--", "--from", "-8", "--quiet")
    assert (
        ended.code == 0 and ended.out.startswith("night: At 03:00 every day (0 3 * * *, ") and "; first " in ended.out
    )
    script = project.system / "schedules" / "night.sh"
    assert crontab.text == (
        f"{before}\n# orch: begin schedule night of project {project.root}\n0 3 * * * /bin/sh '{script}'\n"
        f"# orch: end schedule night of project {project.root}\n"
    )
    assert schedules.read(project.system, "night").options == ("--from", "-8", "--quiet")
    for path in script.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.suffix == ".sh" else 0o600), path
    assert project.orch("fsck").code == 0
    listed = orch("list").out
    assert (
        listed.startswith("night: At 03:00 every day (0 3 * * *, ")
        and "a new run; overlap skip; orch run --from -8 --quiet" in listed
    )
    assert orch("remove", "night").out == "night: removed; a run that is active goes on\n"
    assert crontab.text == before + "\n" and list(script.parent.iterdir()) == []
    assert orch("list").out.startswith("no schedules yet; example: orch cron add")


def test_where_there_was_no_crontab_there_is_none_again(project, crontab, orch) -> None:
    assert orch("add", "--at", "@daily").code == 0 and crontab.times() == ["0 0 * * *"]
    assert orch("add", "--at", "@daily").code == 2 and orch("add", "--at", "30 1 * * *", "--name", "b").code == 0
    assert orch("remove").code == 0 and crontab.times() == ["30 1 * * *"]
    assert orch("remove", "b").code == 0 and crontab.text is None


def test_catching_up_and_watching_have_lines_of_their_own(project, crontab, orch) -> None:
    assert orch("add", "--at", "0 3 * * 1", "--catch-up", "6h", "--watch", *BERLIN).code == 0
    assert crontab.times() == ["0 1,2 * * *", "@reboot", "*/10 * * * *", "*/5 * * * *"]
    assert crontab.text is not None and crontab.text.count("default.watch.sh'") == 1
    document = json.loads(orch("list", "--json").out)[0]
    assert (document["zone"], document["catch_up_seconds"], document["watch_seconds"]) == ("Europe/Berlin", 21600, 900)
    due = [int(line) for line in (project.system / "schedules" / "default.next").read_text().split()]
    assert due == sorted(set(due)) and len(due) == 32
    told = json.loads(orch("next", "--count", "2", "--json").out)
    assert [int(datetime.fromisoformat(one["due"]).timestamp()) + 900 for one in told] == due[:2]
    assert all(one["local"][11:16] == "03:00" for one in told)
    shown = orch("next", "default", "--count", "1").out
    assert shown.startswith("default  Mon ") and " 03:00 CE" in shown and shown.endswith(":00Z\n")
    assert orch("remove").code == 0 and crontab.text is None


def test_whether_something_will_begin_it_is_shown(project, crontab, orch) -> None:
    orch("add", "--at", "@daily", "--watch")
    text = crontab.text
    assert text is not None

    def fault() -> str:
        return str(json.loads(orch("list", "--json").out)[0]["fault"])

    assert "in the crontab" not in fault()
    crontab.file.write_text(text.replace("*/5", "#*/5"))
    assert fault() == "lines of it are missing in the crontab"
    crontab.file.write_text("")
    assert fault() == "it is not in the crontab" and "nothing begins it: it is not in the crontab" in orch("list").out
    crontab.is_now("forbidden")
    assert "may not use crontab" in fault()


def test_a_schedule_of_the_zone_in_this_shell_keeps_it(project, crontab, orch) -> None:
    assert orch("add", "--at", "@daily", TZ=":Asia/Tokyo").code == 0
    assert schedules.read(project.system, "default").tz == "Asia/Tokyo"
    assert "Asia/Tokyo" in (project.system / "schedules" / "default.sh").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--at", "61 3 * * *"), 'minute: "61" is not from 0 to 59'),
        (("--at", "0 3 * *"), "4 fields"),
        (("--at", "@reboot"), "--catch-up"),
        (("--at", "@daily", "--tz", "Europe/Berln"), "did you mean Europe/Berlin?"),
        (("--at", "@daily", "--overlap", "allow"), '"allow" is none of skip, queue, replace'),
        (("--at", "@daily", "--catch-up", "later"), "--catch-up"),
        (("--at", "@daily", "--catch-up-all"), "--catch-up 6h"),
        (("--at", "@daily", "--catch-up-all", "--catch-up", "6h"), "--overlap queue"),
        (("--at", "@daily", "--continue", "--overlap", "replace"), "that it then goes on with"),
        (("--at", "@daily", "--systemd", "--overlap", "replace"), "a service that runs"),
        (("--at", "@daily", "--watch-after", "5s"), "--watch-after"),
        (("--at", "@daily", "--name", "a/b"), "letters, digits"),
        (("--at", "@daily", "--name", "a.watch"), "letters, digits"),
        (("--at", "@daily", "--", "--quite"), "did you mean --quiet?"),
        (("--at", "@daily", "--", "--new"), "say it before the --"),
        (("--at", "@daily", "--", "--continue"), "say it before the --"),
        (("--at", "@daily", "--", "--dry-run"), "`orch run --dry-run` shows now"),
        (("--at", "@daily", "--", "--json"), "nobody reads it"),
        (("--at", "@daily", "--", "--only", "1", "--from", "2"), "exclude each other"),
        (("--at", "@daily", "--", "--only", "x"), "--only 3,5,-1"),
        (("--at", "@daily", "--", "--set", "year=1"), "there is no parameter year"),
        (("--at", "@daily", "--", "--jobs", "0"), "jobs"),
        (("--at", "@daily", "stray"), "stray"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_left_behind(project, crontab, orch, words, told: str) -> None:
    ended = orch("add", *words)
    assert ended.code == 2 and told in ended.err and ended.out == "", ended
    assert crontab.text is None and not (project.system / "schedules").exists()


def test_without_the_program_or_the_right_to_use_it_one_sentence_says_so(project, crontab, orch) -> None:
    empty = crontab.folder / "empty"
    empty.mkdir()
    ended = orch("add", "--at", "@daily", PATH=str(empty))
    assert (ended.code, ended.err) == (
        2,
        "orch: there is no crontab program here\n  install cron (Debian: apt install cron), or use --systemd\n",
    )
    crontab.is_now("forbidden")
    ended = orch("add", "--at", "@daily")
    assert (
        ended.code == 2
        and "this account may not use crontab: You (me) are not allowed" in ended.err
        and "/etc/cron.allow" in ended.err
    )
    assert not list((project.system / "schedules").glob("*") if (project.system / "schedules").exists() else ())


def test_what_the_program_refuses_leaves_nothing_behind(project, crontab, orch) -> None:
    crontab.is_now("broken")
    ended = orch("add", "--at", "@daily")
    assert ended.code == 2 and "bad minute" in ended.err and "the crontab is as it was" in ended.err
    assert list((project.system / "schedules").iterdir()) == [] and crontab.text is None


def test_a_crontab_that_somebody_edits_at_the_same_moment_keeps_nothing_of_what_was_refused(
    project, crontab, orch
) -> None:
    crontab.is_now("edited")
    ended = orch("add", "--at", "@daily")
    assert ended.code == 2 and "the crontab is not what was written" in ended.err
    assert list((project.system / "schedules").iterdir()) == [] and crontab.text == "# by another\n"


def test_markers_without_their_other_half_are_named_and_nothing_is_touched(project, crontab, orch) -> None:
    orch("add", "--at", "@daily")
    broken = "\n".join((crontab.text or "").split("\n")[:-2]) + "\n"
    crontab.file.write_text(broken)
    for words in (("remove",), ("add", "--at", "@daily", "--name", "b")):
        ended = orch(*words)
        assert ended.code == 2 and 'line 1 ("# orch: begin schedule default' in ended.err and "crontab -e" in ended.err
    assert crontab.text == broken and schedules.names(project.system) == ["default"]


def test_one_that_cannot_be_read_is_named_and_can_be_removed(project, crontab, orch) -> None:
    orch("add", "--at", "@daily")
    orch("add", "--at", "@hourly", "--name", "b")
    (project.system / "schedules" / "default.json").write_text("{")
    ended = orch("list")
    assert ended.out.startswith("b: ") and "default.json cannot be read" in ended.err
    assert orch("remove", "default").code == 0 and crontab.times() == ["0 * * * *"]
    shutil.rmtree(project.system / "schedules")
    assert orch("remove", "b").code == 0 and crontab.text is None, "its block alone is enough to find it by"
    ended = orch("remove", "b")
    assert ended.code == 2 and "there is no schedule b" in ended.err


def test_lines_whose_files_are_gone_are_said_and_can_be_taken_out(project, crontab, orch) -> None:
    assert orch("add", "--at", "@daily").code == 0
    shutil.rmtree(project.system)
    ended = orch("list")
    assert "schedule default is in the crontab, but its file is gone; `orch cron remove default`" in ended.err
    assert orch("remove").code == 0 and crontab.text is None
    assert orch("list").err == ""


def test_what_was_removed_and_never_stood_in_the_crontab_is_said(project, crontab, orch) -> None:
    assert orch("add", "--at", "@daily").code == 0
    crontab.file.write_text("# of another place\n")
    assert "nothing of it was in the crontab" in orch("remove").err


def test_a_secret_that_only_this_shell_has_is_said(project, crontab, orch) -> None:
    project.settings('[secrets]\ntoken = { env = "TOKEN" }\nkey = { file = ".key" }\n')
    ended = orch("add", "--at", "@daily", TOKEN="abcdef")
    assert ended.code == 0
    assert "cron will not have TOKEN, which the secret token is taken from: keep that in a file" in ended.err
    assert "key" not in ended.err and "abcdef" not in ended.text


def test_many_at_once_lose_none(project, crontab, orch) -> None:
    crontab.is_now("slow")
    crontab.file.write_text("1 1 * * * mine\n")
    names = [f"s{number}" for number in range(4)]
    started = [
        project.start("cron", "add", "--at", f"{n} 3 * * *", "--name", name, env=crontab.env)
        for n, name in enumerate(names)
    ]
    assert [one.wait().code for one in started] == [0] * 4
    assert sorted(crontab.times()) == sorted(["1 1 * * * mine", *(f"{n} 3 * * *" for n in range(4))])
    assert [row["name"] for row in json.loads(orch("list", "--json").out)] == names
    started = [project.start("cron", "remove", name, env=crontab.env) for name in names]
    assert [one.wait().code for one in started] == [0] * 4 and crontab.text == "1 1 * * * mine\n"


def test_what_comes_before_the_entry_is_in_place_is_not_due(project, crontab, orch) -> None:
    crontab.is_now("slow")
    assert orch("add", "--at", "@hourly").code == 0
    assert epoch(schedules.read(project.system, "default").since) >= crontab.file.stat().st_mtime - 0.01


def test_of_two_of_one_name_one_is_refused(project, crontab, orch) -> None:
    crontab.is_now("slow")
    started = [project.start("cron", "add", "--at", f"{n} 3 * * *", env=crontab.env) for n in (1, 2)]
    assert sorted(one.wait().code for one in started) == [0, 2]
    assert crontab.times() == [schedules.read(project.system, "default").at]


# What cron starts


def run_as_cron(script: Path, *, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """With the environment that it gives, in another folder, its line read by the shell."""
    env = {"HOME": "/", "LOGNAME": "me", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        ["/bin/sh", "-c", f"/bin/sh {_shell(script)}"],
        cwd="/",
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def _shell(path: Path) -> str:
    return "'" + str(path).replace("'", "'\"'\"'") + "'"


def due_now(project: Project, name: str, **keys: object) -> None:
    """What was added has been due at the last full minute, for the first time."""
    one = schedules.read(project.system, name)
    schedules.write(project.system, one.replace(at="* * * * *", since=iso(time.time() // 60 * 60 - 1), **keys))


@pytest.mark.parametrize("folder", ["plain", 'pro ject\'s 100% "ü" $HOME'])
def test_the_script_runs_what_is_due_from_any_folder_with_next_to_no_environment(
    projects, crontab, folder: str
) -> None:
    project = projects(folder)
    project.commands({"number": 1, "name": "work", "run": 'echo "$ORCH_DUE $(pwd)" >> seen; exit ${FAIL:-0}'})
    ended = project.orch("cron", "add", "--at", "@yearly", "--", "--only", "1", env=crontab.env)
    assert ended.code == 0, ended
    due_now(project, "default")
    line = (crontab.text or "").splitlines()[1].removeprefix("0 0 1 1 * ")
    script = project.system / "schedules" / "default.sh"
    assert line.replace("\\%", "%") == f"/bin/sh {_shell(script)}"
    done = run_as_cron(script)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    assert project.lines("seen")[0].endswith(f" {project.root}")
    assert (project.system / "logs" / "cron" / "default.log").read_text() == ""


def test_what_goes_wrong_is_passed_on_and_kept_and_so_is_the_exit_code(project, crontab, orch) -> None:
    project.commands({"number": 1, "name": "work", "run": "echo broken; exit 3", "retries": 0})
    orch("add", "--at", "@yearly", "--name", "night")
    due_now(project, "night")
    done = run_as_cron(project.system / "schedules" / "night.sh")
    log = project.system / "logs" / "cron" / "night.log"
    assert done.returncode == 1 and "broken" in done.stdout
    assert log.read_text() == done.stdout and stat.S_IMODE(log.stat().st_mode) == 0o600
    assert project.orch("fsck").code == 0


def test_a_pipe_that_nobody_reads_does_not_end_the_run(project, crontab, orch) -> None:
    project.commands({"number": 1, "name": "work", "run": "echo broken; touch done; exit 3", "retries": 0})
    orch("add", "--at", "@yearly")
    due_now(project, "default")
    read, write = os.pipe()
    os.close(read)
    try:
        run_as_cron(project.system / "schedules" / "default.sh", stdout=write)
    finally:
        os.close(write)
    assert (project.root / "done").exists()
    assert "broken" in (project.system / "logs" / "cron" / "default.log").read_text()


def test_a_folder_that_no_line_can_name_is_refused(projects, crontab) -> None:
    project = projects("two\nlines")
    ended = project.orch("cron", "add", "--at", "@daily", env=crontab.env)
    assert ended.code == 2 and "no line for cron can name this folder" in ended.err and crontab.text is None


def test_a_schedule_that_was_removed_while_cron_starts_it_is_named(project, crontab, orch) -> None:
    schedules.write(project.system, Schedule("other", "@daily"))
    ended = project.orch("cron", "fire", "default")
    assert ended.code == 2 and "there is no schedule default" in ended.err


def test_a_start_that_did_not_come_reaches_the_outbox(project, crontab, orch) -> None:
    """The two entries, and the real orch between them: what was begun is not missed, and what was not is told once."""
    project.settings(FAST + '[notify.ops]\nurl = "http://127.0.0.1:9/"\n')
    orch("add", "--at", "@yearly", "--watch-after", "60s")
    due_now(project, "default")
    watch = project.system / "schedules" / "default.watch.sh"
    schedules.write_next(project.system, "default", time.time() - 1)
    assert run_as_cron(project.system / "schedules" / "default.sh").returncode == 0
    assert run_as_cron(watch).stdout == "", "it was begun"
    schedules.write_next(project.system, "default", time.time() - 1)
    assert "nobody started what was due" in run_as_cron(watch).stdout and run_as_cron(watch).stdout == ""
    (message,) = json.loads(project.orch("notify", "list", "--json").out)
    assert message["event"] == "missed" and message["id"].startswith("missed.default.")
    assert project.orch("notify", "drop", "--all").code == 0


def test_what_the_document_shows_can_be_typed(project, crontab, orch) -> None:
    (block,) = [each for each in blocks("docs/usage.md") if each.section == "Every night"]
    project.commands(*({"number": number, "name": "work", "run": "true", "needs": []} for number in (1, 3)))
    lines = block.text.splitlines()
    assert len(lines) == 5
    for line in lines:
        ended = orch(*shlex.split(line)[2:])
        assert ended.code == 0, (line, ended)
    assert orch("remove").code == 0 and crontab.text is None
