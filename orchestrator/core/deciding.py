"""Gates in a decision: they open, a person decides or their deadline does, and exactly one of these is written down."""

from __future__ import annotations

from orchestrator.core import events as ev
from orchestrator.core.draft import Draft
from orchestrator.core.gate import AFTER, APPROVE, APPROVED, BEFORE, ITS_DEADLINE, REJECTED, Approval, Gate, opened
from orchestrator.core.observations import Asked
from orchestrator.core.outcome import Failure
from orchestrator.core.table import AWAITING

Answer = tuple[bool, str]


# ---- they open


def open_before(draft: Draft) -> None:
    for number in draft.to_ask():
        ruled_out = draft.plan.ruled_out(number, draft.params, draft.phase)
        if ruled_out is not None:
            draft.reason = "its needs are done"
            draft.note(ev.PhaseSkipped(number, ruled_out))
            continue
        approval = draft.plan.specs[number].approval
        draft.reason = "its needs are done, and it asks for approval before it runs"
        _open(draft, number, approval or Approval(BEFORE))


def open_after(draft: Draft, number: int) -> None:
    """Of an attempt that has succeeded. What it began with counts: phases/ may be another by now, or unreadable."""
    phase = draft.phase(number)
    if phase.approval is not None:
        _open(draft, number, phase.approval, (phase.outputs or {}).get("result"))


def open_anew(draft: Draft) -> None:
    """The plan is another than the one that was seen: whoever waits is asked anew, whoever may run asks again."""
    for number in sorted(draft.awaiting()):
        gate, spec = draft.phase(number).gate, draft.plan.specs.get(number)
        if gate is not None:
            same = spec.approval if spec and spec.approval and spec.approval.when == gate.when else _terms(gate)
            _open(draft, number, same, (draft.phase(number).outputs or {}).get("result"))


def _terms(gate: Gate) -> Approval:
    return Approval(gate.when, gate.delay_seconds, gate.default, gate.who, gate.shown)


def _open(draft: Draft, number: int, approval: Approval, result: object = None) -> None:
    gate = opened(approval, draft.state.run.id, draft.plan_digest, draft.moment.now, result)
    draft.note(ev.GateOpened(number, gate))


# ---- they are decided


def expire(draft: Draft) -> None:
    """Before anything that people ask: who asks too late is told so."""
    for number in draft.gates_due():
        gate = draft.phase(number).gate
        assert gate is not None
        draft.reason = f"nobody decided until {gate.due_at}"
        _note(draft, number, gate, APPROVED if gate.default == APPROVE else REJECTED, ITS_DEADLINE, draft.reason)


def approve(draft: Draft, ask: Asked) -> Answer:
    return _decide(draft, ask, APPROVED)


def reject(draft: Draft, ask: Asked) -> Answer:
    if not ask.why.strip():
        return False, "why? `orch reject N --why ...`: it is recorded"
    return _decide(draft, ask, REJECTED)


def _decide(draft: Draft, ask: Asked, verdict: str) -> Answer:
    if ask.number is None:
        return False, f"which phase? `orch {ask.verb} N`"
    number, phase = ask.number, draft.phase(ask.number)
    gate, meant = phase.gate, next((one[5:] for one in ask.options if one.startswith("gate=")), "")
    if gate is None or (phase.status != AWAITING and not gate.verdict):
        return False, f"phase {number} is {phase.status}: it does not wait for approval"
    if meant and meant != gate.id:
        return False, f"phase {number} was asked anew since: another run, or another plan; `orch status` shows it"
    if gate.verdict:
        return _late(number, gate, verdict)
    if not meant:
        return False, f"phase {number} has begun to wait just now; `orch status` shows for what"
    if (refused := not_theirs(number, gate.who, ask.by)) is not None:
        return refused
    _note(draft, number, gate, verdict, ask.by, ask.why)
    return True, _told(number, gate, verdict)


def not_theirs(number: int, who: tuple[str, ...], by: str) -> Answer | None:
    return (
        (False, f"phase {number} is for {' or '.join(who)} to decide, not for {by}") if who and by not in who else None
    )


def _late(number: int, gate: Gate, verdict: str) -> Answer:
    if gate.verdict == verdict:
        return True, f"phase {number} is {verdict} already, by {gate.by}"
    again = f"; `orch retry {number}` asks again" if gate.verdict == REJECTED else ""
    return False, f"too late: phase {number} was {gate.decided()}, at {gate.decided_at}{again}"


def _told(number: int, gate: Gate, verdict: str) -> str:
    if verdict == REJECTED:
        return f"phase {number} is rejected, and counts as failed; `orch retry {number}` asks again"
    return f"phase {number} is approved" + (": it may run" if gate.when == BEFORE else "")


def _note(draft: Draft, number: int, gate: Gate, verdict: str, by: str, why: str) -> None:
    deciding = {"gate": gate.id, "plan": gate.plan, "by": by, "why": why}
    if verdict == REJECTED:
        failure = Failure("REJECTED", f"rejected by {by}: {why}", log=draft.phase(number).log or "")
        draft.note(ev.GateRejected(number, **deciding, failure=failure))
    elif gate.when == AFTER:
        draft.note(ev.GateApproved(number, **deciding))
    else:
        draft.note(ev.GatePassed(number, **deciding))
