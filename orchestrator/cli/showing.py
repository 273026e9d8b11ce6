"""What `orch status` shows: where everything stands. No lock, no writing, no user code, and no typer."""

from __future__ import annotations

import gc
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator import clock, process
from orchestrator.cli.frame import root_of, show, show_json, tell
from orchestrator.cli.terminal import cells, fitted
from orchestrator.cli.watching import watch
from orchestrator.config import settings
from orchestrator.core import events as ev
from orchestrator.core.gate import ways
from orchestrator.core.names import epoch, span
from orchestrator.core.phase import PhaseState
from orchestrator.core.table import COMPLETED, IN_PROGRESS
from orchestrator.errors import SettingsError, UsageError
from orchestrator.look import Look
from orchestrator.services.outbox import Undelivered, undelivered
from orchestrator.watch.printing import printable

WIDEST = 240  # columns where nobody counts them
MANY = 60  # more phases than this, and those that need no attention are only counted
AT_ONCE = 60.0  # seconds in which a message is told where all is well
_NOTABLE = ("in_progress", "retry_wait", "awaiting_approval", "failed", "cancelled")


def status(*, everything: bool, watched: bool, as_json: bool, project: Path | None) -> int:
    """The exit code."""
    if watched:
        if as_json:
            raise UsageError("--watch and --json exclude each other", "give one of the two")
        return watch(root_of(project), partial(status_lines, everything=everything))
    gc.disable()  # it is over before there is anything to collect
    look = Look(root_of(project))
    if as_json:
        show_json(document(look))
        return 0
    for notice in look.notices:
        tell(notice)
    show("\n".join(status_lines(look, everything=everything)))
    return 0


def status_lines(look: Look, *, everything: bool, columns: int = WIDEST, room: int = 0) -> list[str]:
    """`room`: how many lines there are, where it matters."""
    above = [headline(look), *_remarks(look)]
    most = sys.maxsize if everything else max(1, room - len(above)) if room else MANY
    return [*above, *_phases(look, most, columns // 3, fills=bool(room))]


def document(look: Look) -> dict[str, Any]:
    run, pulse = look.state.run, look.pulse
    done, total = look.counts()
    planned = [(number, phase) for number, phase in sorted(look.state.phases.items()) if phase.planned]
    tokens = look.waits_for_tokens()
    return {
        "run": {
            "id": run.id or None, "state": look.run_state, "pid": run.owner.pid if run.owner else None,
            "alive": look.is_alive, "hung": look.is_hung, "stopped": look.owner == process.STOPPED,
            "started_at": run.started_at, "finished_at": run.finished_at, "verdict": run.verdict,
            "exit_code": run.exit_code, "stopping": run.stopping,
            "paused": run.paused, "paused_at": run.paused_at,
            "heartbeat_age_seconds": round(pulse.age, 3) if pulse and look.is_alive else None,
        },
        "agents": [
            {"id": found.agent, "pid": found.identity.pid if found.identity else None, "alive": found.life == "alive",
             "attempts": sorted(str(look.state.attempt_id(n)) for n in look.state.live
                                if look.state.phase(n).agent == found.agent)}
            for found in look.findings
        ],
        "progress": {"done": done, "total": total, "percent": round(100 * done / total, 1) if total else 0.0,
                     "eta_seconds": _eta_document(look)},
        "phases": [_phase_document(look, number, tokens.get(number)) for number, _ in planned],
        "notifications": _undelivered(look).as_document(),
        "recovery": [event.as_dict() for event in look.recovered],
        "notices": look.notices,
    }  # fmt: skip


def _eta_document(look: Look) -> dict[str, float] | None:
    return {name: round(value, 1) for name, value in look.eta.as_dict().items()} if look.eta else None


def _phase_document(look: Look, number: int, waits_for: str | None) -> dict[str, Any]:
    phase, items = look.state.phase(number), look.items(number)
    error = phase.errors[-1] if phase.errors and phase.status in ("failed", "retry_wait") else None
    return {
        "number": number, "name": phase.name, "title": phase.title, "status": _status(look, number), "step": phase.step,
        "attempts": phase.attempts, "started_at": phase.started_at, "finished_at": phase.finished_at,
        "duration_seconds": phase.duration_seconds, "retry_at": phase.retry_at, "why": phase.why, "log": phase.log,
        "waits_for": waits_for, "gate": _gate_document(phase),
        "items": None if items is None else {"total": len(phase.items or ()), **items},
        "error": {name: error.get(name) for name in ("code", "message", "remedy")} if error else None,
    }  # fmt: skip


def _gate_document(phase: PhaseState) -> dict[str, Any] | None:
    """What waits for a person, or how the last asking was decided."""
    return {"id": phase.gate.id, **phase.gate.__dict__, "who": [*phase.gate.who]} if phase.gate else None


def headline(look: Look) -> str:
    run, state = look.state.run, look.run_state
    if state == "none":
        return "no run yet: `orch run` begins one"
    done, total = look.counts()
    parts = [f"run {run.id}: {state}", f"{done} of {total} done"]
    if look.is_alive and run.owner:
        beat = f", last beat {span(look.pulse.age)} ago" if look.pulse else ""
        parts.append(f"pid {run.owner.pid}{beat}")
    elif run.finished_at:
        parts.append(f"{run.verdict} at {run.finished_at}")
    return ", ".join(parts)


def _remarks(look: Look) -> list[str]:
    run, remarks = look.state.run, list[str]()
    if look.owner == process.STOPPED and look.is_alive and run.owner:
        remarks.append(f"somebody stopped it with a signal: `kill -CONT {run.owner.pid}`, or `orch run --takeover`")
    elif look.is_hung:
        remarks.append("its loop hangs: the next `orch run` or `orch recover` ends it and takes over")
    if look.is_alive and run.stopping:
        remarks.append(f"it is being ended: {run.stopping}")
    if run.paused is not None:
        remarks.append(f"paused {run.paused}, at {run.paused_at}; nothing new starts before `orch resume`")
    if look.run_state == "detached":
        remarks.append("the orchestrator is gone, its agent works on: `orch run` takes over, `orch cancel` ends it")
    if untold := _untold(_undelivered(look)):
        remarks.append(untold)
    many = len({event.number for event in look.recovered if isinstance(event, ev.PhaseEvent)})
    if many:
        what = f"{many} {'phase' if many == 1 else 'phases'}"
        remarks.append(f"{what} shown here as recovery would write it: `orch run` or `orch recover` does")
    return remarks


def _undelivered(look: Look) -> Undelivered:
    try:
        return undelivered(look.system, settings(look.system.parent, {}, os.environ).notify)
    except SettingsError:
        return undelivered(look.system)


def _untold(found: Undelivered) -> str:
    """What waits for longer than a moment, or was refused, or is for nobody."""
    parts = list[str]()
    if found.waiting and (found.last_error or found.oldest_seconds > AT_ONCE):
        what = "1 message waits" if found.waiting == 1 else f"{found.waiting} messages wait"
        parts.append(f"{what} to be told, the oldest for {span(found.oldest_seconds)}{_why(found.last_error)}")
    if found.refused:
        what = "1 message was refused" if found.refused == 1 else f"{found.refused} messages were refused"
        parts.append(what + _why(found.last_refusal))
    if found.stray:
        parts.append(found.told_of_stray)
    drop = ", `orch notify drop`" if found.stray else ""
    return f"{'; '.join(parts)}: `orch notify list`{drop}" if parts else ""


def _why(reason: str) -> str:
    return f" ({printable(reason)})" if reason else ""


def _phases(look: Look, most: int, widest: int, *, fills: bool) -> list[str]:
    planned = [(number, phase) for number, phase in sorted(look.state.phases.items()) if phase.planned]
    shown = planned
    if len(planned) > most:
        shown = _first(planned, most - 1) if fills else [one for one in planned if _status(look, one[0]) in _NOTABLE]
    width = min(widest, max((cells(phase.name) for _, phase in shown), default=0))
    tokens = look.waits_for_tokens()
    widths = width, max([12, *(len(_status_shown(look, number)) for number, _ in shown)])
    lines = [_line(look, number, widths, tokens.get(number)) for number, _ in shown]
    if len(shown) < len(planned):
        lines.append(f"and {len(planned) - len(shown)} that need no attention: `orch status --all` shows them")
    return lines


def _first(planned: list[tuple[int, PhaseState]], most: int) -> list[tuple[int, PhaseState]]:
    """Of too many those that need attention, then those that come next."""
    worth = sorted(planned, key=lambda one: (one[1].status not in _NOTABLE, one[1].is_done, one[0]))
    return sorted(worth[: max(0, most)], key=lambda one: one[0])


def _line(look: Look, number: int, widths: tuple[int, int], waits_for: str | None) -> str:
    phase = look.state.phase(number)
    remark = _remark(number, phase, waits_for) if phase.items is None else _of_items(look, number, phase)
    name, status = fitted(phase.name, widths[0]), _status_shown(look, number).ljust(widths[1])
    return f"{number:>5}  {name}  {status}  {remark}".rstrip()


def _status_shown(look: Look, number: int) -> str:
    phase = look.state.phase(number)
    return _status(look, number) if phase.step in (None, "running") else f"{phase.status} ({phase.step})"


def _status(look: Look, number: int) -> str:
    """A phase is in progress while one of its items is."""
    items = look.items(number) or {}
    return IN_PROGRESS if items.get(IN_PROGRESS) else look.state.phase(number).status


def _of_items(look: Look, number: int, phase: PhaseState) -> str:
    counts = look.items(number) or {}
    parts = [f"{counts.get(COMPLETED, 0)}/{len(phase.items or ())} items"]
    parts += [f"{many} {status.replace('_', ' ')}" for status, many in counts.items() if status != COMPLETED and many]
    if phase.duration_seconds is not None:
        parts.insert(0, span(phase.duration_seconds))
    kept = f": {phase.why}" if phase.why and phase.status == COMPLETED else ""
    return ", ".join(parts) + kept


def _remark(number: int, phase: PhaseState, waits_for: str | None) -> str:
    if waits_for:
        return f"waits for {waits_for}"
    if phase.status == "in_progress" and phase.started_at:
        return f"attempt {number}.{phase.attempt}, for {span(max(0.0, clock.now() - epoch(phase.started_at)))}"
    if phase.status == "awaiting_approval" and phase.gate:
        shown = f"{phase.gate.shown}; " if phase.gate.shown else ""
        return printable(f"{shown}waits for {phase.gate.told()}: {ways(number)}")
    if phase.status == "retry_wait":
        return f"{phase.why}; due {phase.retry_at}, now: `orch retry {number}`"
    if phase.status == "failed" and phase.errors:
        return f"{phase.errors[-1]['code']}: {phase.errors[-1]['message']}"
    if phase.status in ("completed", "approved") and phase.duration_seconds is not None:
        if phase.status == "completed" and phase.why:
            return phase.why
        tries = f", {phase.attempts} attempts" if phase.attempts > 1 else ""
        return span(phase.duration_seconds) + tries + (f", {phase.why}" if phase.status == "approved" else "")
    if phase.status == "pending" and not phase.attempts:
        return ""
    return phase.why or ""
