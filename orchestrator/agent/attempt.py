"""One attempt, from its order to its outcome: `run_attempt` is the only way in, and its `finally` the only way out."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from typing import Any

from orchestrator import clock, disk, process
from orchestrator.agent.channel import LARGEST_RESULT, Channel
from orchestrator.agent.deadline import Deadline
from orchestrator.agent.foundry import BROKEN, READY, SPAWN, Foundry, order_file, spawn_argv
from orchestrator.agent.log import forget_old
from orchestrator.agent.loop import READ, Steps, Task
from orchestrator.agent.output import Output
from orchestrator.agent.site import Site
from orchestrator.agent.tree import Tree, end_tree, name_leftovers
from orchestrator.core import slot as life
from orchestrator.core.outcome import (
    EXITED,
    HUNG,
    LOST,
    NEVER_STARTED,
    SIGNALLED,
    STOPPED,
    TIMED_OUT,
    Failure,
    Outcome,
)
from orchestrator.core.slot import Slot
from orchestrator.core.wire import Order
from orchestrator.errors import CODES
from orchestrator.process import Launch, LaunchFault

LEFTOVER_GRACE_SECONDS = 1.0
_FORK_TRIES = 2


class NotStarted(Exception):
    """No code of the phase ran, and why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.failure = Failure(code, message)


def run_attempt(trial: Trial) -> Steps:
    """Everything that happens to one attempt. However it leaves the `try`, timers, tree, output and outcome are seen to."""
    with Deadline(trial.site.loop, trial.on_deadline) as deadline, Deadline(trial.site.loop, trial.on_hush) as hush:
        try:
            trial.validate()
            yield from trial.prepare()
            deadline.set(trial.order.timeout)
            trial.listen(hush)
            while trial.is_running:
                yield
        except NotStarted as fault:
            trial.failure = fault.failure
        except Exception as fault:
            trial.failure = Failure("INTERNAL", f"its agent failed: {type(fault).__name__}: {fault}")
            trial.site.log(f"attempt {trial.key}: {trial.failure.message}")
        finally:
            deadline.release()
            hush.release()
            yield from trial.end()
            trial.report()


class Trial:
    """What is known of an attempt. Others change it (`on_...`) and wake `run_attempt`, which looks for itself."""

    def __init__(
        self,
        site: Site,
        foundry: Foundry,
        order: Order,
        on_started: Callable[[Trial], None],
        on_ended: Callable[[Trial, Outcome], None],
    ) -> None:
        self.site, self.foundry, self.order = site, foundry, order
        self.key = order.attempt.key
        self.slot = Slot(str(order.attempt), site.log)
        self.step = "starting"
        self.task: Task | None = None
        self.pid: int | None = None
        self.ticks = 0
        self.status: int | None = None
        self.started_at: float | None = None
        self.verdict: str | None = None  # why it is ended, where it does not end by itself
        self.failure: Failure | None = None
        self.progress: dict[str, Any] = {"done": None, "total": None, "text": ""}
        self._on_started, self._on_ended = on_started, on_ended
        self._ticking_since = self._last_sign = clock.ticking()
        self._hush: Deadline | None = None
        self._output: Output | None = None
        self._channel: Channel | None = None
        self._is_channel_closed = False
        self._forked: int | None = None  # it exists, but does not stand on its own feet yet
        self._fork_errno: int | None = None
        self._report: int = -1
        self._result: Any = None
        self._has_begun = self._has_returned = False
        self._is_urgent = self._insisted = False
        self._leftovers: list[str] = []
        self._group = None if order.broken else site.groups.make(f"{order.attempt}")
        self._tree = Tree(site.census, self.key, lambda: self.pid if self.status is None else None, self._group)

    # ── what others tell it ────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_running(self) -> bool:
        return self.status is None and self.verdict is None

    @property
    def is_pending(self) -> bool:
        """A fork is on its way: who appears may be this attempt."""
        return self._channel is not None and self.pid is None

    @property
    def idle_seconds(self) -> float:
        return clock.ticking() - self._last_sign

    @property
    def last_line(self) -> str:
        return self._output.lines.last() if self._output is not None else ""

    def wake(self) -> None:
        if self.task is not None:
            self.task.wake()

    def on_exit(self, status: int) -> None:
        self.status = status
        self.wake()

    def on_deadline(self) -> None:
        self._judge(TIMED_OUT)

    def on_hush(self) -> None:
        """Nothing was heard since the timer was set; or something was, and it is set again for the rest."""
        limit = self.order.heartbeat_timeout
        if limit is None or self._hush is None:
            return
        if self.idle_seconds >= limit:
            self._judge(HUNG)
        else:
            self._hush.set(limit - self.idle_seconds)

    def stop(self, *, insist: bool, lost: str = "") -> None:
        self._is_urgent = self._is_urgent or insist
        if lost and self.is_running:
            self.failure = Failure("INTERRUPTED", lost)
        self._judge(LOST if lost else STOPPED)
        self.wake()

    def on_fork_failed(self, number: int) -> None:
        self._fork_errno = number
        self.wake()

    def read_channel(self) -> None:
        if self._channel is not None:
            self._channel.read()

    def _judge(self, verdict: str) -> None:
        if self.is_running:
            self.verdict = verdict
            self.wake()

    def _sign(self) -> None:
        self._last_sign = clock.ticking()

    def _on_progress(self, done: float, total: float | None, text: str) -> None:
        self._sign()
        self.progress = {"done": done, "total": total, "text": text}

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message.get("kind")
        if kind == "pid" and self._forked is None:
            self._forked = int(message["pid"])
            self.site.census.roots[self._forked] = self.key
        elif kind == "ready" and self.pid is None and self._forked is not None:
            self._adopt(self._forked)
        elif kind == "progress":
            self._on_progress(
                _number(message.get("done")) or 0, _number(message.get("total")), str(message.get("text", ""))[:500]
            )
        elif kind == "beat":
            self._sign()
        elif kind == "result":
            self._has_returned, self._result = True, message.get("value")
        elif kind == "error":
            code = str(message.get("code"))
            code = code if code in CODES else "FAILED"
            self.failure = self.failure or Failure(
                code, str(message.get("message"))[:4000], str(message.get("type", ""))[:200]
            )
        elif kind == "flood":
            self.failure = Failure("VALIDATION", f"its result is larger than {LARGEST_RESULT} bytes")

    def _on_channel_closed(self) -> None:
        self._is_channel_closed = True
        self.wake()

    # ── its steps ──────────────────────────────────────────────────────────────────────────────────────────────

    def validate(self) -> None:
        self.slot.transition_to(life.VALIDATING)
        order, folder = self.order, self.site.folder_of(self.order)
        if order.broken:
            raise NotStarted("CONFIGURATION", order.broken)
        inside = (
            os.path.isabs(order.cwd) or folder == str(self.site.project) or folder.startswith(f"{self.site.project}/")
        )
        if not inside:
            raise NotStarted("CONFIGURATION", f"its cwd {order.cwd!r} is outside the project: write an absolute path")
        if not os.path.isdir(folder):
            raise NotStarted("NOT_FOUND", f"its cwd {order.cwd!r} is not a folder")
        if order.run is not None and not order.run:
            raise NotStarted("CONFIGURATION", "its `run` is empty")
        self.slot.transition_to(life.READY)

    def prepare(self) -> Steps:
        self.slot.transition_to(life.PREPARING)
        order, site = self.order, self.site
        log = site.project / order.log
        forget_old(log.parent, site.forget_logs_after - 1)
        disk.make_folder(site.folder / "work")
        try:
            self._output = Output(site.loop, log, order.log_bytes, self._on_progress)
            if order.run is not None:
                argv = ("/bin/sh", "-c", order.run) if isinstance(order.run, str) else order.run
                yield from self._launch(argv, ())
            else:
                yield from self._start_python()
        except OSError as fault:
            code = "CONFIGURATION" if fault.errno in (errno.EINVAL, errno.E2BIG) else "RESOURCE"
            raise NotStarted(code, f"could not be started: {fault.strerror or fault}") from fault
        finally:
            if self._output is not None:
                self._output.let_go()
            if self._channel is not None:
                self._channel.let_go()
        if self.pid is not None:
            self.slot.transition_to(life.RUNNING)
            self.step = "running"
            self._has_begun = True
            self._on_started(self)

    def listen(self, hush: Deadline) -> None:
        self._sign()
        self._hush = hush
        hush.set(self.order.heartbeat_timeout)

    def _launch(self, argv: tuple[str, ...], keep_fds: tuple[int, ...]) -> Steps:
        """A program of its own: fork here, and wait (without blocking) until it is executed or says why not."""
        assert self._output is not None
        launch = Launch(
            argv,
            {**os.environ, **self.site.own_environment(self.order)},
            self.site.folder_of(self.order),
            output=self._output.pipe,
            keep_fds=keep_fds,
            is_subreaper=True,
            limits=self.order.limits,
            group_procs=self._group.procs if self._group is not None else "",
        )
        pid, self._report = process.begin(launch)
        self._adopt(pid)
        loop = self.site.loop
        loop.watch(self._report, READ, lambda _mask: self._end_watch())
        while self._report >= 0 and self.verdict is None:
            yield
        if self._fault:
            self._say_why(process.fault_from(self._fault, launch))

    _fault = b""

    def _end_watch(self) -> None:
        self._fault = os.read(self._report, 4096)
        self._close_report()
        self.wake()

    def _close_report(self) -> None:
        if self._report >= 0:
            self.site.loop.unwatch(self._report)
            os.close(self._report)
            self._report = -1

    def _say_why(self, fault: LaunchFault | None) -> None:
        if fault is None:
            return
        name = fault.filename
        if fault.stage == "exec" and fault.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotStarted("NOT_FOUND", f"{name}: no such program (looked for it in PATH and the file system)")
        if fault.stage == "exec" and fault.errno in (errno.EACCES, errno.EPERM):
            raise NotStarted("PERMISSION", f"{name}: may not be executed (is it a file with the execute bit set?)")
        if fault.stage == "exec" and fault.errno == errno.ENOEXEC:
            raise NotStarted("CONFIGURATION", f"{name}: is no program, and has no first line #! that names one")
        if fault.errno in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE):
            raise NotStarted("RESOURCE", f"{name}: could not be started at {fault.stage}: {fault.strerror}")
        raise NotStarted("CONFIGURATION", f"{name}: could not be started at {fault.stage}: {fault.strerror}")

    def _start_python(self) -> Steps:
        file = self.order.file
        if self.order.isolation == "spawn":
            yield from self._spawn_python()
            return
        for _ in range(_FORK_TRIES):
            while not self.foundry.can_serve(file) and self.verdict is None:
                self.foundry.prepare(file, self.wake)
                yield
            state = self.foundry.state_of(file)
            if self.verdict is not None:
                return
            if state.status == BROKEN:
                raise NotStarted(state.code, state.sentence)
            if state.status == SPAWN:
                yield from self._spawn_python()
                return
            if state.status == READY and state.digest != self.order.digest:
                raise NotStarted("CONFIGURATION", f"{file} changed after this run was planned: start the run again")
            yield from self._fork_python()
            if self.pid is not None or self.verdict is not None:
                return
        raise NotStarted("INTERNAL", f"{file}: its template died twice while it forked this attempt")

    def _fork_python(self) -> Steps:
        assert self._output is not None
        self._open_channel()
        assert self._channel is not None
        order = order_file(self.site, self.order, self._group)
        try:
            self.foundry.fork(
                self.key, self.order.file, (self._output.pipe, self._channel.there.fileno(), order), self.on_fork_failed
            )
        finally:
            os.close(order)
        self._channel.let_go()
        while self.pid is None and self.verdict is None and not self._is_channel_closed and self._fork_errno is None:
            yield
        self.foundry.forget(self.key)
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
            self.site.census.roots.pop(self._forked, None)
            self._forked = None

    def _spawn_python(self) -> Steps:
        self._open_channel()
        assert self._channel is not None
        order = order_file(self.site, self.order, self._group)
        there = self._channel.there.fileno()
        try:
            yield from self._launch(spawn_argv(self.site, there, order), (there, order))
        finally:
            os.close(order)

    def _open_channel(self) -> None:
        self._is_channel_closed = False
        self._channel = Channel(self.site.loop, self._hear, self._on_channel_closed)

    def _adopt(self, pid: int) -> None:
        """From here on the process is known to be ours; an attempt of Python waits until it is told so."""
        self.pid = pid
        self.site.census.roots[pid] = self.key
        entry = process.entry_of(pid)
        self.ticks = entry.ticks if entry is not None else 0
        self._ticking_since, self.started_at = clock.ticking(), clock.now()
        if self._channel is not None:
            self._channel.say_go()
        self.wake()

    # ── its end ────────────────────────────────────────────────────────────────────────────────────────────────

    def end(self) -> Steps:
        self.step = "stopping"
        self._close_report()
        if self.pid is None:
            self._give_up_fork()
        aborts = self.status is None
        if aborts and life.can_transition(self.slot.state, life.ABORTING):
            self.slot.transition_to(life.ABORTING, self.verdict or "")
        if self.pid is not None:
            if not aborts:
                yield from name_leftovers(self._tree, self._pause, self._leftovers)
            grace = self.order.kill_grace
            grace = grace if aborts else min(LEFTOVER_GRACE_SECONDS, grace)
            yield from end_tree(self._tree, grace, self._pause, lambda: self._is_urgent, self._on_insist)
            while self.status is None:
                self.site.loop.reap()
                if self.status is None:
                    yield from self._pause(0.01)
            self.site.census.roots.pop(self.pid, None)
        if self._channel is not None:
            self._channel.read()
            self._channel.close()
        if self._output is not None:
            self._output.finish()
        self.site.groups.drop(self._group)

    def _on_insist(self, _step: str) -> None:
        self._insisted = True
        self.site.log(f"attempt {self.key}: SIGKILL for what did not heed SIGTERM")

    def _pause(self, seconds: float) -> Steps:
        timer = self.site.loop.after(seconds, self.wake)
        try:
            yield
        finally:
            timer.cancel()

    def report(self) -> None:
        outcome = self._outcome()
        failure = outcome.failure.message if outcome.failure is not None else ""
        if outcome.succeeded:
            self.slot.transition_to(life.COMPLETED)
        elif outcome.kind != STOPPED or self.slot.state != life.ABORTING:
            self.slot.transition_to(life.FAILED, failure or outcome.kind)
        self.slot.transition_to(life.IDLE)
        self._on_ended(self, outcome)

    def _outcome(self) -> Outcome:
        now = clock.ticking()
        kind, status, number = self._kind()
        failure, result = self.failure, self._result
        if kind == EXITED and status == 0 and failure is None:
            failure, result = self._read_result()
        succeeded = kind == EXITED and status == 0 and failure is None
        path = self.site.result_file(self.order)
        path.unlink(missing_ok=True)
        return Outcome(
            kind,
            exit_status=status,
            signal=number,
            failure=failure if kind in (EXITED, SIGNALLED, LOST, NEVER_STARTED) else None,
            result=result if succeeded else None,
            duration_seconds=round(now - self._ticking_since, 3) if self.pid is not None else 0.0,
            started_at=self.started_at,
            ended_at=clock.now(),
            insisted=self._insisted,
            leftovers=tuple(self._leftovers) if succeeded else (),
            log=self.order.log if self._output is not None else "",
            tail=self._output.lines.tail() if self._output is not None else (),
        )

    def _kind(self) -> tuple[str, int | None, int | None]:
        """(kind, exit status, signal)"""
        if self.verdict is not None:
            return self.verdict, None, None
        if not self._has_begun or self.status is None:
            return NEVER_STARTED, None, None
        if self.slot.state == life.ABORTING:
            return LOST, None, None
        code = os.waitstatus_to_exitcode(self.status)
        return (EXITED, code, None) if code >= 0 else (SIGNALLED, None, -code)

    def _read_result(self) -> tuple[Failure | None, Any]:
        """What an attempt that ended well has to give."""
        if self.order.run is None:
            if self._has_returned:
                return None, self._result
            return Failure("FAILED", "its process ended with status 0 before the function returned"), None
        return _read_file(str(self.site.result_file(self.order)))


def _read_file(path: str) -> tuple[Failure | None, Any]:
    """What a command left in $ORCH_RESULT: nothing, JSON, or a mistake (which must not block us, as a pipe would)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, None
    except OSError as fault:
        return Failure("VALIDATION", f"$ORCH_RESULT cannot be read: {fault.strerror}"), None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return Failure("VALIDATION", "$ORCH_RESULT is no regular file any more"), None
        data = file.read(LARGEST_RESULT + 1)
    if len(data) > LARGEST_RESULT:
        return Failure("VALIDATION", f"$ORCH_RESULT holds more than {LARGEST_RESULT} bytes"), None
    return _parse(data)


def _parse(data: bytes) -> tuple[Failure | None, Any]:
    if not data.strip():
        return None, None
    try:
        return None, json.loads(data, parse_constant=_refuse)
    except json.JSONDecodeError as fault:
        where = f"line {fault.lineno}, column {fault.colno}"
        return Failure("VALIDATION", f"$ORCH_RESULT is not JSON: {fault.msg} at {where}"), None
    except (ValueError, RecursionError) as fault:
        return Failure("VALIDATION", f"$ORCH_RESULT is not JSON: {fault}"), None


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
