"""The launcher: what it starts is no different from what the agent forks itself, and without it all goes on."""

from __future__ import annotations

import array
import json
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from orchestrator import process
from orchestrator.process.groups import Groups
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
PROGRAM = """import runpy, sys
where, first = sys.argv[1], int(sys.argv.pop(2))
del sys.argv[0]
names = runpy.run_path(where)
ways = names["_ways"]
names["main"].__globals__["_ways"] = lambda: [lambda group: -1] * first + ways()[first:]
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


def test_one_that_hangs_is_ended_and_what_it_owed_is_forked(agents: Callable[..., Driven]) -> None:
    agent = agents(load_timeout=0.4)
    assert agent.owner.run(order(1)).succeeded
    os.kill(launcher_of(agent), signal.SIGSTOP)
    assert agent.owner.run(order(2)).succeeded
    assert process.children_of(agent.pid) == []


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


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_fork_leads_to_the_same(control: tuple[socket.socket, socket.socket], way: int) -> None:
    """In a control group, where one can be made."""
    here, there = control
    groups = Groups()
    group = groups.make(f"way{way}")
    argv = [sys.executable, "-I", "-S", "-c", PROGRAM, process.LAUNCHER, str(way), str(there.fileno())]
    launcher = subprocess.Popen(argv, pass_fds=[there.fileno()])
    there.close()
    report, said = os.pipe()
    output, printed = os.pipe()
    fds = [said, printed]
    if group is not None:
        fds.append(os.open(os.path.dirname(group.procs), os.O_RDONLY))
    words = [os.fsencode(word) for word in (sys.executable, "-I", "-S", "-c", ABOUT)]
    data = marshal.dumps((words, [words[0]], dict(os.environb), b"/"))
    here.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    for fd in fds:
        os.close(fd)
    assert select.select([report], [], [], 20)[0]
    with open(report, "rb") as told, open(output) as answer:
        pid, found = int(told.read()), json.load(answer)
    os.waitpid(pid, 0)  # ours, and not the launcher's
    here.close()
    assert launcher.wait(20) == 0
    groups.drop(group)
    assert (found["pid"], found["parent"], found["fds"]) == (pid, os.getpid(), [0, 1, 2])
    assert (found["subreaper"], found["deathsig"], found["cwd"]) == (1, signal.SIGKILL, "/")
    assert found["cgroup"] == (group is not None)
