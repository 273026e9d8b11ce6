"""Phase -5: whether processes can be found, ended and limited here, which is what "dead is dead" rests on.

All of it is tried in a process of its own, the keeper, which adopts whatever is left over and ends it.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from orchestrator import ConfigurationFault, Context, phase, process
from orchestrator.core.names import Identity
from orchestrator.core.spec import Limits
from orchestrator.process.groups import Group, Groups
from phases._ground import Say, child, milliseconds, sampled, spread

PATIENCE = 5.0  # seconds in which a process that was killed must be gone
SLOW_KILL_MS = 500.0
AT_MOST_SECONDS = 30
FORKS, SPAWNS = 40, 6

Trial = Callable[[], dict[str, Any]]


@phase(-5, needs=[-8], timeout="60s", retries=0)
def process_control(ctx: Context) -> dict[str, Any]:
    """Try what ends a process: signals, adoption, deadlines."""
    figures: dict[str, Any] = {}
    with child(keep) as keeper:
        for trial in ctx.track(TRIALS, text="ways to hold and end a process"):
            figures |= answer_of(trial, keeper.hear(3 * PATIENCE))
    return {"verdict": verdict(figures), "figures": figures, "warnings": list(warnings(figures))}


def answer_of(trial: Trial, said: Any) -> dict[str, Any]:
    what = (trial.__doc__ or "").strip()
    if said is None:
        raise ConfigurationFault(f"process control: while this was tried, its process died: {what}")
    if "fault" in said:
        raise ConfigurationFault(
            f"process control: {what}: {said['fault']}. Phases could not be ended for sure here; "
            "run orch on a Linux whose container or sandbox does not take this away"
        )
    return dict(said)


def verdict(figures: dict[str, Any]) -> str:
    groups = "with control groups" if figures["control_groups"] else "without control groups"
    return (
        f"what ignores SIGTERM is gone {figures['kill_ms']:.1f} ms after SIGKILL, no descendant escapes, {groups}; "
        f"a fork takes {figures['fork_median_ms']:.1f} ms, a new Python {figures['spawn_python_median_ms']:.0f} ms"
    )


def warnings(figures: dict[str, Any]) -> Iterator[str]:
    for name in ("kill_ms", "dies_with_parent_ms"):
        if figures[name] > SLOW_KILL_MS:
            yield f"a process that was killed is gone only after {figures[name]:.0f} ms: this machine is overloaded"
    for name in ("memory", "open_files"):
        if not figures[f"{name}_limit_holds"]:
            yield f"a limit of {name} has no effect here: `limits` of phases cannot be relied on"


# The keeper


def keep(say: Say) -> None:
    process.become_subreaper()
    try:
        for trial in TRIALS:
            say(tried(trial))
    finally:
        end_all()


def tried(trial: Trial) -> dict[str, Any]:
    try:
        return trial()
    except (OSError, RuntimeError) as error:
        return {"fault": str(error)}
    finally:
        end_all()


def end_all() -> None:
    """Whatever is below us, however it got there: nobody escapes a subreaper."""
    while found := process.below([os.getpid()], table := process.scan()):
        process.insist(found, table)
        process.reap()
    process.reap()


def begin(prepare: Callable[[], object]) -> int:
    """A child that has done `prepare` and now waits for its end."""
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        _prepare_and_wait(prepare, done)
    os.close(done)
    with open(ready, "rb") as file:
        if not file.read(1):
            raise RuntimeError("a child failed before it could be tried")
    return pid


def _prepare_and_wait(prepare: Callable[[], object], done: int) -> NoReturn:
    signal.alarm(AT_MOST_SECONDS)  # for the case that adoption does not work and nobody ends it
    try:
        prepare()
        os.write(done, b"!")
        os.close(done)
        while True:
            signal.pause()
    finally:
        os._exit(1)


def known(pid: int) -> Identity:
    who = process.identity(pid)
    if who is None:
        raise RuntimeError(f"process {pid} lives and is not in /proc")
    return who


def gone_after(who: Identity) -> float:
    """Milliseconds until it is gone."""
    began = time.perf_counter()
    if not process.await_end(who, PATIENCE):
        raise RuntimeError(f"process {who.pid} is still there {PATIENCE:g} s after its end was ordered")
    return milliseconds(time.perf_counter() - began)


# The trials: each one's docstring names it in a message


def adopts_and_sees() -> dict[str, Any]:
    """a grandchild in a session of its own, whose parent has ended, becomes ours (PR_SET_CHILD_SUBREAPER)"""
    told, tell = os.pipe()
    middle = begin(lambda: os.write(tell, b"%d" % begin(os.setsid)))
    leaf = int(os.read(told, 20))
    try:
        if leaf not in process.descendants(os.getpid()):
            raise RuntimeError(f"process {leaf}, in a session of its own, was not found among the descendants")
        os.kill(middle, signal.SIGKILL)
        os.waitpid(middle, 0)
        entry = process.entry_of(leaf)
        if entry is None or entry.parent != os.getpid():
            raise RuntimeError(f"process {leaf} did not become ours when its parent ended ({entry})")
    finally:
        os.kill(leaf, signal.SIGKILL)
    return {"adopts_orphans": True, "sees_own_sessions": True}


def dies_with_parent() -> dict[str, Any]:
    """a process ends when its parent is killed (PR_SET_PDEATHSIG)"""
    told, tell = os.pipe()

    def start_leaf() -> None:
        parent = os.getpid()
        os.write(tell, b"%d" % begin(lambda: process.die_with_parent(parent)))

    middle = begin(start_leaf)
    leaf = known(int(os.read(told, 20)))
    os.kill(middle, signal.SIGKILL)
    return {"dies_with_parent_ms": gone_after(leaf)}


def obeys_by_identity() -> dict[str, Any]:
    """a signal reaches a process by its identity (pidfd_open, pidfd_send_signal), and no other one"""
    who = known(begin(lambda: None))
    if process.send(who.replace(ticks=who.ticks + 1), signal.SIGKILL) or process.await_end(who, 0.02):
        raise RuntimeError("a signal for a process that had this pid before was delivered")
    if not process.send(who, signal.SIGTERM):
        raise RuntimeError("the signal could not be sent")
    return {"ask_ms": gone_after(who)}


def insists() -> dict[str, Any]:
    """a process that ignores SIGTERM, and is stopped, ends by SIGKILL"""
    who = known(begin(lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)))
    process.send(who, signal.SIGTERM)
    if process.await_end(who, 0.05):
        raise RuntimeError("it ended by SIGTERM although that was ignored")
    process.send(who, signal.SIGSTOP)
    process.send(who, signal.SIGKILL)
    return {"kill_ms": gone_after(who)}


def groups_kill() -> dict[str, Any]:
    """a control group (version 2) ends all that is in it; never required"""
    group = Groups().make("ground")
    if group is None:
        return {"control_groups": False}
    try:
        return {"control_groups": True, "group_kill_ms": killed_by(group)}
    finally:
        end_all()
        until = time.monotonic() + PATIENCE
        while not group.remove() and time.monotonic() < until:
            time.sleep(0.005)


def killed_by(group: Group) -> float:
    def join() -> None:
        os.setsid()
        process.join_group(group.procs)

    members = [known(begin(join)) for _ in range(3)]
    group.kill()
    return max(gone_after(member) for member in members)


def limits_hold() -> dict[str, Any]:
    """ceilings for open files and memory can be set"""
    return {
        "open_files_limit_holds": ended_with(too_many_files) == 0,
        "memory_limit_holds": ended_with(too_much_memory) == 0,
    }


def ended_with(work: Callable[[], bool]) -> int:
    """0 if `work` met the limit."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == 3:
        raise RuntimeError("a limit could not be set")
    return status


def too_many_files() -> bool:
    process.set_limits(Limits(open_files=64))
    try:
        for _ in range(64):
            os.open("/dev/null", os.O_RDONLY)
    except OSError as error:
        return error.errno == errno.EMFILE
    return False


def too_much_memory() -> bool:
    process.set_limits(Limits(memory=256_000_000))
    try:
        bytearray(300_000_000)
    except MemoryError:
        return True
    return False


def starting_costs() -> dict[str, Any]:
    """processes can be started"""
    bare = process.Launch((sys.executable, "-I", "-S", "-c", "pass"))
    return {
        **spread("fork", sampled(lambda: ended_with(lambda: True), FORKS)),
        **spread("spawn_python", sampled(lambda: os.waitpid(process.start(bare), 0), SPAWNS)),
    }


TRIALS: tuple[Trial, ...] = (
    adopts_and_sees, dies_with_parent, obeys_by_identity, insists, groups_kill, limits_hold, starting_costs,
)  # fmt: skip
