"""The loop's own net: which attempts should have been ended long ago by their agent, and how hard to press now."""

from __future__ import annotations

from orchestrator.core.value import Value

PRESS_EVERY = 15.0  # seconds between one step of the net and the next
WHY = "was still there long after its deadline: ended by the loop's own net"
INSIST, END_AGENT, MEND = 1, 2, 3  # the steps


class Watch(Value):
    """One live attempt as the net sees it; times on the clock that nobody sets."""

    attempt: int
    strikes_at: float
    step: int = 0

    def pressed(self, tick: float) -> Watch:
        return self.replace(strikes_at=tick + PRESS_EVERY, step=self.step + 1)


def is_stuck(watch: Watch, tick: float) -> bool:
    return tick >= watch.strikes_at
