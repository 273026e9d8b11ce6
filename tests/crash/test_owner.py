"""Who is alive: decided rightly in every case in which a pid, a clock, a name or a record says something else."""

from __future__ import annotations

import ast
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import process
from tests.crash import namespaces as ns
from tests.crash.test_hung import hang
from tests.crash.warm import Warm, warm
from tests.driving import FAST, ORCH, PACKAGE, PATIENCE, TIMES, Project, Started, wait_for

__all__ = ["warm"]

ALIVE, DEAD, STOPPED, UNKNOWABLE = process.ALIVE, process.DEAD, process.STOPPED, process.UNKNOWABLE
DATES = (1, -1, 3650, -3650)  # days
SOME_DATES = DATES if TIMES else (1, -3650)
SOME_CLOCKS = (ns.clocks(100_000), ns.clocks(-30)) if TIMES else (ns.clocks(100_000),)


class Sleeper:
    """A process that does nothing; not reaped until it is told."""

    def __init__(self, *argv: str) -> None:
        self._popen = subprocess.Popen(argv or ("sleep", "1000.75"))
        self.pid = self._popen.pid
        self.who = ns.identity_of(self.pid)

    def kill(self) -> None:
        self._popen.send_signal(signal.SIGKILL)
        wait_for(lambda: (entry := process.entry_of(self.pid)) is not None and entry.is_over)

    def reap(self) -> None:
        self._popen.kill()
        self._popen.wait(PATIENCE)


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    made = Sleeper()
    yield made
    made.reap()


# ---- the decision itself, by somebody at another place: while it lives, while it is a zombie, when nothing is left


@pytest.fixture
def boot_ids(tmp_path: Path) -> Path:
    (tmp_path / "other").write_text("11111111-2222-3333-4444-555555555555\n")
    (tmp_path / "unreadable").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("place", "user", "expected"),
    [
        ("here", 0, (ALIVE, STOPPED, DEAD, DEAD)),
        ("as nobody, who may not signal it", ns.NOBODY, (ALIVE, STOPPED, DEAD, DEAD)),
        ("as nobody, from whom /proc hides it", ns.NOBODY, (UNKNOWABLE, UNKNOWABLE, UNKNOWABLE, DEAD)),
        ("other clocks since the boot", 0, (ALIVE, STOPPED, DEAD, DEAD)),
        ("clocks that began later", 0, (ALIVE, STOPPED, DEAD, DEAD)),
        ("other pids", 0, (UNKNOWABLE,) * 4),
        ("other host", 0, (UNKNOWABLE,) * 4),
        ("after a restart", 0, (DEAD,) * 4),
        ("boot id unreadable", 0, (UNKNOWABLE,) * 4),
        *((f"the date set by {days} days", 0, (ALIVE, STOPPED, DEAD, DEAD)) for days in DATES),
    ],
)
def test_seen_from(sleeper: Sleeper, boot_ids: Path, place: str, user: int, expected: tuple[str, ...]) -> None:
    prefix = {
        "as nobody, from whom /proc hides it": ns.hidden(), "other clocks since the boot": ns.clocks(100_000),
        "clocks that began later": ns.clocks(-30), "other pids": ns.PIDS, "other host": ns.HOST,
        "after a restart": ns.boot(boot_ids / "other"), "boot id unreadable": ns.boot(boot_ids / "unreadable"),
        **{f"the date set by {days} days": ns.date(days) for days in DATES},
    }.get(place, ())  # fmt: skip
    ns.needs(prefix)
    if user and os.getuid():
        pytest.skip("only root can become somebody else")
    who, seen = json.dumps(sleeper.who.as_dict()), list[str]()
    with ns.Reader(prefix, user) as reader:
        seen.append(reader.judge(who))
        os.kill(sleeper.pid, signal.SIGSTOP)
        wait_for(lambda: process.is_alive(sleeper.who) == STOPPED)
        seen.append(reader.judge(who))
        sleeper.kill()
        os.kill(sleeper.pid, 0)  # a zombie: the kernel still knows it
        seen.append(reader.judge(who))
        sleeper.reap()
        seen.append(reader.judge(who))
    assert tuple(seen) == expected


def test_a_pid_that_is_used_again_in_the_same_tick_and_later() -> None:
    ns.needs(ns.PIDS)
    ran = subprocess.run(
        [*ns.PIDS, sys.executable, "-c", ns.SAME_TICK], capture_output=True, text=True, timeout=PATIENCE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PACKAGE}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    same, later = map(ast.literal_eval, ran.stdout.splitlines())
    assert later == (True, False, ALIVE, DEAD, DEAD, ALIVE, False)
    if not process.myself().serial:
        pytest.skip("this kernel gives processes no number of their own: within a tick nobody can tell them apart")
    assert same == (True, True, ALIVE, DEAD, DEAD, ALIVE, False)


@pytest.mark.parametrize("name", ["a) R 1 (b", "new\nline", "a)\nZ 1 1 (", ") S 0", "\x1b[31m"])
def test_whatever_it_calls_itself(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/bin/sleep")
    named = Sleeper(str(tmp_path / name), "1000.75")
    wait_for(lambda: name[:15] in Path(f"/proc/{named.pid}/comm").read_text())
    assert process.is_alive(named.who) == ALIVE
    assert process.describe(named.pid).isprintable()
    named.kill()
    assert process.is_alive(named.who) == DEAD
    named.reap()


@pytest.mark.parametrize("pid", [0, -1, -(2**31) + 1, 2**31 - 1, 1])
def test_numbers_that_are_nobodys_pid_are_dead_and_nobody_is_signalled(sleeper: Sleeper, pid: int) -> None:
    """Ticks of another, or of nobody: in particular never 0 and -1, which would mean everybody."""
    for ticks in (0, -1, sleeper.who.ticks):
        who = sleeper.who.replace(pid=pid, ticks=ticks, serial=0)
        assert process.is_alive(who) == DEAD
        assert not process.send(who, signal.SIGKILL)
        assert process.end_by_identity(who, 0.0)
        assert process.end_groups_of(pid) == []
    assert process.is_alive(sleeper.who) == ALIVE


def test_the_first_process_is_one_like_others() -> None:
    assert process.is_alive(ns.identity_of(1)) == ALIVE


def test_one_that_died_with_the_thread_that_spawned_it_is_dead_for_all() -> None:
    """What becomes of a child is bound to its parent's main thread: PR_SET_PDEATHSIG of a thread ends it too soon."""
    code = (
        "import threading, time\nfrom orchestrator import process\nfrom orchestrator.process import Launch\n"
        "made = []\nthread = threading.Thread(target=lambda: made.append(process.start(Launch(('sleep', '1000.75')))))\n"
        "thread.start(); thread.join(); time.sleep(0.1)\n"
        "print(process.is_alive(process.identity(made[0]))); process.end_group(made[0])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.stdout.strip() == DEAD, "the trap is gone: the rule that only the main thread spawns could be, too"


# ---- the same through the commands of a user


def one_phase(project: Project) -> None:
    project.settings('beat_interval = "0.5s"\nheartbeat_timeout = "60s"\n' + FAST)
    project.commands(
        {"number": 1, "name": "long", "needs": [], "run": "echo 1 >> ran; until test -e go; do sleep 0.05; done"}
    )


def at_work(project: Project, argv: tuple[str, ...] = ORCH) -> Started:
    one_phase(project)
    run = project.start("run", argv=argv)
    run.until(lambda: project.lines("ran"))
    run.until(lambda: project.state()["phases"]["1"]["step"] == "running")
    return run


def seen(project: Project, place: ns.Prefix | Warm) -> tuple[str, str, bool]:
    """The state of the run, that of its phase, and whether the agent counts as alive; a Warm is here."""
    words = ("status", "--json")
    ended = place.orch(project, *words) if isinstance(place, Warm) else project.orch(*words, before=place)
    assert ended.code == 0, ended
    found = json.loads(ended.out)
    return found["run"]["state"], found["phases"][0]["status"], any(agent["alive"] for agent in found["agents"])


GOES_ON = "phase 1: its agent is alive and goes on with it\n"
UNTOLD = "phase 1: whether its agent is alive cannot be told from here; "


def test_an_agent_that_lives_is_left_its_work_by_whoever_recovers_from_wherever(
    project: Project, warm: Warm, boot_ids: Path
) -> None:
    """Its orchestrator is dead. Who cannot tell leaves it alone as well, and says so."""
    unreadable = ns.boot(boot_ids / "unreadable")
    ns.needs(ns.PIDS, ns.HOST, unreadable, ns.clocks(100_000), ns.date(1))
    at_work(project).kill()
    assert seen(project, warm) == ("detached", "in_progress", True)
    assert seen(project, ns.boot(boot_ids / "other")) == ("interrupted", "failed", False)
    places = dict.fromkeys(((), *SOME_CLOCKS, *map(ns.date, SOME_DATES)), GOES_ON)
    for place, told in {**places, **dict.fromkeys((ns.PIDS, ns.HOST, unreadable), UNTOLD)}.items():
        recovered = project.orch("recover", before=place)
        assert recovered.code == 0 and recovered.out.startswith(told), (place, recovered)
        assert seen(project, warm)[:2] == ("detached", "in_progress"), place
    project.file("go", "")
    ended = warm.orch(project, "run")
    assert ended.code == 0, ended
    assert project.lines("ran") == ["1"]
    project.assert_nothing_left()


def test_an_orchestrator_that_lives_is_not_taken_over_because_a_clock_was_set(project: Project) -> None:
    """The heartbeat is as old as the clock that nobody sets says, whatever the date is; also before the first one."""
    ns.needs(ns.date(1), ns.clocks(100_000))
    run = at_work(project)
    for word in ("recover", "run"):
        for place in (*map(ns.date, SOME_DATES), *(SOME_CLOCKS if word == "recover" else ())):
            second = project.orch(word, before=place)
            assert second.code == 75, (place, second)
            assert f"another run is active (pid {run.pid} on " in second.err
        assert seen(project, ns.date(1)) == ("running", "in_progress", True)
        (project.system / "logs" / "heartbeat.json").unlink(missing_ok=True)
    project.file("go", "")
    assert run.wait().code == 0
    assert project.lines("ran") == ["1"]


def test_after_the_date_was_set_back_a_loop_that_hangs_is_still_found(project: Project, warm: Warm) -> None:
    """Ten years ahead when it began: by the date it would be silent for nobody, for ten years."""
    ns.needs(ns.date(3650))
    hung = hang(project, ns.date(3650))
    wait_for(lambda: json.loads(warm.orch(project, "status", "--json").out)["run"]["hung"])
    project.file("go", "")
    ended = project.orch("run")
    assert ended.code == 0 and f"took over from pid {hung.pid}, which hung" in ended.err, ended
    assert hung.wait().code == -signal.SIGKILL
    assert project.lines("ran") == ["begin 2", "1", "end 2", "3"]
    project.assert_nothing_left()


def test_who_died_with_all_is_dead_from_wherever_that_can_be_told(project: Project, warm: Warm, boot_ids: Path) -> None:
    """And where the record of it is damaged; where it cannot be told, it is waited for, and not for ever."""
    ns.needs(ns.PIDS, ns.HOST, ns.clocks(100_000), ns.date(1))
    at_work(project)
    project.end_all()
    dead = ("interrupted", "failed", False)
    for place in (warm, *SOME_CLOCKS, ns.boot(boot_ids / "other"), *map(ns.date, SOME_DATES)):
        assert seen(project, place) == dead, place
    for place in (ns.PIDS, ns.HOST, ns.boot(boot_ids / "unreadable")):
        recovered = project.orch("recover", before=place)
        assert recovered.code == 0 and recovered.out.startswith(UNTOLD), (place, recovered)
    assert seen(project, ns.HOST)[1] == "in_progress"
    assert seen(project, (*ns.date(1), *ns.PIDS))[1] == "failed", "longer than stale_after"
    (record,) = (project.system / "agents").glob("*/identity.json")
    whole = json.loads(record.read_text())
    for damage in (
        "", "{", "\x00" * 40, "[]", "null", json.dumps({**whole, "pid": 0}), json.dumps({**whole, "pid": -1}),
        json.dumps({**whole, "pid": 1}), json.dumps({**whole, "ticks": None}), json.dumps({**whole, "pid": 10**30}),
    ):  # fmt: skip
        record.write_text(damage)
        assert seen(project, warm) == dead, damage
    assert "phase 1: failed, INTERRUPTED" in warm.orch(project, "recover").out
    project.file("go", "")
    assert warm.orch(project, "run").code == 0
    assert project.lines("ran") == ["1", "1"]


def test_an_agent_that_lives_and_whose_record_is_damaged_keeps_its_work(project: Project, warm: Warm) -> None:
    """The journal knows it, too."""
    at_work(project).kill()
    (record,) = (project.system / "agents").glob("*/identity.json")
    for damage in ("", "{", None):
        record.unlink() if damage is None else record.write_text(damage)
        assert seen(project, warm) == ("detached", "in_progress", True)
        assert warm.orch(project, "recover").out == GOES_ON
    project.file("go", "")
    assert warm.orch(project, "run").code == 0
    assert project.lines("ran") == ["1"]
    project.assert_nothing_left()


def test_a_zombie_owns_nothing(project: Project, warm: Warm) -> None:
    """Killed, and whoever inherits it never reaps: here that is this test."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    try:
        run = at_work(project)
        (agent,) = project.agents()
        run.kill()
        os.kill(agent, signal.SIGKILL)
        wait_for(lambda: (entry := process.entry_of(agent)) is not None and entry.is_over)
    finally:
        libc.prctl(36, 0, 0, 0, 0)
    os.kill(agent, 0)
    assert seen(project, warm) == ("interrupted", "failed", False)
    project.file("go", "")
    ended = warm.orch(project, "run")
    assert ended.code == 0 and "INTERRUPTED" in ended.out, ended
    assert project.lines("ran") == ["1", "1"]
    os.waitpid(agent, 0)


def test_whoever_got_the_pids_of_the_dead_owns_nothing_and_is_not_touched(project: Project) -> None:
    """A place where pids can be handed out at will: orchestrator and agent die, and strangers get their pids."""
    ns.needs(ns.PIDS)
    with ns.Pids(project.root) as there:
        run = at_work(project, (*there.prefix, *ORCH))
        owners = [json.loads(path.read_text())["pid"] for path in (project.system / "agents").glob("*/identity.json")]
        owners.append(project.state()["run"]["owner"]["pid"])
        project.end_all()
        run.wait()
        wait_for(lambda: not any(map(there.is_there, owners)))
        strangers = [int(there.hand_out(pid).stdout) for pid in owners]
        assert strangers == owners, "the fault did not fire"
        assert seen(project, there.prefix) == ("interrupted", "failed", False)
        recovered = project.orch("recover", before=there.prefix)
        assert "phase 1: failed, INTERRUPTED" in recovered.out, recovered
        project.file("go", "")
        ended = project.orch("run", before=there.prefix)
        assert ended.code == 0, ended
        assert project.lines("ran") == ["1", "1"]
        assert [there.is_there(pid) for pid in strangers] == [True, True]
