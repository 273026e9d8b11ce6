"""The launcher: a small process that becomes programs on behalf of its agent, so that the agent need not fork itself.

After a fork each page that either side touches is copied, and an agent touches many: that cost more than all the rest
of an attempt. This one is small, and so is what it does between fork and exec. The kernel makes what it forks a child
of the agent. It is run by its path and loads as little as it can, nothing of orch: all of it would be copied, too.
"""

from __future__ import annotations

import ctypes
import gc
import marshal
import struct
import sys
from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, socket  # without the part in Python, which is as large as all else
from errno import EINVAL, ENOENT
from os import (
    O_CLOEXEC,
    O_WRONLY,
    _exit,
    chdir,
    close,
    dup2,
    execve,
    getpid,
    getppid,
    set_inheritable,
    setsid,
    uname,
    write,
)
from os import open as open_fd

TYPE_CHECKING = False  # typing is larger than this process
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    Fork = Callable[[int], int]  # takes the folder of a control group, or -1

LARGEST = 128 * 1024  # of an order, in bytes
_SIBLING, _INTO_GROUP = 0x8000, 1 << 33  # CLONE_PARENT, CLONE_INTO_CGROUP
_CLONE3, _SIZE, _GROUP_AT = 435, 88, 80  # the call has that number on every kind of machine
_CLONE = {"x86_64": 56, "aarch64": 220}  # where a container forbids the newer call
_PDEATHSIG, _SUBREAPER, _SIGKILL = 1, 36, 9
_CHANGED_BY_PYTHON = (2, 13, 25)  # SIGINT, SIGPIPE, SIGXFSZ: a program would inherit it

_libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL: there is no second thread that the interpreter could be given to
_syscall, _prctl = _libc.syscall, _libc.prctl


def main() -> None:
    orders = socket(fileno=int(sys.argv[1]))
    set_inheritable(int(sys.argv[1]), False)
    for number in _CHANGED_BY_PYTHON:
        _libc.signal(number, 0)
    agent, ways = getppid(), _ways()
    gc.disable()
    gc.freeze()
    while True:
        data, ancillary, _flags, _address = orders.recvmsg(LARGEST, CMSG_SPACE(12), MSG_CMSG_CLOEXEC)
        if not data:
            return
        fds = struct.unpack(f"{len(ancillary[0][2]) // 4}i", ancillary[0][2])
        _launch(data, fds, agent, ways)
        for fd in fds:
            close(fd)


def _launch(data: bytes, fds: tuple[int, ...], agent: int, ways: list[Fork]) -> None:
    report, output, group = fds if len(fds) == 3 else (*fds, -1)
    argv, programs, environment, cwd = marshal.loads(data)
    for fork in ways:
        pid = fork(group)
        if pid == 0:
            _become(argv, programs, environment, cwd, report, output, -1 if fork is ways[0] else group, agent)
        if pid > 0:
            return
    write(report, b"fork %d" % ctypes.get_errno())


def _ways() -> list[Fork]:
    """How to fork a sibling, the best first. Not os.fork: Python would begin anew in it what exec throws away."""
    arguments = bytearray(struct.pack("11Q", _SIBLING, *[0] * 10))
    buffer = (ctypes.c_char * _SIZE).from_buffer(arguments)
    number = _CLONE.get(uname().machine)

    def clone3(group: int) -> int:
        """Born in its control group: to join one later takes the kernel ten milliseconds."""
        struct.pack_into("Q", arguments, 0, _SIBLING | (_INTO_GROUP if group >= 0 else 0))
        struct.pack_into("Q", arguments, _GROUP_AT, max(group, 0))
        return _syscall(_CLONE3, buffer, _SIZE)  # type: ignore[no-any-return]

    def clone3_alone(_group: int) -> int:
        return clone3(-1)

    def clone(_group: int) -> int:
        return _syscall(number, _SIBLING, 0, 0, 0, 0)  # type: ignore[no-any-return]

    return [clone3, clone3_alone, clone] if number is not None else [clone3, clone3_alone]


def _become(
    argv: list[bytes], programs: list[bytes], environment: dict[bytes, bytes], cwd: bytes,
    report: int, output: int, group: int, agent: int,
) -> NoReturn:  # fmt: skip
    """In the new process, until exec. Everything that is open here closes itself then."""
    stage = b"fork"
    try:
        write(report, b"%d\n" % getpid())
        setsid()
        _prctl(_PDEATHSIG, _SIGKILL, 0, 0, 0)
        if getppid() != agent:
            _exit(1)
        _prctl(_SUBREAPER, 1, 0, 0, 0)
        if group >= 0:
            _join(group)
        dup2(output, 1)
        dup2(output, 2)
        stage = b"chdir"
        chdir(cwd)
        stage = b"exec"
        _execute(argv, programs, environment)
    except BaseException as error:
        write(report, b"%s %d" % (stage, getattr(error, "errno", None) or EINVAL))
    finally:
        _exit(127)


def _join(group: int) -> None:
    """Where it fails we go on without: a control group makes the end of a tree surer, nothing else."""
    try:
        write(open_fd("cgroup.procs", O_WRONLY | O_CLOEXEC, dir_fd=group), b"0")
    except OSError:
        pass


def _execute(argv: list[bytes], programs: list[bytes], environment: dict[bytes, bytes]) -> None:
    worst: OSError = FileNotFoundError(ENOENT, "not found")
    for program in programs:
        try:
            execve(program, argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            worst = error
    raise worst


if __name__ == "__main__":
    main()
