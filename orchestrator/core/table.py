"""All moves of a phase, in one table. A move that is not in it is a bug with a name; the diagram is printed from it."""

from __future__ import annotations

PENDING, RETRY_WAIT, AWAITING = "pending", "retry_wait", "awaiting_approval"
STARTING, RUNNING, STOPPING = "starting", "running", "stopping"  # the steps of in_progress
COMPLETED, APPROVED, SKIPPED = "completed", "approved", "skipped"
FAILED, CANCELLED = "failed", "cancelled"
IN_PROGRESS = "in_progress"

STEPS = frozenset({STARTING, RUNNING, STOPPING})
DONE = frozenset({COMPLETED, APPROVED, SKIPPED})
STATUSES = (PENDING, IN_PROGRESS, RETRY_WAIT, AWAITING, COMPLETED, APPROVED, SKIPPED, FAILED, CANCELLED)

_LIVE = (STARTING, RUNNING, STOPPING)
_REST = (PENDING, RETRY_WAIT, AWAITING, COMPLETED, APPROVED, SKIPPED, FAILED, CANCELLED)

# event -> where a phase may stand when it happens -> where it stands then
TABLE: dict[str, dict[str, str]] = {
    "AttemptIntended": {PENDING: STARTING, RETRY_WAIT: STARTING},
    "AttemptStarted": {STARTING: RUNNING},
    # Stopping is a state of its own: no new attempt before the end of the old one was seen.
    "StopRequested": {STARTING: STOPPING, RUNNING: STOPPING, STOPPING: STOPPING},
    "AttemptWithdrawn": dict.fromkeys(_LIVE, PENDING),
    "PhaseCompleted": dict.fromkeys(_LIVE, COMPLETED),
    "PhaseKept": {PENDING: COMPLETED},
    "RetryScheduled": dict.fromkeys(_LIVE, RETRY_WAIT),
    "PhaseFailed": dict.fromkeys(_LIVE, FAILED),
    "PhaseRecovered": dict.fromkeys(_LIVE, FAILED),
    "PhaseMended": dict.fromkeys(_LIVE, FAILED),
    # A gate before the body opens on a phase that is pending, one after it on a phase that is completed; asked anew
    # when the plan changes.
    "GateOpened": {PENDING: AWAITING, COMPLETED: AWAITING, AWAITING: AWAITING},
    "GatePassed": {AWAITING: PENDING},
    "GateApproved": {AWAITING: APPROVED},
    "GateRejected": {AWAITING: FAILED},
    "PhaseCancelled": dict.fromkeys((*_LIVE, PENDING, RETRY_WAIT, AWAITING), CANCELLED),
    "PhaseSkipped": dict.fromkeys((PENDING, RETRY_WAIT, AWAITING, FAILED, CANCELLED), SKIPPED),
    "PhaseReset": dict.fromkeys(_REST, PENDING),
    # A phase that fans out has no attempt of its own: it stays where it is until its items are done.
    "FannedOut": {PENDING: PENDING},
    "Gathered": {PENDING: COMPLETED},
    "GatherFailed": {PENDING: FAILED},
    "CheckpointTaken": {STARTING: STARTING},
    "PhaseRestored": {place: place for place in _REST},
}


def move(event: str, place: str) -> str:
    """Where `event` leads a phase that stands at `place`; KeyError means that nothing may say so."""
    try:
        return TABLE[event][place]
    except KeyError:
        raise KeyError(f"{event} cannot happen to a phase that is {place}") from None


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {PENDING}"]
    for event, moves in TABLE.items():
        for place, following in moves.items():
            lines.append(f"    {place} --> {following}: {event}")
    return "\n".join(lines)
