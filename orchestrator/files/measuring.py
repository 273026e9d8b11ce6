"""Answers what the loop wants to know of files: in slices, between two turns of the loop, so that nothing waits for it.

In the loop's own process and no other: a memo makes most answers a stat for each file, which no hand-over would be
cheaper than; and what has to be read is read as fast, with the loop going round in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence

from orchestrator import clock
from orchestrator.core.actions import Action, Measure
from orchestrator.core.cachekey import Difference, Material, first_difference
from orchestrator.core.observations import Measured
from orchestrator.files.ground import INPUTS, OUTPUTS, OVER, Ground, Listing, digest_of

SLICE = 0.02  # seconds of work between two turns of the loop
IDLE = 3600.0


class Measurer:
    def __init__(self, ground: Ground, put: Callable[[Measured], None]) -> None:
        self._ground, self._put = ground, put
        self._waiting: deque[Measure] = deque()
        self._work: Generator[None, None, Material] | None = None

    def perform(self, actions: Sequence[Action]) -> None:
        self._waiting.extend(action for action in actions if isinstance(action, Measure))

    def tend(self) -> float:
        """Some of the work; returns the seconds until it wants to go on."""
        until = clock.ticking() + SLICE
        while self._waiting and clock.ticking() < until:
            question = self._waiting[0]
            self._work = self._work or answer(self._ground, question, keeps=True)
            try:
                while clock.ticking() < until:
                    next(self._work)
            except StopIteration as done:
                self._put(Measured(question.number, done.value))
                self._waiting.popleft()
                self._work = None
        return 0.0 if self._waiting else IDLE


def examine(ground: Ground, questions: Iterable[Measure]) -> dict[int, Material]:
    """All at once, for who has nothing else to do, and only looks."""
    found = {}
    for question in questions:
        work = answer(ground, question, keeps=False)
        try:
            while True:
                next(work)
        except StopIteration as done:
            found[question.number] = done.value
    return found


def answer(ground: Ground, question: Measure, *, keeps: bool) -> Generator[None, None, Material]:
    """`keeps`: what is found now is what an attempt will have been made of."""
    inputs = yield from _compared(ground, question.number, INPUTS, question.inputs, question.was_inputs)
    outputs = yield from _compared(ground, question.number, OUTPUTS, question.outputs, question.was_outputs)
    patterns = (question.over,) if question.over else ()
    over = yield from _compared(ground, question.number, OVER, patterns, question.was_over)
    if keeps and question.inputs:
        ground.keep(question.number, INPUTS, inputs[0])
        ground.forget(question.number, INPUTS, inputs[0].digest, question.was_inputs)
    if keeps and question.over:
        ground.keep(question.number, OVER, over[0])
        ground.forget(question.number, OVER, over[0].digest, question.was_over)
    if question.ended:
        ground.keep(question.number, OUTPUTS, outputs[0])
        ground.forget(question.number, OUTPUTS, outputs[0].digest)
    missing = tuple(ground.missing(question.outputs)) if question.ended else ()
    each = over[0].files
    common = {path: content for path, content in inputs[0].files.items() if path not in each}
    return Material(
        inputs[0].digest, outputs[0].digest, inputs[1], outputs[1], missing, over[0].digest, over[1], each,
        digest_of(common) if each and inputs[0].digest else inputs[0].digest,
    )  # fmt: skip


_NOTHING = Listing("", {})


def _compared(
    ground: Ground, number: int, kind: str, patterns: Sequence[str], was: str
) -> Generator[None, None, tuple[Listing, Difference | None]]:
    if not patterns:
        return _NOTHING, None
    listing = yield from ground.listing(patterns)
    if listing.fault is not None:
        path, why = listing.fault
        return listing, Difference(f"{kind}: {path}", f"cannot be read: {why}")
    if not was or listing.digest == was:
        return listing, None
    old = ground.recall(number, kind, was)
    return listing, first_difference(kind, old, listing.files, (was, listing.digest))
