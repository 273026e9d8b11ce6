"""Places that a process may find itself in: other pids, clocks, hosts and boots. Each is what goes before a command."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from orchestrator import process
from orchestrator.core.names import Identity
from tests.driving import PACKAGE, PATIENCE, wait_for

Prefix = tuple[str, ...]

PIDS: Prefix = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
HOST: Prefix = ("unshare", "--uts", "sh", "-c", 'hostname elsewhere; exec "$@"', "sh")
NOBODY = 65534

_OTHER_DATE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static time_t by(void) { const char *text = getenv("OTHER_DATE"); return text ? atoll(text) : 0; }
int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, at);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += by();
    return result;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec, at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""

# Reaps whatever is left to it, as the first process of a machine does.
_FIRST = "import os, time\nwhile True:\n    try: os.wait()\n    except ChildProcessError: time.sleep(0.005)"

# Told an identity in a line, it says in a line what became of it. As somebody else only once all is loaded.
_READER = """
import json, os, sys
from orchestrator import process
from orchestrator.core.names import Identity
if sys.argv[1] != "0":
    os.setgroups([]), os.setgid(int(sys.argv[1])), os.setuid(int(sys.argv[1]))
for line in sys.stdin:
    print(process.is_alive(Identity.from_dict(json.loads(line))), flush=True)
"""


def clocks(seconds: int) -> Prefix:
    """Since when the machine runs, moved: start ticks as such a reader sees them are others."""
    moved = str(seconds)
    return ("unshare", "--time", "--boottime", moved, "--monotonic", moved, "--fork", "--kill-child")


def date(days: int) -> Prefix:
    """The time of day, set by so much, and only that (libfaketime 0.9 moves other clocks, or breaks `sleep`)."""
    return ("env", f"LD_PRELOAD={_other_date()}", f"OTHER_DATE={days * 86400}")


@cache
def _other_date() -> str:
    """Compiled once for each process of the tests; empty where there is no compiler."""
    folder = tempfile.mkdtemp(prefix="orch-date-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source, made = Path(folder, "date.c"), Path(folder, "date.so")
    source.write_text(_OTHER_DATE)
    command = ["cc", "-shared", "-fPIC", "-o", str(made), str(source)]
    if shutil.which("cc") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        return ""
    return str(made)


def boot(boot_id: Path) -> Prefix:
    """After a restart of the machine, as far as anybody can see; an empty file: it cannot be read."""
    return _mounted(f"mount --bind '{boot_id}' /proc/sys/kernel/random/boot_id")


def hidden() -> Prefix:
    """/proc shows nobody the processes of others."""
    return _mounted("mount -t proc -o hidepid=2 proc /proc")


def _mounted(how: str) -> Prefix:
    return ("unshare", "--mount", "sh", "-c", f'{how} || exit 99; exec "$@"', "sh")


def needs(*places: Prefix) -> None:
    """Skips where one of these places cannot be made here."""
    for place in places:
        why = _hindrance(place)
        if why:
            pytest.skip(why)


@cache
def _hindrance(place: Prefix) -> str:
    if not place:
        return ""
    if shutil.which(place[0]) is None:
        return f"there is no {place[0]} on this machine"
    if "LD_PRELOAD=" in place:
        return "there is no C compiler, which another date needs"
    tried = subprocess.run([*place, "true"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return f"`{' '.join(place[:3])} …` is not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


class Reader:
    """Somebody at another place who judges whether a process lives."""

    def __init__(self, place: Prefix, user: int = 0) -> None:
        self._popen = subprocess.Popen(
            [*place, sys.executable, "-c", _READER, str(user)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={"PATH": os.environ["PATH"], "PYTHONPATH": PACKAGE},
        )  # fmt: skip

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.communicate(timeout=PATIENCE)

    def judge(self, who: str) -> str:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._popen.stdin.write(who + "\n")
        self._popen.stdin.flush()
        return self._popen.stdout.readline().strip()


class Pids:
    """A place with pids of its own, in which the next pid can be named; `prefix` leads there."""

    def __init__(self, folder: Path) -> None:
        self._popen = subprocess.Popen([*PIDS, sys.executable, "-I", "-S", "-c", _FIRST])
        first = wait_for(lambda: process.children_of(self._popen.pid))[0]
        enter = ("nsenter", "--target", str(first), "--pid", "--mount")
        self.prefix: Prefix = (*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(folder))
        wait_for(lambda: self._run("test", "-e", "/proc/1").returncode == 0)

    def __enter__(self) -> Pids:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.wait(PATIENCE)

    def hand_out(self, pid: int) -> subprocess.CompletedProcess[str]:
        """The next process there gets this pid: a `sleep`, who is told apart from the one that had it."""
        last = "/proc/sys/kernel/ns_last_pid"
        return self._run("sh", "-c", f"echo {pid - 1} > {last}; sleep 1000.75 >/dev/null 2>&1 & echo $!")

    def is_there(self, pid: int) -> bool:
        return self._run("kill", "-0", str(pid)).returncode == 0

    def _run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *argv], capture_output=True, text=True, timeout=PATIENCE, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip


# Runs in a place with pids of its own: one that lives and dies, and whoever gets its pid at once and a moment later.
SAME_TICK = """
import os, time
from orchestrator import process

def sleeper(pid):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(pid - 1))
    child = os.fork()
    if child == 0:
        time.sleep(1000)
        os._exit(0)
    return process.identity(child)

def end(who):
    os.kill(who.pid, 9)
    os.waitpid(who.pid, 0)

def again(pause):
    first = sleeper(300)
    lives = process.is_alive(first)
    end(first)
    gone = process.is_alive(first)
    time.sleep(pause)
    second = sleeper(300)
    told = (second.pid == first.pid, second.ticks == first.ticks, lives, gone, process.is_alive(first), process.is_alive(second))
    hit = process.send(first, 9) or process.end_by_identity(first, 0.0) and process.is_alive(second) != "alive"
    end(second)
    return (*told, hit)

while not (same := again(0))[1]:
    pass
print(same)
print(again(0.05))
"""


def identity_of(pid: int) -> Identity:
    found = process.identity(pid)
    assert found is not None
    return found
