"""The agent's side of the launcher: a process that starts programs for it, because forks of the agent are expensive."""

from __future__ import annotations

import marshal
import os
import socket
from collections.abc import Callable, Mapping
from functools import lru_cache

from orchestrator import process
from orchestrator.agent.tree import Census
from orchestrator.core.spec import Limits
from orchestrator.process import Launch
from orchestrator.process.launcher import LARGEST


class Launcher:
    """Its process comes when programs are expected, and goes with the agent. Without it the agent forks by itself."""

    def __init__(self, census: Census, log: Callable[[str], None], environ: Mapping[str, str]) -> None:
        """`environ`: what the environments of most programs have most of."""
        self._census, self._log = census, log
        self._pid: int | None = None
        self._socket: socket.socket | None = None
        self._environ = environ
        self._encoded = {os.fsencode(name): os.fsencode(value) for name, value in environ.items()}

    def warm(self, python: str, whose: Mapping[str, str]) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)
        with there:
            argv = (python, "-I", "-S", process.LAUNCHER, str(there.fileno()), *whose.values())
            try:
                self._pid = process.spawn_child(
                    argv, keep_fds=(there.fileno(),), env={**self._environ, **whose}, cwd="/"
                )  # fmt: skip
            except OSError as fault:
                self._log(f"no launcher, programs are forked by the agent itself: {fault.strerror}")
                here.close()
                return
        self._socket = here
        self._census.roots[self._pid] = ""
        self._census.launcher = self._pid

    @property
    def is_gone(self) -> bool:
        return self._pid is None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def end(self) -> None:
        """It does not answer."""
        entry = process.entry_of(self._pid) if self._pid is not None else None
        if entry is not None:
            process.insist([entry], {})

    def on_exit(self, pid: int) -> bool:
        """Whether `pid` was the launcher. What it had not begun yet is seen by the ends of the reports."""
        if pid != self._pid:
            return False
        del self._census.roots[pid]
        if self._socket is not None:
            self._log(f"launcher {pid} ended: programs are forked by the agent itself")
        self.close()
        self._pid = None
        return True

    def begin(self, launch: Launch) -> int | None:
        """A descriptor that says the pid, then as that of `process.begin`; None: it takes no such order now."""
        if self._socket is None or launch.keep_fds or launch.limits != Limits() or launch.output is None:
            return None
        order = self._order(launch)
        if len(order) > LARGEST:
            return None
        report, said = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        fds = [said, launch.output]
        try:
            if launch.group_procs:
                fds.append(os.open(os.path.dirname(launch.group_procs), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            socket.send_fds(self._socket, [order], fds)
        except OSError:  # it is dead or busy, or the group is gone
            os.close(report)
            return None
        finally:
            for fd in (said, *fds[2:]):
                os.close(fd)
        return report

    def _order(self, launch: Launch) -> bytes:
        environ = launch.env or {}
        programs = _programs(launch.argv[0], environ.get("PATH", os.defpath))
        own = ((name, value) for name, value in environ.items() if self._environ.get(name) != value)
        words = [os.fsencode(word) for word in launch.argv]
        places = [os.fsencode(program) for program in programs]
        encoded = {**self._encoded, **{os.fsencode(name): os.fsencode(value) for name, value in own}}
        return marshal.dumps((words, places, encoded, os.fsencode(launch.cwd)))


def _programs(name: str, path: str) -> list[str]:
    """Where it is to be looked for: from the first absolute place on where something is, if there is one."""
    places = _places(name, path)
    first = next((at for at, place in enumerate(places) if place[0] != "/" or os.access(place, os.F_OK)), 0)
    return places[first:]


@lru_cache
def _places(name: str, path: str) -> list[str]:
    return [name] if "/" in name else [os.path.join(folder or ".", name) for folder in path.split(":")]
