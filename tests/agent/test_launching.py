"""The launcher: what it starts is no different from what the agent forks itself, and without it all goes on."""

from __future__ import annotations

import array
import json
import marshal
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from orchestrator import process
from orchestrator.agent.loop import Loop
from orchestrator.agent.tree import Census
from orchestrator.process.groups import Group, Groups
from tests.agent.driving import Driven, order, wait_for

ABOUT = """import ctypes, json, os
subreaper, deathsig = ctypes.c_int(), ctypes.c_int()
ctypes.CDLL(None).prctl(37, ctypes.byref(subreaper)), ctypes.CDLL(None).prctl(2, ctypes.byref(deathsig))
print(json.dumps(dict(pid=os.getpid(), parent=os.getppid(), session=os.getsid(0), group=os.getpgrp(), cwd=os.getcwd(),
    subreaper=subreaper.value, deathsig=deathsig.value, fds=sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    files=[os.readlink(f"/proc/self/fd/{fd}")[:5] for fd in range(3)], env=dict(os.environ),
    signals=[line for line in open("/proc/self/status") if line.startswith(("SigBlk", "SigIgn"))],
    cgroup=open("/proc/self/cgroup").read().count("orch-"))))
"""
# As `_ways` has them: born in its control group, born and then joined, and the call that older containers allow.
WAYS = range(3)
PROGRAM = """import runpy, sys, time
where, name, instead = sys.argv[1], sys.argv.pop(2), sys.argv.pop(2)
del sys.argv[0]
names = runpy.run_path(where)
names["main"].__globals__[name] = eval(instead, {"real": names[name], "time": time})
names["main"]()
"""


def about(agent: Driven, number: int = 1) -> dict[str, object]:
    what = order(number, (sys.executable, "-I", "-S", "-c", ABOUT))
    assert agent.owner.run(what).succeeded
    return dict(json.loads((agent.project / what.log).read_text()))


def launcher_of(agent: Driven) -> int:
    found = [pid for pid in process.children_of(agent.pid) if process.LAUNCHER in process.describe(pid, 1000)]
    assert len(found) == 1
    return found[0]


def same(one: dict[str, object]) -> dict[str, object]:
    varying = ("pid", "session", "group")
    plain = {name: value for name, value in one.items() if name not in varying}
    environ = {
        name: value for name, value in dict(one["env"]).items() if name[:8] not in ("ORCH_ATT", "ORCH_RES", "ORCH_AGE")
    }
    return {**plain, "env": environ, "parent": None}


def test_what_it_starts_is_as_what_the_agent_forks(agents: Callable[..., Driven]) -> None:
    with_it, without = agents(), agents(starts_programs=False)
    one, other = about(with_it), about(without)
    assert (one["parent"], other["parent"]) == (with_it.pid, without.pid)
    assert one["pid"] == one["session"] == one["group"]
    assert (one["subreaper"], one["deathsig"], one["fds"]) == (1, signal.SIGKILL, [0, 1, 2])
    assert same(one) == same(other)


def test_without_it_the_agent_forks_by_itself(agent: Driven) -> None:
    assert agent.owner.run(order(1)).succeeded
    os.kill(launcher_of(agent), signal.SIGKILL)
    wait_for(lambda: "launcher" in agent.log())
    assert agent.owner.run(order(2)).succeeded and about(agent, 3)["parent"] == agent.pid
    assert process.children_of(agent.pid) == []


def test_one_that_hangs_is_ended_and_what_it_owed_is_forked_with_all_its_time(agent: Driven) -> None:
    assert agent.owner.run(order(1)).succeeded
    os.kill(launcher_of(agent), signal.SIGSTOP)
    assert agent.owner.run(order(2, "sleep 0.1", timeout=2.0)).succeeded
    assert process.children_of(agent.pid) == []


def test_one_that_is_stopped_keeps_no_agent_here(agent: Driven) -> None:
    launcher = launcher_of(agent)
    os.kill(launcher, signal.SIGSTOP)
    agent.owner.close()
    agent.await_end()
    wait_for(lambda: process.entry_of(launcher) is None)


def test_who_is_being_born_is_nobodys_leftover(control: tuple[socket.socket, socket.socket]) -> None:
    """Between its fork and its first word nobody knows whose it is: no end of another attempt may hit it."""
    here, there = control
    loop = Loop(print)
    census = Census(loop)
    launcher, report, output = launched(there, here, "getpid", "lambda: time.sleep(1000.5)", ["true"])
    census.roots[launcher.pid], census.launcher = "", launcher.pid
    try:
        (born,) = wait_for(lambda: [one for one in process.scan().values() if one.session == launcher.pid != one.pid])
        assert born.parent == os.getpid()
        assert born.pid not in [one.pid for one in census.look(None, "another")[0]]
        assert not census.is_of(born, None, "another")
        census.launcher = 0
        assert born.pid in [one.pid for one in census.look(None, "another")[0]], "that alone has let it off"
    finally:
        for pid in (launcher.pid, born.pid):
            os.kill(pid, signal.SIGKILL)
        launcher.wait(), os.waitpid(born.pid, 0)
        os.close(report), os.close(output), loop.close()


def test_what_is_not_wanted_any_more_before_it_is_there_leaves_nothing(agent: Driven) -> None:
    launcher, many = launcher_of(agent), [order(number, ("sleep", "1000.5")) for number in range(1, 40)]
    for what in many:
        agent.owner.start(what)
        time.sleep(0.0001 * what.attempt.number)  # at each moment of a start once
        agent.owner.stop(what, insist=True)
    assert {agent.owner.outcome(what).kind for what in many} == {"stopped"}
    assert process.children_of(agent.pid) == [launcher]


def test_what_is_too_large_for_it_is_forked(agent: Driven) -> None:
    outcome = agent.owner.run(order(1, 'printf %s "$LONG" | wc -c', env={"LONG": "x" * 100_000, "MORE": "y" * 100_000}))
    assert outcome.tail == ("100000",)


def test_many_that_end_at_once_are_all_known(agent: Driven) -> None:
    """Some have ended before the agent has read their pid."""
    many = [order(number, ("true",)) for number in range(1, 60)]
    for what in many:
        agent.owner.start(what)
    assert all(agent.owner.outcome(what).succeeded for what in many)
    assert "fault" not in agent.log()


@pytest.fixture
def control() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield here, there
    here.close(), there.close()


def launched(
    there: socket.socket, here: socket.socket, name: str, instead: str, words: list[str], group: Group | None = None
) -> tuple[subprocess.Popen[bytes], int, int]:
    """A launcher in which `name` is something else, with one order; where it reports, and what the program prints."""
    argv = [sys.executable, "-I", "-S", "-c", PROGRAM, process.LAUNCHER, name, instead, str(there.fileno())]
    launcher = subprocess.Popen(argv, pass_fds=[there.fileno()], start_new_session=True)
    there.close()
    report, said = os.pipe()
    output, printed = os.pipe()
    fds = [said, printed]
    if group is not None:
        fds.append(os.open(os.path.dirname(group.procs), os.O_RDONLY))
    encoded = [os.fsencode(word) for word in words]
    data = marshal.dumps((encoded, [encoded[0]], dict(os.environb), b"/"))
    here.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    for fd in fds:
        os.close(fd)
    return launcher, report, output


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_fork_leads_to_the_same(control: tuple[socket.socket, socket.socket], way: int) -> None:
    """In a control group, where one can be made."""
    groups, words = Groups(), [sys.executable, "-I", "-S", "-c", ABOUT]
    group = groups.make(f"way{way}")
    instead = f"lambda: [lambda group: -1] * {way} + real()[{way}:]"
    launcher, report, output = launched(control[1], control[0], "_ways", instead, words, group)
    with open(report, "rb") as told, open(output) as answer:
        pid, found = int(told.read()), json.load(answer)
    os.waitpid(pid, 0)  # ours, and not the launcher's
    control[0].close()
    assert launcher.wait(20) == 0
    groups.drop(group)
    assert (found["pid"], found["parent"], found["fds"]) == (pid, os.getpid(), [0, 1, 2])
    assert (found["subreaper"], found["deathsig"], found["cwd"]) == (1, signal.SIGKILL, "/")
    assert found["cgroup"] == (group is not None)
