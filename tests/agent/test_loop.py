"""The agent's loop and its deadlines, in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from orchestrator.agent.deadline import Deadline
from orchestrator.agent.loop import READ, Loop, Steps

SAID: list[str] = []


@pytest.fixture
def loop() -> Iterator[Loop]:
    SAID.clear()
    loop = Loop(SAID.append)
    yield loop
    loop.close()


def turn(loop: Loop, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        loop.run_soon(loop.begin(iter(()), "tick"))  # type: ignore[arg-type]
        loop.turn()


def test_timers_fire_in_order_and_not_when_cancelled(loop: Loop) -> None:
    fired: list[str] = []
    for name, seconds in (("c", 0.03), ("a", 0.01), ("b", 0.02)):
        loop.after(seconds, lambda name=name: fired.append(name))  # type: ignore[misc]
    loop.after(0.015, lambda: fired.append("never")).cancel()
    assert loop.timers == 3
    turn(loop, 0.1)
    assert fired == ["a", "b", "c"]
    assert loop.timers == 0


def test_a_deadline_is_released_however_the_block_is_left(loop: Loop) -> None:
    passed: list[int] = []
    with pytest.raises(ZeroDivisionError), Deadline(loop, lambda: passed.append(1)) as deadline:
        deadline.set(0.01)
        raise ZeroDivisionError
    assert loop.timers == 0
    turn(loop, 0.05)
    assert passed == []


def test_a_deadline_that_is_set_again_counts_from_then(loop: Loop) -> None:
    passed: list[int] = []
    with Deadline(loop, lambda: passed.append(1)) as deadline:
        deadline.set(0.01)
        deadline.set(60)
        assert loop.timers == 1
        turn(loop, 0.05)
        assert passed == []
        deadline.set(0.01)
        turn(loop, 0.05)
        assert passed == [1]
        deadline.set(None)
    assert loop.timers == 0


def test_a_generator_left_half_way_releases_its_deadline(loop: Loop) -> None:

    def steps() -> Steps:
        with Deadline(loop, lambda: None) as deadline:
            deadline.set(60)
            yield

    half = steps()
    next(half)
    assert loop.timers == 1
    half.close()
    assert loop.timers == 0


def test_a_fault_is_written_down_and_harms_no_other(loop: Loop) -> None:
    ran: list[int] = []

    def broken() -> Steps:
        yield
        raise KeyError("why")

    def sound() -> Steps:
        ran.append(1)
        yield
        ran.append(2)

    tasks = [loop.begin(broken(), "broken"), loop.begin(sound(), "sound")]
    loop.after(0, lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    loop.turn()
    for task in tasks:
        task.wake()
    loop.turn()
    assert ran == [1, 2]
    assert len(SAID) == 2
    assert any("KeyError" in line and "broken" in line for line in SAID)


def test_a_descriptor_that_is_unwatched_meanwhile_is_not_called(loop: Loop) -> None:
    called: list[int] = []
    pipes = [os.pipe() for _ in range(2)]

    def call(mine: int, other: int) -> None:
        called.append(mine)
        loop.unwatch(other)

    (a, _), (b, _) = pipes
    loop.watch(a, READ, lambda mask: call(a, b))
    loop.watch(b, READ, lambda mask: call(b, a))
    for _, writer in pipes:
        os.write(writer, b"x")
    loop.turn()
    assert len(called) == 1
    for pair in pipes:
        for fd in pair:
            loop.unwatch(fd)
            os.close(fd)
