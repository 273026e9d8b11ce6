"""The agent's one loop: descriptors, timers, ended children and generators, in one thread."""

from __future__ import annotations

import contextlib
import heapq
import select
import signal
import socket
from collections.abc import Callable, Generator
from typing import NamedTuple

from orchestrator import clock, process

Steps = Generator[None, None, None]
READ, WRITE = select.EPOLLIN, select.EPOLLOUT
# poll() sleeps on a clock that stops while the machine is suspended; deadlines do not
LONGEST_SLEEP_SECONDS = 2.0


class Watch(NamedTuple):
    mask: int
    call: Callable[[int], None]


class Timer:
    """Calls once, unless cancelled before."""

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Task:
    """A generator that runs on whenever it is woken, and looks for itself at what has changed."""

    def __init__(self, loop: Loop, steps: Steps, name: str) -> None:
        self.name = name
        self.is_over = False
        self._loop = loop
        self._steps = steps

    def wake(self) -> None:
        self._loop.run_soon(self)

    def step(self) -> None:
        if self.is_over:
            return
        try:
            next(self._steps)
        except StopIteration:
            self.is_over = True
        except BaseException:
            self.is_over = True
            raise


class Loop:
    def __init__(self, log: Callable[[str], None]) -> None:
        self.before_reaping: Callable[[], None] = lambda: None
        self.on_exit: Callable[[int, int], None] = lambda pid, status: None
        self.on_signal: dict[int, Callable[[], None]] = {}
        self._log = log
        self._epoll = select.epoll()
        self._watched: dict[int, Watch] = {}
        self._timers: list[Timer] = []
        self._ready: dict[Task, None] = {}
        self._pending_signals: set[int] = set()
        self._bell, bell = socket.socketpair()
        self._bell.setblocking(False)
        bell.setblocking(False)
        self._bell_end = bell
        self.watch(self._bell.fileno(), READ, self._ring)

    def close(self) -> None:
        self._epoll.close()
        self._bell.close()
        self._bell_end.close()

    def catch_signals(self, *numbers: int) -> None:
        signal.set_wakeup_fd(self._bell_end.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *numbers):
            signal.signal(number, lambda caught, _frame: self._pending_signals.add(caught))

    def watch(self, fd: int, mask: int, call: Callable[[int], None]) -> None:
        if fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._watched[fd] = Watch(mask, call)

    def unwatch(self, fd: int) -> None:
        if self._watched.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(clock.ticking() + max(0.0, seconds), call)
        heapq.heappush(self._timers, timer)
        return timer

    def begin(self, steps: Steps, name: str) -> Task:
        task = Task(self, steps, name)
        self.run_soon(task)
        return task

    def run_soon(self, task: Task) -> None:
        self._ready[task] = None

    @property
    def timers(self) -> int:
        return sum(timer.call is not None for timer in self._timers)

    def reap(self) -> None:
        self.before_reaping()
        for pid, status in process.reap():
            self.on_exit(pid, status)

    def turn(self) -> None:
        """One pass. Ended children come before timers: no deadline swallows an exit that is already known."""
        # as they are watched now: a number may be that of another descriptor before its turn comes
        events = [(fd, self._watched[fd], mask) for fd, mask in self._epoll.poll(0 if self._ready else self._sleep())]
        self._take_signals()
        for fd, watch, mask in events:
            if self._watched.get(fd) is watch:
                ended = mask & (select.EPOLLHUP | select.EPOLLERR)
                self.guard(f"descriptor {fd}", watch.call, watch.mask if ended else mask)
        self._fire()
        ready, self._ready = self._ready, {}
        for task in ready:
            self.guard(task.name, task.step)

    def _sleep(self) -> float:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return LONGEST_SLEEP_SECONDS
        return min(LONGEST_SLEEP_SECONDS, max(0.0, self._timers[0].when - clock.ticking()))

    def _ring(self, _mask: int) -> None:
        """What does not fit rings again."""
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(4096)

    def _take_signals(self) -> None:
        while self._pending_signals:
            number = self._pending_signals.pop()
            if number == signal.SIGCHLD:
                self.reap()
            elif number in self.on_signal:
                self.guard(f"signal {number}", self.on_signal[number])

    def _fire(self) -> None:
        now = clock.ticking()
        if self._timers and self._timers[0].when <= now:
            self.reap()
        while self._timers and self._timers[0].when <= now:
            timer = heapq.heappop(self._timers)
            if timer.call is not None:
                call, timer.call = timer.call, None
                self.guard("timer", call)

    def guard(self, name: str, call: Callable[..., None], *given: object) -> None:
        """A fault in one part is written down and harms no other part."""
        try:
            call(*given)
        except Exception as fault:
            self._log(f"fault in {name}: {type(fault).__name__}: {fault} ({_place(fault)})")


def _place(fault: BaseException) -> str:
    frames = fault.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return "" if frames is None else f"{frames.tb_frame.f_code.co_filename}:{frames.tb_lineno}"
