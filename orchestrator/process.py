"""Processes by identity: the only module that forks, executes and signals, so that its traps are kept in one place.

A pid alone is never trusted: it is used again. A zombie is dead although `kill(pid, 0)` succeeds on it. What a
process group or a session holds is less than what a process started: trees are found by scanning /proc.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from orchestrator import clock
from orchestrator.core.names import Identity
from orchestrator.core.spec import Limits
from orchestrator.core.value import Value

ALIVE, DEAD, STOPPED, UNKNOWABLE = "alive", "dead", "stopped", "unknowable"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_BUFFER = 4096


class Entry(NamedTuple):
    """One line of the process table."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    ticks: int

    @property
    def is_over(self) -> bool:
        return self.state in "ZXx"


class Launch(Value):
    """How a new program is to be started; everything that is not named here it does not get."""

    argv: tuple[str, ...]
    env: dict[str, str] | None = None  # None: as here
    cwd: str = "/"
    output: int | None = None  # the descriptor that standard output and error go to; None: /dev/null
    errors: int | None = None  # standard error, where it goes elsewhere
    keep_fds: tuple[int, ...] = ()
    dies_with_parent: bool = True
    is_subreaper: bool = False
    limits: Limits = Limits()
    group_procs: str = ""  # the cgroup.procs file of the control group that it joins


class LaunchFault(OSError):
    """The new program did not come to be; `stage` says which step failed: fork, limits, chdir, exec."""

    stage = ""


# ── the process table ──────────────────────────────────────────────────────────────────────────────────────────


def entry_of(pid: int) -> Entry | None:
    """None once the pid is gone. The name in field 2 may hold blanks and brackets: fields count from the last ')'."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fields = os.read(fd, _BUFFER).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(fields) < 20:
        return None
    return Entry(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0].decode(), int(fields[19]))


def scan() -> dict[int, Entry]:
    found = (entry_of(int(name)) for name in os.listdir("/proc") if name[0] in "123456789")
    return {entry.pid: entry for entry in found if entry is not None}


def below(roots: Collection[int], table: Mapping[int, Entry]) -> list[Entry]:
    """The living descendants of `roots`, without the roots themselves."""
    children: dict[int, list[Entry]] = {}
    for entry in table.values():
        children.setdefault(entry.parent, []).append(entry)
    found: list[Entry] = []
    seen = set(roots)
    waiting = list(roots)
    while waiting:
        for entry in children.get(waiting.pop(), ()):
            if entry.pid not in seen:
                seen.add(entry.pid)
                waiting.append(entry.pid)
                found.append(entry)
    return [entry for entry in found if not entry.is_over]


def descendants(pid: int) -> list[int]:
    return [entry.pid for entry in below([pid], scan())]


def children_of(pid: int) -> list[int]:
    return [entry.pid for entry in scan().values() if entry.parent == pid and not entry.is_over]


def groups_of(pids: Iterable[int]) -> set[int]:
    return {entry.group for entry in map(entry_of, pids) if entry is not None}


def newest_pid() -> int:
    """The pid that the kernel handed out last."""
    return int(_read("/proc/loadavg").rpartition(b" ")[2] or 0)


def describe(pid: int, width: int = 120) -> str:
    """The pid and its command line, cut: for messages."""
    words = _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").strip() or _read(f"/proc/{pid}/comm").strip()
    text = "".join(char if char.isprintable() else "?" for char in words.decode(errors="replace"))
    return f"{pid} {text}"[:width].strip()


def environment_of(pid: int) -> dict[str, str]:
    """What it was started with (changes made by the program itself do not show); empty where it may not be read."""
    pairs = (item.partition(b"=") for item in _read(f"/proc/{pid}/environ").split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, mark, value in pairs if mark}


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


# ── identity ───────────────────────────────────────────────────────────────────────────────────────────────────


def host() -> str:
    """The host's name, and the namespace that its pids are counted in."""
    try:
        return f"{socket.gethostname()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def boot() -> str:
    """The id of this boot; empty where it cannot be read."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def identity(pid: int) -> Identity | None:
    entry = entry_of(pid)
    return None if entry is None else Identity(pid, entry.ticks, boot(), host())


def myself() -> Identity:
    found = identity(os.getpid())
    if found is None:
        raise RuntimeError("/proc is not mounted: orch tells processes apart by what it says")
    return found


def is_alive(who: Identity) -> str:
    """alive, dead, stopped (somebody sent SIGSTOP), or unknowable from here."""
    here = boot()
    if who.host != host() or not who.boot or not here:
        return UNKNOWABLE
    if who.boot != here:
        return DEAD
    entry = entry_of(who.pid)
    if entry is None:
        return UNKNOWABLE if _is_hidden(who.pid) else DEAD
    if entry.ticks != who.ticks or entry.is_over:
        return DEAD
    return STOPPED if entry.state == "T" else ALIVE


def _is_hidden(pid: int) -> bool:
    """Whether /proc keeps from us (hidepid) a process that exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return entry_of(pid) is None and _is_hidden(pid)


# ── signals ────────────────────────────────────────────────────────────────────────────────────────────────────


def send(who: Identity, *signals: int) -> bool:
    """By identity, without a race: the pidfd is opened, then the ticks are compared. False: it is not there."""
    try:
        fd = os.pidfd_open(who.pid)
    except OSError:
        return False
    try:
        entry = entry_of(who.pid)
        if entry is None or entry.ticks != who.ticks or entry.is_over:
            return False
        for number in signals:
            signal.pidfd_send_signal(fd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)


def end_by_identity(who: Identity, grace: float) -> bool:
    """Ask (one that is stopped is woken to hear it), wait `grace`, insist, wait. False: it is still there."""
    if not send(who, signal.SIGTERM, signal.SIGCONT) or await_end(who, grace):
        return is_alive(who) != UNKNOWABLE
    send(who, signal.SIGKILL)
    return await_end(who, 5.0)


def await_end(who: Identity, patience: float) -> bool:
    """Whether it ended within `patience` seconds; a child of ours counts as ended when it can be reaped."""
    try:
        fd = os.pidfd_open(who.pid)
    except OSError:
        return is_alive(who) == DEAD
    try:
        entry = entry_of(who.pid)
        if entry is None or entry.ticks != who.ticks or entry.is_over:
            return True
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(patience * 1000))
    finally:
        os.close(fd)


def ask(pids: Iterable[int]) -> None:
    """SIGTERM to each, and SIGCONT, because a stopped process hears nothing."""
    for pid in pids:
        _kill(pid, signal.SIGTERM)
        _kill(pid, signal.SIGCONT)


def insist(pids: Iterable[int], groups: Iterable[int] = ()) -> None:
    """SIGKILL. Groups first: a group is killed in one go, so that no member can fork meanwhile."""
    for group in groups:
        if group > 1 and group != os.getpgrp():
            _kill(-group, signal.SIGKILL)
    for pid in pids:
        _kill(pid, signal.SIGKILL)


def _kill(pid: int, number: int) -> None:
    if abs(pid) <= 1 or pid == os.getpid():
        return
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_group(pid: int) -> None:
    """SIGKILL to the process group that our child `pid` leads, then reap the child."""
    insist([pid], [pid])
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def reap() -> list[tuple[int, int]]:
    """(pid, wait status) of every child that has ended; never waits."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))


# ── what this process is to others ─────────────────────────────────────────────────────────────────────────────


def become_subreaper() -> None:
    """Descendants whose parent died become our children, instead of init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(expected: int) -> None:
    """SIGKILL for us when the parent (its thread that forked us) ends; a parent that is gone already counts too."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != expected:
        os._exit(1)


_libc: list[Any] = []


def _load_prctl() -> None:
    """Before a fork, so that no child loads it again for itself."""
    if not _libc:
        import ctypes  # five milliseconds that only those who need them pay

        _libc.append(ctypes.CDLL(None, use_errno=True).prctl)


def _prctl(option: int, value: int) -> None:
    _load_prctl()
    if _libc[0](option, value, 0, 0, 0) != 0:
        raise OSError(errno.EINVAL, f"prctl({option}, {value}) was refused")


# ── new processes ──────────────────────────────────────────────────────────────────────────────────────────────


def spawn_detached(
    argv: Sequence[str], *, keep_fds: Sequence[int], env: Mapping[str, str] | None, cwd: str, log: Path
) -> int:
    """A program that outlives us: own session, nothing inherited but `keep_fds`, its stderr goes to `log`."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        environ = None if env is None else dict(env)
        return start(
            Launch(tuple(argv), environ, cwd, errors=fd, keep_fds=tuple(keep_fds), dies_with_parent=False)
        )
    finally:
        os.close(fd)


def spawn_child(
    argv: Sequence[str],
    *,
    keep_fds: tuple[int, ...],
    env: Mapping[str, str] | None,
    cwd: str,
    output: int | None = None,
) -> int:
    """A program that dies with us: own session, no input, output and errors to `output` or /dev/null."""
    environ = None if env is None else dict(env)
    return start(Launch(tuple(argv), environ, cwd, output=output, keep_fds=keep_fds))


def start(launch: Launch) -> int:
    """Returns the pid once the program runs; LaunchFault says why it does not."""
    pid, report = begin(launch)
    with open(report, "rb") as file:
        fault = fault_from(file.read(), launch)
    if fault is not None:
        os.waitpid(pid, 0)
        raise fault
    return pid


def begin(launch: Launch) -> tuple[int, int]:
    """Fork at once; the descriptor says by its end that the program runs, or before it why not (`fault_from`)."""
    parent = os.getpid()
    _load_prctl()
    report, said = os.pipe2(os.O_CLOEXEC)
    try:
        pid = fork()
    except OSError:
        os.close(report)
        os.close(said)
        raise
    if pid == 0:
        _become(launch, said, parent)
    os.close(said)
    return pid, report


def fault_from(said: bytes, launch: Launch) -> LaunchFault | None:
    if not said:
        return None
    stage, _, number = said.decode().partition(" ")
    what = launch.cwd if stage == "chdir" else launch.argv[0]
    fault = LaunchFault(int(number), os.strerror(int(number)), what)
    fault.stage = stage
    return fault


def fork() -> int:
    """os.fork with every signal held back in the child until `reset_signals`: no handler of ours may run there."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    pid = -1
    try:
        pid = os.fork()
        return pid
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset_signals() -> None:
    """In a child: what the parent catches or ignores is none of its business."""
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    allow_signals()


def allow_signals() -> None:
    """In a child of `fork`: what was held back until it was itself."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def fork_adopted(child: Callable[[int], None], announce: Callable[[int], None]) -> None:
    """Fork twice, so that `child` is adopted by the nearest subreaper; it is told the pid of the process in between.

    `announce` gets its pid before it can be adopted: whoever adopts it knows it already.
    """
    between = fork()
    if between:
        _, status = os.waitpid(between, 0)
        if status:
            raise OSError(os.waitstatus_to_exitcode(status) & 0x7F or errno.EIO, "fork failed")
        return
    middle = os.getpid()
    try:
        pid = os.fork()
        if pid == 0:
            _run_and_exit(child, middle)
        announce(pid)
    except OSError as error:
        os._exit((error.errno or errno.EIO) & 0x7F)
    except BaseException:
        os._exit(errno.EIO)
    os._exit(0)


def _run_and_exit(child: Callable[[int], None], middle: int) -> NoReturn:
    try:
        child(middle)
    finally:
        os._exit(70)


def set_limits(limits: Limits) -> None:
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, limits.cpu),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ):
        if value is not None:
            # a second's room between the soft and the hard limit of time: SIGXCPU names the cause, SIGKILL would not
            hard = value + 1 if kind == resource.RLIMIT_CPU else value
            most = resource.getrlimit(kind)[1]
            hard = hard if most == resource.RLIM_INFINITY else min(hard, most)
            resource.setrlimit(kind, (min(value, hard), hard))


def close_all_but(keep: Collection[int]) -> None:
    """Every descriptor from 3 up that is not in `keep`."""
    for name in os.listdir("/proc/self/fd"):
        if (fd := int(name)) > 2 and fd not in keep:
            try:
                os.close(fd)
            except OSError:  # the one that listed them
                pass


def join_group(procs: str) -> None:
    """Where it fails we go on without: a control group makes the end of a tree surer, nothing else."""
    try:
        fd = os.open(procs, os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"0")
        os.close(fd)
    except OSError:
        pass


def _become(launch: Launch, said: int, parent: int) -> NoReturn:
    """In the child, until exec."""
    stage = "fork"
    try:
        reset_signals()
        os.setsid()
        if launch.dies_with_parent:
            die_with_parent(parent)
        if launch.is_subreaper:
            become_subreaper()
        if launch.group_procs:
            join_group(launch.group_procs)
        _redirect(launch, said)
        stage = "limits"
        set_limits(launch.limits)
        stage = "chdir"
        os.chdir(launch.cwd)
        stage = "exec"
        _execute(launch.argv, dict(os.environ) if launch.env is None else launch.env)
    except OSError as error:
        os.write(said, f"{stage} {error.errno or 0}".encode())
    except BaseException:
        os.write(said, f"{stage} {errno.EINVAL}".encode())
    finally:
        os._exit(127)


def _redirect(launch: Launch, said: int) -> None:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    output = null if launch.output is None else launch.output
    errors = output if launch.errors is None else launch.errors
    for fd in launch.keep_fds:
        if fd < 3:
            raise ValueError("descriptors 0 to 2 cannot be kept")
        os.set_inheritable(fd, True)
    # lifted above 2 first: where 0 to 2 were closed, what we opened may sit there
    lifted = [os.dup(fd) if fd < 3 else fd for fd in (null, output, errors)]
    for target, fd in enumerate(lifted):
        os.dup2(fd, target)
    close_all_but({*launch.keep_fds, said})


def _execute(argv: Sequence[str], env: dict[str, str]) -> None:
    """As execvpe, but cheaper, and a file that may not be executed is told apart from one that is not there."""
    if "/" in argv[0]:
        os.execve(argv[0], list(argv), env)
    worst: OSError = FileNotFoundError(errno.ENOENT, "not found")
    for folder in env.get("PATH", os.defpath).split(":"):
        try:
            os.execve(os.path.join(folder or ".", argv[0]), list(argv), env)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            worst = error
    raise worst


# ── the last resort ────────────────────────────────────────────────────────────────────────────────────────────


def find_tagged(project: str | Path, agents: Collection[str], attempts: Collection[Identity] = ()) -> list[Identity]:
    """What dead `agents` of `project` left behind: known by its environment, or by the session of an attempt.

    Needed only where agent and orchestrator were killed at once and took neither tree nor deadline with them.
    """
    place, ticks, table, own = boot(), {who.pid: who.ticks for who in attempts}, scan(), os.getpid()
    found = []
    for entry in table.values():
        if entry.is_over or entry.pid == own:
            continue
        if _is_in_session(entry, ticks, table) or _is_tagged(entry.pid, str(project), agents):
            found.append(Identity(entry.pid, entry.ticks, place, host()))
    return found


def _is_in_session(entry: Entry, ticks: Mapping[int, int], table: Mapping[int, Entry]) -> bool:
    began = ticks.get(entry.session)
    if began is None or entry.ticks < began:
        return False
    leader = table.get(entry.session)
    return leader is None or leader.ticks == began


def _is_tagged(pid: int, project: str, agents: Collection[str]) -> bool:
    environ = environment_of(pid) if agents else {}
    return environ.get("ORCH_PROJECT") == project and environ.get("ORCH_AGENT") in agents


def end_orphans(
    project: str | Path, agents: Collection[str], attempts: Collection[Identity] = (), grace: float = 1.0
) -> list[str]:
    """End what `find_tagged` finds, and what that started; returns their names."""
    first = find_tagged(project, agents, attempts)
    names = [describe(who.pid) for who in first]
    ask(who.pid for who in first)
    until = clock.ticking() + grace
    while (left := find_tagged(project, agents, attempts)) and clock.ticking() < until:
        clock.pause(0.02)
    until = clock.ticking() + 5.0
    while left and clock.ticking() < until:
        pids = [who.pid for who in left]
        insist([*pids, *(entry.pid for entry in below(pids, scan()))])
        clock.pause(0.005)
        left = find_tagged(project, agents, attempts)
    return names
