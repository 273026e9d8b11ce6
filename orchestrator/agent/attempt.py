"""One attempt, from its order to its outcome: `run_attempt` is the only way in, and its `finally` the only way out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from orchestrator import clock, disk
from orchestrator.agent.channel import LARGEST_RESULT, answer
from orchestrator.agent.deadline import Deadline
from orchestrator.agent.foundry import Foundry
from orchestrator.agent.log import forget_old
from orchestrator.agent.loop import Steps, Task
from orchestrator.agent.output import Output
from orchestrator.agent.result import read_result
from orchestrator.agent.root import NotStarted, Root
from orchestrator.agent.site import Site
from orchestrator.agent.tree import Tree, end_tree, find_leftovers
from orchestrator.core import slot as life
from orchestrator.core.causes import says_no_memory
from orchestrator.core.names import cut
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
from orchestrator.files.ground import OUTPUTS, Ground

LEFTOVER_GRACE_SECONDS = 1.0
_SHORT_SECONDS = 2.0  # no time for the pids to begin anew and come up to the same number
_LONGEST_MESSAGE, _LONGEST_TYPE, _LONGEST_TEXT, _LONGEST_NAME = 4000, 200, 500, 120


def run_attempt(trial: Trial) -> Steps:
    """All that happens to one attempt. However it leaves the `try`: timers, tree, output and outcome are seen to."""
    loop = trial.site.loop
    with Deadline(loop, trial.on_deadline) as deadline, Deadline(loop, trial.on_hush) as hush:
        try:
            trial.validate()
            yield from trial.prepare()
            deadline.set(trial.order.timeout - (clock.ticking() - trial.root.ticking_since))
            trial.listen(hush)
            while trial.is_running:
                yield
        except NotStarted as fault:
            trial.failure = fault.failure
        except Exception as fault:
            said = trial.site.hidden(f"{type(fault).__name__}: {fault}")
            trial.failure = Failure("INTERNAL", f"its agent failed: {said}")
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
        self.site, self.order = site, order
        self.key = order.attempt.key
        self.slot = Slot(str(order.attempt), site.log)
        self.step = "starting"
        self.task: Task | None = None
        self.verdict: str | None = None  # why it is ended, where it does not end by itself
        self.failure: Failure | None = None
        self.progress: dict[str, Any] = {"done": None, "total": None, "text": ""}
        self._on_started, self._on_ended = on_started, on_ended
        self._group = None if order.broken else site.groups.make(str(order.attempt))
        self.root = Root(site, foundry, order, self._group, self._hear)
        self.root.wake = self.wake
        self._tree = Tree(site.census, self.key, lambda: self.root.living_pid, self._group)
        self._last_sign = clock.ticking()
        self._hush: Deadline | None = None
        self._output: Output | None = None
        self._result: Any = None
        self._has_begun = self._has_returned = False
        self._is_urgent = self._insisted = False
        self._leftovers: list[str] = []
        self._duration = 0.0
        self._files = ""

    # ── what others tell it ────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_running(self) -> bool:
        return self.root.status is None and self.verdict is None

    @property
    def idle_seconds(self) -> float:
        return clock.ticking() - self._last_sign

    @property
    def last_line(self) -> str:
        return self._output.lines.last() if self._output is not None else ""

    def wake(self) -> None:
        if self.task is not None:
            self.task.wake()

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

    def _judge(self, verdict: str) -> None:
        """The first word counts, and an exit that is known counts more."""
        if self.is_running:
            self.verdict = verdict
            self.root.is_wanted = False
            self.wake()

    def _on_progress(self, done: float, total: float | None, text: str) -> None:
        self._last_sign = clock.ticking()
        self.progress = {"done": done, "total": total, "text": self.site.hidden(text)[:_LONGEST_TEXT]}

    def _hear(self, message: dict[str, Any]) -> None:
        """What the phase's own process says: it may say anything."""
        kind = message.get("kind")
        if kind == "progress":
            done, total = _number(message.get("done")), _number(message.get("total"))
            self._on_progress(done or 0, total, str(message.get("text", "")))
        elif kind == "beat":
            self._last_sign = clock.ticking()
        elif kind == "result":
            self._has_returned, self._result = True, message.get("value")
        elif kind == "secret":
            answer(message["answer"], self._say_of(message.get("name")))
        elif kind == "error" and self.failure is None:
            code, hidden = str(message.get("code")), self.site.hidden
            self.failure = Failure(
                code if code in CODES else "FAILED", hidden(str(message.get("message")))[:_LONGEST_MESSAGE],
                hidden(str(message.get("type", "")))[:_LONGEST_TYPE],
                critical=message.get("critical") is True,
            )  # fmt: skip
        elif kind == "flood":
            self.failure = Failure("VALIDATION", f"its result is larger than {LARGEST_RESULT} bytes")

    def _say_of(self, name: object) -> dict[str, Any]:
        """Of a secret that it asks for: its value, or which it may ask for."""
        may = self.site.secrets_of(self.order)
        return {"value": may[str(name)]} if name in may else {"may": sorted(may), "is": name in self.site.secrets}

    # ── its steps ──────────────────────────────────────────────────────────────────────────────────────────────

    def validate(self) -> None:
        self.slot.transition_to(life.VALIDATING)
        order, root, folder = self.order, str(self.site.project), self.site.folder_of(self.order)
        if order.broken:
            raise NotStarted("CONFIGURATION", order.broken)
        if not (os.path.isabs(order.cwd) or folder == root or folder.startswith(f"{root}/")):
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
        try:
            if order.attempt.number >= site.forget_logs_after:
                forget_old(log.parent, site.forget_logs_after - 1)
            disk.make_folder(site.folder / "work", durable=False)
            self._output = Output(site.loop, log, order.log_bytes, self._on_progress, site.masker)
        except OSError as fault:
            raise NotStarted("RESOURCE", f"no log or work folder can be made for it: {fault}") from fault
        yield from self.root.start(self._output)
        if self.root.pid is not None:
            self.slot.transition_to(life.RUNNING)
            self.step = "running"
            self._has_begun = True
            self._on_started(self)

    def listen(self, hush: Deadline) -> None:
        self._last_sign = clock.ticking()
        self._hush = hush
        hush.set(self.order.heartbeat_timeout)

    # ── its end ────────────────────────────────────────────────────────────────────────────────────────────────

    def end(self) -> Steps:
        self.step = "stopping"
        self.root.stop_starting()
        is_aborted = self.root.status is None
        if is_aborted and life.can_transition(self.slot.state, life.ABORTING):
            self.slot.transition_to(life.ABORTING, self.verdict or "")
        if self.root.pid is not None:
            yield from self._end_tree(is_aborted)
        self._duration = clock.ticking() - self.root.ticking_since
        self.root.forget()
        if self._output is not None:
            self._output.finish()
        if self.order.outputs and self._kind()[:2] == (EXITED, 0) and self.failure is None:
            yield from self._look_at_outputs()

    def _end_tree(self, is_aborted: bool) -> Steps:
        grace = self.order.kill_grace
        if not is_aborted:
            grace = min(LEFTOVER_GRACE_SECONDS, grace)
            is_short = clock.ticking() - self.root.ticking_since < _SHORT_SECONDS
            left = yield from find_leftovers(self._tree, self.root.pid if is_short else None, self._pause)
            if left is None:
                return
            self._leftovers = left
        yield from end_tree(self._tree, grace, self._pause, lambda: self._is_urgent, self._on_insist)
        while self.root.status is None:
            self.site.loop.reap()
            if self.root.status is None:
                yield from self._pause(0.01)

    def _look_at_outputs(self) -> Steps:
        """What it has made, now that nothing of it is left that could change it; in slices, for the sake of others."""
        ground, number = Ground(self.site.project), self.order.attempt.phase
        if missing := ground.missing(self.order.outputs):
            self.failure = Failure("VALIDATION", f"it succeeded, but its output {', '.join(missing[:3])} is not there")
            return
        looking = ground.listing(self.order.outputs)
        try:
            while True:
                next(looking)
                yield from self._pause(0.0)
        except StopIteration as done:
            listing = done.value
        if listing.fault is not None:
            path, why = listing.fault
            self.failure = Failure("VALIDATION", f"it succeeded, but its output {path} cannot be read: {why}")
        ground.keep(number, OUTPUTS, listing)
        ground.forget(number, OUTPUTS, listing.digest)
        self._files = listing.digest

    def _on_insist(self) -> None:
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
        self.site.groups.drop(self._group)
        failure = outcome.failure.message if outcome.failure is not None else ""
        if outcome.succeeded:
            self.slot.transition_to(life.COMPLETED)
        elif outcome.kind != STOPPED or self.slot.state != life.ABORTING:
            self.slot.transition_to(life.FAILED, failure or outcome.kind)
        self.slot.transition_to(life.IDLE)
        self._on_ended(self, outcome)

    def _outcome(self) -> Outcome:
        ended = clock.now()
        kind, status, number = self._kind()
        failure, result, hidden = self.failure, self._result, self.site.hidden
        if kind == EXITED and status == 0 and failure is None:
            failure, result = self._read_result()
        is_success = kind == EXITED and status == 0 and failure is None
        tail = self._output.lines.tail() if self._output is not None else ()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.site.result_file(self.order))
        return Outcome(
            kind,
            exit_status=status,
            signal=number,
            failure=failure.replace(message=hidden(failure.message))
            if failure is not None and kind in (EXITED, SIGNALLED, LOST, NEVER_STARTED)
            else None,
            result=self.site.hidden_in(result) if is_success else None,
            duration_seconds=round(self._duration, 3) if self.root.pid is not None else 0.0,
            started_at=self.root.started_at,
            ended_at=ended,
            insisted=self._insisted,
            leftovers=tuple(cut(hidden(name), _LONGEST_NAME) for name in self._leftovers) if is_success else (),
            log=self.order.log if self._output is not None else "",
            tail=tail,
            out_of_memory=self._ran_out_of_memory(tail) if kind in (EXITED, SIGNALLED) and not is_success else None,
            files=self._files if is_success else "",
        )

    def _ran_out_of_memory(self, tail: tuple[str, ...]) -> bool | None:
        """A limit of its own makes its calls fail; only the program can tell that from other ends, and mostly does."""
        if self.order.limits.memory is not None and says_no_memory(tail):
            return True
        return self.site.groups.ran_out_of_memory(self._group)

    def _kind(self) -> tuple[str, int | None, int | None]:
        """(kind, exit status, signal)"""
        if self.verdict is not None:
            return self.verdict, None, None
        if not self._has_begun or self.root.status is None:
            return NEVER_STARTED, None, None
        if self.slot.state == life.ABORTING:  # ended for a fault of the agent's own
            return LOST, None, None
        code = os.waitstatus_to_exitcode(self.root.status)
        return (EXITED, code, None) if code >= 0 else (SIGNALLED, None, -code)

    def _read_result(self) -> tuple[Failure | None, Any]:
        if self.order.run is not None:
            return read_result(self.site.result_file(self.order))
        if self._has_returned:
            return None, self._result
        return Failure("FAILED", "its process ended with status 0 before the function returned"), None


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
