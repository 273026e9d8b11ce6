"""Processes by identity, trees, and what new processes inherit: on real ones."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import process
from orchestrator.core.names import Identity
from orchestrator.core.spec import Limits
from orchestrator.process import Launch, LaunchFault

OF_THE_C_LIBRARY = 0b11 << 31  # signals 32 and 33, which no program may set: they are as our own parent left them


def wait_for(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)
    return found


@pytest.fixture
def spawn() -> Iterator[Callable[..., int]]:
    made: list[int] = []

    def make(*argv: str, **changes: Any) -> int:
        made.append(process.start(Launch(argv, **changes)))
        return made[-1]

    yield make
    for pid in made:
        table = process.scan()
        if pid in table:
            process.insist([table[pid], *process.below([pid], table)], table, [table[pid].group])
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass


def sleeper(spawn: Callable[..., int]) -> Identity:
    found = process.identity(spawn("sleep", "1000.75"))
    assert found is not None
    return found


# ── identity ───────────────────────────────────────────────────────────────────────────────────────────────────


def alive(pid: int) -> bool:
    entry = process.entry_of(pid)
    return entry is not None and not entry.is_over


def test_i_am_alive() -> None:
    me = process.myself()
    assert me.pid == os.getpid()
    assert process.is_alive(me) == process.ALIVE
    assert process.identity(me.pid) == me


def test_a_pid_used_again_is_somebody_else(spawn: Callable[..., int]) -> None:
    who = sleeper(spawn)
    assert process.is_alive(who.replace(ticks=who.ticks - 1)) == process.DEAD
    assert not process.send(who.replace(ticks=who.ticks - 1), signal.SIGKILL)
    assert process.is_alive(who) == process.ALIVE


def test_other_boot_other_host_and_unknown(spawn: Callable[..., int]) -> None:
    who = sleeper(spawn)
    assert process.is_alive(who.replace(boot="another")) == process.DEAD
    assert process.is_alive(who.replace(host="another")) == process.UNKNOWABLE
    assert process.is_alive(who.replace(host="another", boot="another")) == process.UNKNOWABLE
    assert process.is_alive(who.replace(boot="")) == process.UNKNOWABLE


def test_a_zombie_is_dead(spawn: Callable[..., int]) -> None:
    who = sleeper(spawn)
    os.kill(who.pid, signal.SIGKILL)
    wait_for(lambda: process.is_alive(who) == process.DEAD)
    os.kill(who.pid, 0)  # and yet the kernel still knows it: nobody has reaped it
    assert not process.send(who, signal.SIGTERM)
    assert process.await_end(who, 0)


def test_stopped_and_continued(spawn: Callable[..., int]) -> None:
    who = sleeper(spawn)
    process.send(who, signal.SIGSTOP)
    wait_for(lambda: process.is_alive(who) == process.STOPPED)
    process.send(who, signal.SIGCONT)
    wait_for(lambda: process.is_alive(who) == process.ALIVE)


def test_names_with_brackets_and_blanks(tmp_path: Path, spawn: Callable[..., int]) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    pid = spawn(str(program), "1000.75")
    entry = process.entry_of(pid)
    assert entry is not None
    assert (entry.parent, entry.session) == (os.getpid(), pid)


def test_an_identity_survives_its_journey() -> None:
    me = process.myself()
    assert Identity.from_dict(me.as_dict()) == me


# ── ends ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_heeds_is_asked_and_who_does_not_is_killed(spawn: Callable[..., int]) -> None:
    polite = sleeper(spawn)
    assert process.end_by_identity(polite, 5.0)
    assert os.WTERMSIG(os.waitpid(polite.pid, 0)[1]) == signal.SIGTERM
    deaf = process.identity(spawn("sh", "-c", "trap '' TERM; echo; while :; do sleep 0.1; done"))
    assert deaf is not None
    time.sleep(0.2)
    assert process.end_by_identity(deaf, 0.2)
    assert os.WTERMSIG(os.waitpid(deaf.pid, 0)[1]) == signal.SIGKILL


def test_a_stopped_process_is_woken_to_hear_it(spawn: Callable[..., int]) -> None:
    who = sleeper(spawn)
    process.send(who, signal.SIGSTOP)
    began = time.monotonic()
    assert process.end_by_identity(who, 20.0)
    assert time.monotonic() - began < 10
    assert os.WTERMSIG(os.waitpid(who.pid, 0)[1]) == signal.SIGTERM


def test_await_end_gives_up(spawn: Callable[..., int]) -> None:
    assert not process.await_end(sleeper(spawn), 0.05)


def test_whole_trees_are_seen(spawn: Callable[..., int]) -> None:
    pid = spawn("sh", "-c", "sleep 1000.75 & setsid sh -c 'sleep 1000.75; :' & wait")
    assert len(wait_for(lambda: (found := process.descendants(pid)) and len(found) == 3 and found)) == 3
    assert len(process.children_of(pid)) == 2
    assert pid not in process.descendants(pid)


def test_end_group_ends_and_reaps() -> None:
    pid = process.spawn_child(["sh", "-c", "sleep 1000.75 & sleep 1000.75; :"], keep_fds=(), env=None, cwd="/")
    below = wait_for(lambda: (found := process.descendants(pid)) and len(found) == 2 and found)
    process.end_group(pid)
    assert process.entry_of(pid) is None
    wait_for(lambda: all((entry := process.entry_of(each)) is None or entry.is_over for each in below))


def test_never_ourselves() -> None:
    me = process.entry_of(os.getpid())
    assert me is not None
    process.insist([me], {}, [me.group, 0, 1])
    process.ask([me])


def test_a_pid_that_is_used_again_is_not_hit() -> None:
    """In a storm of forks a listing is old by the time it is used: whoever has the pid by then is a stranger."""
    pid = process.spawn_child(["sh", "-c", "sleep 1000.76 & wait"], keep_fds=(), env=None, cwd="/")
    (child,) = wait_for(lambda: process.children_of(pid))
    table = process.scan()
    earlier = table[child]._replace(ticks=table[child].ticks - 5)
    process.insist([earlier], table, [earlier.group])
    process.ask([earlier])
    other_parent = {**table, pid: table[pid]._replace(ticks=table[pid].ticks - 5)}
    process.insist([table[child]], other_parent, [table[child].group])
    time.sleep(0.2)
    assert alive(pid) and alive(child)
    process.insist([table[pid], table[child]], table, [table[child].group])
    wait_for(lambda: not alive(pid) and not alive(child))
    process.end_group(pid)


def test_reap_takes_who_has_ended(spawn: Callable[..., int]) -> None:
    pid = spawn("sh", "-c", "exit 7")
    ended = dict[int, int]()

    def is_among_them() -> bool:  # with orphans that this process may have inherited
        ended.update(process.reap())
        return pid in ended

    wait_for(is_among_them)
    assert os.waitstatus_to_exitcode(ended[pid]) == 7


# ── the last resort ────────────────────────────────────────────────────────────────────────────────────────────


def test_orphans_are_known_by_their_tags(spawn: Callable[..., int], tmp_path: Path) -> None:
    tags = {**os.environ, "ORCH_PROJECT": str(tmp_path), "ORCH_AGENT": "gone"}
    ours = spawn("sh", "-c", "trap '' TERM; setsid sleep 1000.75 & wait; wait; sleep 1000.75", env=tags)
    others = [
        spawn("sleep", "1000.75", env={**tags, "ORCH_AGENT": "alive"}),
        spawn("sleep", "1000.75", env={**tags, "ORCH_PROJECT": f"{tmp_path}/other"}),
    ]
    wait_for(lambda: len(process.descendants(ours)) == 1)
    names = process.end_orphans(tmp_path, ["gone"], grace=0.1)
    assert len(names) == 2
    assert any("sleep 1000.75" in name for name in names)
    assert process.find_tagged(tmp_path, ["gone"]) == []
    assert [process.entry_of(pid).is_over for pid in others] == [False, False]  # type: ignore[union-attr]


def test_orphans_are_known_by_the_session_of_an_attempt(spawn: Callable[..., int]) -> None:
    pid = spawn("sh", "-c", "sleep 1000.75 & sleep 1000.75; :", env={"PATH": os.environ["PATH"]})
    who = process.identity(pid)
    assert who is not None
    wait_for(lambda: len(process.descendants(pid)) == 2)
    assert {found.pid for found in process.find_tagged("/nowhere", [], [who])} == {pid, *process.descendants(pid)}
    assert process.find_tagged("/nowhere", [], [who.replace(ticks=who.ticks + 1)]) == []
    assert process.find_tagged("/nowhere", [], [who.replace(ticks=who.ticks - 1)]) == []
    assert len(process.end_orphans("/nowhere", [], [who], grace=0.1)) == 3


CHAIN = "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setsid()\n"


def test_orphans_that_are_never_older_than_a_moment(tmp_path: Path) -> None:
    """Each forks and dies before a listing of /proc is through: met by the newest pid, not by a list."""
    tags = {**os.environ, "ORCH_PROJECT": str(tmp_path), "ORCH_AGENT": "gone"}
    os.waitpid(process.start(Launch((sys.executable, "-I", "-S", "-c", CHAIN), env=tags, dies_with_parent=False)), 0)
    assert any("import os" in name for name in process.end_orphans(tmp_path, ["gone"], grace=0.0, patience=20))
    for _ in range(5):
        assert process.find_tagged(tmp_path, ["gone"]) == []
        assert (
            process.chase(lambda entry: process.environment_of(entry.pid).get("ORCH_PROJECT") == str(tmp_path), 0.05)
            == []
        )


def test_strays_are_ended_and_those_we_know_are_not() -> None:
    def sleeping() -> int:
        return sum(process.describe(one) == f"{one} sleep 1000.75" for one in process.children_of(os.getpid()))

    pid = os.fork()  # a subreaper of its own: the children of pytest are none of this test's
    if pid == 0:
        try:
            process.become_subreaper()
            kept = process.start(Launch(("sleep", "1000.75")))
            process.start(
                Launch(("sh", "-c", "setsid sleep 1000.75 & setsid sleep 1000.75 & exit 0"), dies_with_parent=False)
            )
            wait_for(lambda: sleeping() == 3)  # the shell is over, and each of its two is what it will be
            names = process.end_strays({kept})
            good = len(names) == 2 and process.children_of(os.getpid()) == [kept]
            process.end_group(kept)
            os._exit(0 if good else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


THREADS = """
import os, threading, time
def live():
    time.sleep(0.005)
while True:
    thread = threading.Thread(target=live); thread.start(); thread.join()
"""


def test_the_threads_of_a_child_that_we_know_are_no_strays() -> None:
    """They have numbers among the newest pids, and our name as their parent's."""
    pid = os.fork()
    if pid == 0:
        try:
            kept = process.start(Launch((sys.executable, "-I", "-S", "-c", THREADS)))
            seen = process.newest_pid()
            wait_for(lambda: process.newest_pid() > seen + 20)
            names = [name for _ in range(10) for name in process.end_strays({kept})]
            good = names == [] and process.children_of(os.getpid()) == [kept]
            process.end_group(kept)
            os._exit(0 if good else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ── new processes ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_child_inherits_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    out = os.open(tmp_path / "out", os.O_CREAT | os.O_RDWR)
    kept, lost = os.pipe()
    os.set_inheritable(lost, True)
    code = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')), os.getcwd(), os.environ['A'], os.getsid(0) == os.getpid(), flush=True)"
    pid = process.spawn_child(
        [sys.executable, "-I", "-S", "-c", code], keep_fds=(kept,), env={"A": "b"}, cwd=str(tmp_path), output=out
    )
    os.waitpid(pid, 0)
    assert (tmp_path / "out").read_text() == f"{[0, 1, 2, kept]} {tmp_path} b True\n"
    for fd in (out, kept, lost):
        os.close(fd)


def test_signals_are_reset_and_held_back_until_then(tmp_path: Path) -> None:
    out = os.open(tmp_path / "out", os.O_CREAT | os.O_RDWR)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        os.waitpid(
            process.spawn_child(
                ["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"], keep_fds=(), env=None, cwd="/", output=out
            ),
            0,
        )
    finally:
        signal.signal(signal.SIGHUP, before)
        os.close(out)
    masks = [int(line.split()[1], 16) for line in (tmp_path / "out").read_text().splitlines()]
    assert [mask & ~OF_THE_C_LIBRARY for mask in masks] == [0, 0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


@pytest.mark.parametrize(
    ("argv", "changes", "stage", "kind"),
    [
        (("no-such-program",), {}, "exec", FileNotFoundError),
        (("/etc/passwd",), {}, "exec", PermissionError),
        (("true",), {"cwd": "/nowhere"}, "chdir", FileNotFoundError),
        (("true",), {"limits": Limits(open_files=-5)}, "limits", OSError),
    ],
)
def test_why_it_did_not_start(argv: tuple[str, ...], changes: dict[str, Any], stage: str, kind: type[OSError]) -> None:
    others = process.children_of(os.getpid())
    with pytest.raises(LaunchFault) as caught:
        process.start(Launch(argv, **changes))
    assert caught.value.stage == stage
    assert kind is OSError or caught.value.errno == kind(2 if kind is FileNotFoundError else 13, "").errno
    assert set(process.children_of(os.getpid())) <= set(others)


def test_it_dies_with_its_parent_and_a_detached_one_does_not(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        bound = process.spawn_child(["sleep", "1000.75"], keep_fds=(), env=None, cwd="/")
        free = process.spawn_detached(
            ["sh", "-c", "echo up >&2; exec sleep 1000.75"], keep_fds=(), env=None, cwd="/", log=tmp_path / "log"
        )
        (tmp_path / "pids").write_text(f"{bound} {free}")
        wait_for(lambda: (tmp_path / "log").read_text())
        os._exit(0)
    os.waitpid(pid, 0)
    bound, free = (int(word) for word in (tmp_path / "pids").read_text().split())
    wait_for(lambda: (entry := process.entry_of(bound)) is None or entry.is_over)
    who = process.identity(free)
    assert who is not None
    assert process.is_alive(who) == process.ALIVE
    assert [os.readlink(f"/proc/{free}/fd/{fd}") for fd in range(3)] == [
        "/dev/null",
        "/dev/null",
        str(tmp_path / "log"),
    ]
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600
    assert process.end_by_identity(who, 2.0)


def test_who_is_adopted_is_announced_before() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        process.become_subreaper()
        template = os.fork()
        if template == 0:
            process.fork_adopted(
                lambda middle: time.sleep(1000), lambda child: os.write(writer, f"{child}\n".encode()) and None
            )
            time.sleep(1000)
        while not (strange := [each for each in process.children_of(os.getpid()) if each != template]):
            pass
        os.write(writer, f"{strange}\n".encode())
        process.end_strays(set())
        os._exit(0)
    os.close(writer)
    with open(reader) as said:
        announced, seen = said.read().splitlines()
    assert seen == f"[{announced}]"
    os.waitpid(pid, 0)


def test_a_fork_that_fails_says_why() -> None:
    def refuse(child: int) -> None:
        raise OSError(11, "no")

    with pytest.raises(OSError) as caught:
        process.fork_adopted(lambda middle: None, refuse)
    assert caught.value.errno == 11


def test_descriptions_are_cut_and_printable(spawn: Callable[..., int]) -> None:
    pid = spawn("sh", "-c", "sleep 1000.75; : \x1b[31m" + "x" * 500)
    text = process.describe(pid)
    assert text.startswith(f"{pid} sh -c")
    assert len(text) <= 120
    assert text.isprintable()
