"""The root process of an attempt: how it comes to be, by fork here or by the template, and why it does not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from orchestrator import clock, process
from orchestrator.agent.channel import Channel
from orchestrator.agent.foundry import BROKEN, READY, SPAWN, Foundry, order_file, spawn_argv
from orchestrator.agent.loop import READ, Steps
from orchestrator.agent.output import Output
from orchestrator.agent.site import Site
from orchestrator.core.outcome import Failure
from orchestrator.core.wire import Order
from orchestrator.process import Launch, LaunchFault
from orchestrator.process.groups import Group

_FORK_TRIES = 2
_SOON_SECONDS = 0.01
_DYING_SECONDS = 0.1
_LATE_SECONDS = 3.0  # after which the launcher, which takes a thousandth of that, is taken to hang


class NotStarted(Exception):
    """No code of the phase ran, and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(code, message)


class Root:
    def __init__(
        self, site: Site, foundry: Foundry, order: Order, group: Group | None, hear: Callable[[dict[str, Any]], None]
    ) -> None:
        self.pid: int | None = None
        self.ticks = 0
        self.status: int | None = None  # as waitpid gives it
        self.started_at: float | None = None
        self.ticking_since = clock.ticking()
        self.is_wanted = True  # until somebody does not wait for it any more
        self.wake: Callable[[], None] = lambda: None
        self._site, self._foundry, self._order, self._group = site, foundry, order, group
        self._key = order.attempt.key
        self._hear_rest = hear
        self._channel: Channel | None = None
        self._is_channel_closed = False
        self._forked: int | None = None  # it exists, but does not stand on its own feet yet
        self._fork_errno: int | None = None
        self._begun: tuple[float, float] | None = None  # when a program was handed over
        self._report = -1
        self._said = b""

    @property
    def is_pending(self) -> bool:
        """A fork is on its way: who appears may be this attempt."""
        return self.pid is None and (self._channel is not None or self._report >= 0)

    @property
    def living_pid(self) -> int | None:
        return self.pid if self.status is None else None

    def start(self, output: Output) -> Steps:
        """Ends once it runs, or is not wanted any more; NotStarted says why it does not."""
        run = self._order.run
        try:
            if run is not None:
                argv = ("/bin/sh", "-c", run) if isinstance(run, str) else run
                yield from self._launch(argv, output.pipe, ())
            else:
                yield from self._start_python(output.pipe)
        except OSError as fault:
            code = "CONFIGURATION" if fault.errno in (errno.EINVAL, errno.E2BIG) else "RESOURCE"
            raise NotStarted(code, f"could not be started: {fault.strerror or fault}") from fault
        finally:
            if self._channel is not None:
                self._channel.let_go()

    def on_exit(self, status: int) -> None:
        self.status = status
        if self._report >= 0:
            self._read_report()
            self._close_report()  # others may hold it for a moment yet
        self.wake()

    def read_pending(self) -> None:
        """Has it said its pid?"""
        if self._channel is not None:
            self._channel.read()
        if self._report >= 0:
            self._read_report()

    def stop_starting(self) -> None:
        self._close_report()
        if self.pid is None:
            self._give_up_fork()

    def forget(self) -> None:
        """After its end: take its last words."""
        if self.pid is not None:
            self._site.census.roots.pop(self.pid, None)
        if self._channel is not None:
            self._channel.read()
            self._channel.close()

    # ── a program of its own ───────────────────────────────────────────────────────────────────────────────────

    def _launch(self, argv: tuple[str, ...], output: int, keep_fds: tuple[int, ...]) -> Steps:
        """Fork here, and wait (without blocking) until it is executed or says why not."""
        launch = Launch(
            argv,
            {
                **self._site.environ,
                **self._site.own_environment(self._order),
                **self._site.secret_environment(self._order),
            },
            self._site.folder_of(self._order),
            output=output,
            keep_fds=keep_fds,
            is_subreaper=True,
            limits=self._order.limits,
            group_procs=self._group.procs if self._group is not None else "",
        )
        self._begun = clock.ticking(), clock.now()
        report = self._site.launcher.begin(launch)
        if report is not None:
            self._report = report
            timers = (
                self._site.loop.after(_SOON_SECONDS, self._watch_report),
                self._site.loop.after(_LATE_SECONDS, self._on_late),
            )
            yield from self._follow()
            for timer in timers:
                timer.cancel()
        if self.pid is None and self.is_wanted:  # the launcher could not
            self._said, self._begun = b"", None
            pid, self._report = process.begin(launch)
            self._adopt(pid)
            self._watch_report()
            yield from self._follow()
        if self._said:
            _say_why(process.fault_from(self._said, launch))

    def _follow(self) -> Steps:
        """Until it is executed; one that is not wanted any more until it is known, for it may be there by now."""
        while self._report >= 0 and (self.is_wanted or self.pid is None):
            if not self.is_wanted:
                self._watch_report()
            yield

    def _watch_report(self) -> None:
        """What is short has ended before anybody asks whether it has begun: nobody is woken for that."""
        if self._report >= 0:
            os.set_blocking(self._report, False)
            self._site.loop.watch(self._report, READ, self._read_report)

    def _on_late(self) -> None:
        """What hangs is its exec, or the launcher."""
        self.read_pending()
        if self.pid is None:
            self._site.launcher.end()

    def _read_report(self, _mask: int = READ) -> None:
        """First the pid, where the launcher forked it; then its end, or before it why not."""
        try:
            while data := os.read(self._report, 4096):
                self.wake()
                pid, mark, rest = data.partition(b"\n")
                if mark:
                    self._adopt(int(pid))
                self._said += rest if mark else data
        except BlockingIOError:
            return
        self._close_report()
        self.wake()

    def _close_report(self) -> None:
        if self._report >= 0:
            self._site.loop.unwatch(self._report)
            os.close(self._report)
            self._report = -1

    # ── Python ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _start_python(self, output: int) -> Steps:
        file = self._order.file
        if self._order.isolation == "spawn":
            yield from self._spawn(output)
            return
        for tries in range(_FORK_TRIES):
            if tries:
                yield from self._see_it_die(file)
            while not self._foundry.can_serve(file) and self.is_wanted:
                self._foundry.prepare(file, self.wake)
                yield
            if not self.is_wanted:
                return
            state = self._foundry.state_of(file)
            if state.status == BROKEN:
                raise NotStarted(state.code, state.sentence)
            if state.status == SPAWN:
                yield from self._spawn(output)
                return
            if state.status == READY and state.digest != self._order.digest:
                raise NotStarted("CONFIGURATION", f"{file} changed after this run was planned: start the run again")
            yield from self._fork(output)
            if self.pid is not None or not self.is_wanted:
                return
        raise NotStarted("INTERNAL", f"{file}: its template died twice while it forked this attempt")

    def _see_it_die(self, file: str) -> Steps:
        """Its end of our channel closes a moment before its exit is known: to ask it once more would be in vain."""
        until = clock.ticking() + _DYING_SECONDS
        timer = self._site.loop.after(_DYING_SECONDS, self.wake)
        while self._foundry.can_serve(file) and self.is_wanted and clock.ticking() < until:
            yield
        timer.cancel()

    def _fork(self, output: int) -> Steps:
        channel = self._open_channel()
        order = order_file(self._site, self._order, self._group)
        try:
            fds = (output, channel.there.fileno(), order)
            self._foundry.fork(self._key, self._order.file, fds, self._on_fork_failed)
        finally:
            os.close(order)
            channel.let_go()
        while self.pid is None and self.is_wanted and not self._is_channel_closed and self._fork_errno is None:
            yield
        self._foundry.forget(self._key)
        if self.pid is None:
            self._give_up_fork()
        if self._fork_errno is not None:
            raise NotStarted("RESOURCE", f"no process could be made for it: {os.strerror(self._fork_errno)}")

    def _give_up_fork(self) -> None:
        """Who is being forked for us sees the closed channel and leaves; until then it counts as a stranger."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._forked is not None:
            self._site.census.roots.pop(self._forked, None)
            self._forked = None

    def _spawn(self, output: int) -> Steps:
        channel = self._open_channel()
        order = order_file(self._site, self._order, self._group)
        there = channel.there.fileno()
        try:
            yield from self._launch(spawn_argv(self._site, there, order), output, (there, order))
        finally:
            os.close(order)

    def _open_channel(self) -> Channel:
        self._is_channel_closed = False
        self._channel = Channel(self._site.loop, self._hear, self._on_channel_closed)
        return self._channel

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message.get("kind")
        if kind == "pid" and self._forked is None:
            self._forked = int(message["pid"])
            self._site.census.roots[self._forked] = self._key
        elif kind == "ready" and self.pid is None and self._forked is not None:
            self._adopt(self._forked)
            self.wake()
        else:
            self._hear_rest(message)

    def _on_channel_closed(self) -> None:
        self._is_channel_closed = True
        self.wake()

    def _on_fork_failed(self, number: int) -> None:
        self._fork_errno = number
        self.wake()

    def _adopt(self, pid: int) -> None:
        """From here on the process is known to be ours; an attempt of Python waits until it is told so."""
        self.pid = pid
        self._site.census.roots[pid] = self._key
        entry = process.entry_of(pid)
        self.ticks = entry.ticks if entry is not None else 0
        self.ticking_since, self.started_at = self._begun or (clock.ticking(), clock.now())
        if self._channel is not None:
            self._channel.say_go()


def _say_why(fault: LaunchFault | None) -> None:
    if fault is None:
        return
    name = fault.filename
    if fault.stage == "exec" and fault.errno in (errno.ENOENT, errno.ENOTDIR):
        raise NotStarted("NOT_FOUND", f"{name}: no such program (looked for it in PATH and the file system)")
    if fault.stage == "exec" and fault.errno in (errno.EACCES, errno.EPERM):
        raise NotStarted("PERMISSION", f"{name}: may not be executed (is it a file with the execute bit set?)")
    if fault.stage == "exec" and fault.errno == errno.ENOEXEC:
        raise NotStarted("CONFIGURATION", f"{name}: is no program, and has no first line #! that names one")
    code = "CONFIGURATION"
    if fault.errno in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE):
        code = "RESOURCE"
    raise NotStarted(code, f"{name}: could not be started at {fault.stage}: {fault.strerror}")
