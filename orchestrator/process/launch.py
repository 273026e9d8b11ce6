"""New processes: what they inherit (nothing that is not named), whom they die with, why they could not start."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.core.spec import Limits
from orchestrator.core.value import Value

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
LAUNCHER = str(Path(__file__).with_name("launcher.py"))


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


def spawn_detached(
    argv: Sequence[str], *, keep_fds: Sequence[int], env: Mapping[str, str] | None, cwd: str, log: Path
) -> int:
    """A program that outlives us: own session, nothing inherited but `keep_fds`, its stderr goes to `log`."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        environ = None if env is None else dict(env)
        return start(Launch(tuple(argv), environ, cwd, errors=fd, keep_fds=tuple(keep_fds), dies_with_parent=False))
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
    _load_prctl()
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
