"""The states of a bridge to agents: what may follow what, and what its operations answer."""

from __future__ import annotations

from orchestrator.core.value import Value

UNINITIALIZED, INITIALIZING, ACTIVE = "UNINITIALIZED", "INITIALIZING", "ACTIVE"
DEGRADED, FAILED = "DEGRADED", "FAILED"

FOLLOWS: dict[str, frozenset[str]] = {
    UNINITIALIZED: frozenset({INITIALIZING}),
    INITIALIZING: frozenset({ACTIVE, DEGRADED, FAILED, UNINITIALIZED}),
    ACTIVE: frozenset({DEGRADED, FAILED, UNINITIALIZED}),
    DEGRADED: frozenset({ACTIVE, INITIALIZING, FAILED, UNINITIALIZED}),
    FAILED: frozenset({INITIALIZING, UNINITIALIZED}),
}


class IntegrationResult(Value):
    """Of `ensure_integration`: success is what was verified, not what was begun."""

    success: bool
    state: str
    agent: str = ""
    why: str = ""


class RecoveryResult(Value):
    success: bool
    state: str
    tries: int = 0
    why: str = ""


class HealthStatus(Value):
    state: str
    latency_seconds: float | None = None  # of the last ping that came back
    last_contact_seconds: float | None = None  # how long ago anything was heard
    attempts: int = 0
    restarts: int = 0
    changes: tuple[str, ...] = ()  # the last changes of state, each with its cause
    sent: int = 0
    received: int = 0
    unacknowledged: int = 0
