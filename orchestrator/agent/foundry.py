"""Keeps the template: the process that has imported the phase files and forks attempts of them.

User code runs there, so it is taken for granted that it hangs, crashes and lies: every import has a deadline, what
harms the template is known by the file that was being imported, and a new template goes on without that file.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orchestrator
from orchestrator import process
from orchestrator.agent.loop import READ, Steps, Task, Timer
from orchestrator.agent.output import Output
from orchestrator.agent.site import Site
from orchestrator.agent.tree import Tree, end_tree
from orchestrator.core.names import span
from orchestrator.core.wire import Order
from orchestrator.process import Launch
from orchestrator.process.groups import Group

UNKNOWN, IMPORTING, READY, SPAWN, BROKEN = "unknown", "importing", "ready", "spawn", "broken"
_LARGEST = 65536
_LOG_BYTES = 1024 * 1024
_STARTS = 2  # a template that does not even come up is tried this often
_RETRY_SECONDS = 0.02
_LONGEST_SENTENCE = 500
_DYING_SECONDS = 0.2
_PROGRAM = "import sys; sys.path.append(sys.argv.pop(1)); from orchestrator.agent.template import main; main()"


class FileState:
    """How far the import of one phase file is."""

    def __init__(self) -> None:
        self.status = UNKNOWN
        self.digest = ""
        self.code = "CONFIGURATION"
        self.sentence = ""
        self.kills = 0

    @property
    def is_settled(self) -> bool:
        return self.status in (READY, SPAWN, BROKEN)


class Foundry:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._files: dict[str, FileState] = {}
        self._wanted: dict[str, list[Callable[[], None]]] = {}
        self._forks: dict[str, tuple[Timer, Callable[[int], None]]] = {}
        self._pid: int | None = None
        self._socket: socket.socket | None = None
        self._output: Output | None = None
        self._is_up = False
        self._failed_starts = 0
        self._importing = ""
        self._timer: Timer | None = None
        self._ending: Task | None = None
        self._is_closed = False

    def warm(self) -> None:
        """Import all files now, so that no attempt waits for it."""
        for file in self._site.phase_files:
            if file.endswith(".py"):
                self._files.setdefault(file, FileState())
        self._advance()

    def state_of(self, file: str) -> FileState:
        return self._files.setdefault(file, FileState())

    def can_serve(self, file: str) -> bool:
        """Whether it is known what becomes of `file`, and the template is not busy with another, which may kill it."""
        state = self.state_of(file)
        return state.status in (SPAWN, BROKEN) or (state.status == READY and not self._importing)

    def prepare(self, file: str, wake: Callable[[], None]) -> None:
        """`wake` is called once `can_serve` holds; it may not hold any more when the woken one looks."""
        waiting = self._wanted.setdefault(file, [])
        if wake not in waiting:
            waiting.append(wake)
        self._advance()

    def fork(self, key: str, file: str, fds: tuple[int, int, int], failed: Callable[[int], None]) -> None:
        """Ask for an attempt; that it exists it says itself, on its channel. `failed` gets an errno."""
        self._forks[key] = (self._site.loop.after(self._site.load_timeout, self._on_fork_timeout), failed)
        self._send({"fork": key, "file": file}, fds)

    def forget(self, key: str) -> None:
        if key in self._forks:
            self._forks.pop(key)[0].cancel()

    def on_exit(self, pid: int, status: int) -> bool:
        """Whether `pid` was the template."""
        if pid != self._pid:
            return False
        self._site.census.roots.pop(pid, None)
        self._pid = None
        how = _how_it_ended(status)
        self._site.log(f"template {pid} {how}" + (f" while it imported {self._importing}" if self._importing else ""))
        if self._ending is None:
            self._on_death(os.waitstatus_to_exitcode(status), how)
            self._end()
            self._settle()
        return True

    def close(self) -> None:
        self._is_closed = True
        if self._pid is not None and self._ending is None:
            self._end()

    @property
    def is_gone(self) -> bool:
        return self._pid is None and self._ending is None

    # ── the template's life ────────────────────────────────────────────────────────────────────────────────────

    def _advance(self) -> None:
        """Whatever is to be done next: start, import, or nothing."""
        if self._ending is not None or self._is_closed or self._importing:
            return
        file = self._next()
        if file is None:
            return
        if self._pid is None:
            self._start()
        elif self._is_up:
            self._importing = file
            self._files[file].status = IMPORTING
            self._timer = self._site.loop.after(self._site.load_timeout, self._on_import_timeout)
            self._send({"import": file}, ())

    def _advance_later(self) -> Steps:
        """A task of its own runs after those that were woken before."""
        self._advance()
        yield from ()

    def _next(self) -> str | None:
        """What an attempt waits for comes first."""
        unknown = [file for file, state in self._files.items() if state.status == UNKNOWN]
        return next((file for file in unknown if file in self._wanted), unknown[0] if unknown else None)

    def _start(self) -> None:
        site = self._site
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        here.setblocking(False)
        self._output = Output(site.loop, site.folder / "import.log", _LOG_BYTES, lambda *_: None, site.masker)
        argv = (*_argv(site), "--control", str(there.fileno()))
        env = {**os.environ, **site.tags}
        launch = Launch(argv, env, str(site.project), output=self._output.pipe, keep_fds=(there.fileno(),))
        try:
            self._pid = process.start(launch)
        except OSError as fault:
            here.close()
            self._drop_output()
            self._give_up(f"{site.python}: the Python that runs phases could not be started: {fault.strerror}")
            return
        finally:
            there.close()
        self._output.let_go()
        self._socket = here
        site.census.roots[self._pid] = ""
        site.loop.watch(here.fileno(), READ, self._on_message)
        self._timer = site.loop.after(site.load_timeout, self._on_start_timeout)
        site.log(f"template {self._pid} started")

    def _end(self) -> None:
        """Its whole tree; the files that it had imported will be imported again."""
        self._cancel_timer()
        self._is_up = False
        self._importing = ""
        if self._socket is not None:
            self._site.loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for state in self._files.values():
            if state.status in (READY, IMPORTING):
                state.status = UNKNOWN
        self._ending = self._site.loop.begin(self._end_steps(), "end of the template")

    def _end_steps(self) -> Steps:
        tree = Tree(self._site.census, "", lambda: self._pid)
        yield from end_tree(tree, 0.0, self._pause, lambda: True, lambda: None)
        while self._pid is not None:
            self._site.loop.reap()
            if self._pid is not None:
                yield from self._pause(0.005)
        self._drop_output()
        self._ending = None
        self._advance()

    def _pause(self, seconds: float) -> Steps:
        task = self._ending
        timer = self._site.loop.after(seconds, lambda: task.wake() if task is not None else None)
        yield
        timer.cancel()

    def _drop_output(self) -> None:
        if self._output is not None:
            self._output.finish()
            self._output = None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ── what it says, and what its silence says ────────────────────────────────────────────────────────────────

    def _on_message(self, _mask: int) -> None:
        try:
            data = self._socket.recv(_LARGEST) if self._socket is not None else b""
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._on_silence()
            return
        try:
            message = json.loads(data)
        except ValueError:
            return
        self._hear(message)

    def _on_silence(self) -> None:
        """Its end of the socket is closed: it is dying, and will be reaped, or user code closed what is not its own."""
        if self._socket is not None:
            self._site.loop.unwatch(self._socket.fileno())
        pid = self._pid
        self._site.loop.after(_DYING_SECONDS, lambda: self._on_closed_by_others(pid))

    def _on_closed_by_others(self, pid: int | None) -> None:
        if pid is None or pid != self._pid or self._ending is not None:
            return
        if self._importing:
            self._break(self._importing, "closed descriptors that it had not opened")
        self._end()
        self._settle()

    def _hear(self, message: dict[str, Any]) -> None:
        if "up" in message:
            self._is_up, self._failed_starts = True, 0
            self._cancel_timer()
            self._advance()
        elif "imported" in message and message["imported"] == self._importing:
            self._on_imported(message)
        elif "fork_failed" in message and message["fork_failed"] in self._forks:
            self._forks[message["fork_failed"]][1](int(message.get("errno", 0)))

    def _on_imported(self, message: dict[str, Any]) -> None:
        file, self._importing = self._importing, ""
        self._cancel_timer()
        state = self._files[file]
        if message.get("raised"):
            self._break(file, f"raised {self._site.hidden(message['raised'])[:_LONGEST_SENTENCE]}")
        elif message.get("threads"):
            state.status = SPAWN
            self._site.log(f"{file}: its import starts threads: its attempts get a Python of their own")
        else:
            state.status, state.digest = READY, str(message.get("digest", ""))
        self._settle()
        if message.get("threads"):
            self._end()
        else:
            self._site.loop.begin(self._advance_later(), "import")

    def _on_import_timeout(self) -> None:
        self._break(self._importing, f"did not finish within {span(self._site.load_timeout)}")
        self._end()
        self._settle()

    def _on_start_timeout(self) -> None:
        self._on_death(0, f"did not come up within {span(self._site.load_timeout)}")
        self._end()

    def _on_fork_timeout(self) -> None:
        """It neither forks nor says why not: what it owes is asked of a new one."""
        if self._ending is None and self._pid is not None and not self._importing:
            self._site.log(f"template {self._pid} does not answer")
            self._end()

    def _on_death(self, code: int, how: str) -> None:
        if self._importing:
            file, state = self._importing, self._files[self._importing]
            state.kills += code in (-signal.SIGKILL, -signal.SIGTERM)
            if state.kills != 1:  # once it may have been a person, or the memory that others used
                self._break(file, how)
        elif not self._is_up:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                log = self._site.folder.relative_to(self._site.project) / "import.log"
                self._give_up(f"the template, which imports phases with {self._site.python}, {how}: see {log}")

    def _break(self, file: str, how: str) -> None:
        state = self._files[file]
        state.status, state.sentence = BROKEN, f"{file}: its import {how}"
        self._site.log(state.sentence)

    def _give_up(self, sentence: str) -> None:
        for state in self._files.values():
            if state.status in (UNKNOWN, IMPORTING):
                state.status, state.sentence = BROKEN, sentence
        self._site.log(sentence)
        self._settle()

    def _settle(self) -> None:
        """Wake those who wait for a file that can be had now; they fork before the next import begins."""
        for file in [file for file in self._wanted if self.can_serve(file)]:
            for wake in self._wanted.pop(file):
                wake()

    def _send(self, message: dict[str, Any], fds: tuple[int, ...]) -> None:
        data = json.dumps(message).encode()
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        held = [os.dup(fd) for fd in fds]
        self._send_soon(data, extra, held)

    def _send_soon(self, data: bytes, extra: list[Any], held: list[int]) -> None:
        if held:
            extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", held))]
        try:
            if self._socket is not None:
                self._socket.sendmsg([data], extra)
        except BlockingIOError:
            self._site.loop.after(_RETRY_SECONDS, lambda: self._send_soon(data, extra, held))
            return
        except OSError:  # it is dead: its end is noticed by its exit and by the channels that close
            pass
        for fd in held:
            os.close(fd)


def _how_it_ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended the process with exit status {code}"
    try:
        return f"died by {signal.Signals(-code).name}"
    except ValueError:
        return f"died by signal {-code}"


def _argv(site: Site) -> tuple[str, ...]:
    package = str(Path(orchestrator.__file__).resolve().parents[1])
    head = (site.python, "-P", "-c", _PROGRAM, package)
    return (*head, "--project", str(site.project), "--agent", site.agent)


def spawn_argv(site: Site, channel: int, order: int) -> tuple[str, ...]:
    """A template for one attempt only, which it becomes itself."""
    return (*_argv(site), "--once", f"{channel},{order}")


def order_file(site: Site, order: Order, group: Group | None) -> int:
    """All that the process of an attempt needs to know, in a file without a name: a socket may be too small."""
    fd = os.memfd_create("order", os.MFD_CLOEXEC)
    data = {
        "order": order.as_dict(),
        "environment": site.own_environment(order),
        "folder": site.folder_of(order),
        "project": str(site.project),
        "agent_pid": os.getpid(),
        "group_procs": group.procs if group is not None else "",
    }
    view = memoryview(json.dumps(data).encode())
    while view:
        view = view[os.write(fd, view) :]
    return fd
