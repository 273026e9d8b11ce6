"""The life cycle of an agent's slot: one table says what may follow what."""

from __future__ import annotations

from collections.abc import Callable

IDLE, VALIDATING, READY, PREPARING, RUNNING = "Idle", "Validating", "Ready", "Preparing", "Running"
COMPLETED, FAILED, ABORTING = "Completed", "Failed", "Aborting"

FOLLOWS: dict[str, frozenset[str]] = {
    IDLE: frozenset({VALIDATING}),
    VALIDATING: frozenset({READY, FAILED, ABORTING}),
    READY: frozenset({PREPARING, FAILED, ABORTING}),
    PREPARING: frozenset({RUNNING, FAILED, ABORTING}),
    RUNNING: frozenset({COMPLETED, FAILED, ABORTING}),
    ABORTING: frozenset({FAILED, IDLE}),
    COMPLETED: frozenset({IDLE}),
    FAILED: frozenset({IDLE}),
}


def can_transition(current: str, following: str) -> bool:
    return following in FOLLOWS[current]


class Slot:
    """Where one attempt lives in an agent. Every change goes through `transition_to`, which tells `log`."""

    def __init__(self, name: str, log: Callable[[str], None]) -> None:
        self.name = name
        self.state = IDLE
        self.error = ""
        self._log = log

    def transition_to(self, following: str, error: str = "") -> None:
        if not can_transition(self.state, following):
            raise ValueError(f"slot {self.name}: {following} cannot follow {self.state}")
        self._log(f"slot {self.name}: {self.state} -> {following}" + (f": {error}" if error else ""))
        self.state, self.error = following, error
