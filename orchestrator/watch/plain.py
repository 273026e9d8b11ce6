"""One line for each start, end and retry; a failure's last lines and the path of its log at once; a summary."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime

from orchestrator.core import events as ev
from orchestrator.core.agenda import Agenda
from orchestrator.core.draft import Decision
from orchestrator.core.names import Moment, iso, span
from orchestrator.core.observations import Observation
from orchestrator.core.outcome import Failure
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.watch.outlet import Outlet

TAIL_SHOWN = 10


class PlainLines:
    """What a person sees without a terminal; `quiet`: failures only."""

    def __init__(self, outlet: Outlet, *, quiet: bool = False) -> None:
        self._outlet, self._quiet = outlet, quiet

    def tell(
        self, batch: Sequence[Observation], decision: Decision, state: State, agenda: Agenda, plan: Plan, moment: Moment
    ) -> None:
        for event in decision.events:
            self._event(event, state, plan, moment)

    def _event(self, event: ev.Event, state: State, plan: Plan, moment: Moment) -> None:
        told = _TOLD.get(type(event))
        if told is None or (self._quiet and not isinstance(event, _BAD)):
            return
        for line in told(event, state, plan):
            self._outlet.line(f"{_clock(moment)}  {line}" if not line.startswith(" ") else line)


class JsonLines:
    """Every event as one JSON object a line, as it is in the journal."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def tell(
        self, batch: Sequence[Observation], decision: Decision, state: State, agenda: Agenda, plan: Plan, moment: Moment
    ) -> None:
        for event in decision.events:
            self._outlet.line(json.dumps({"at": iso(moment.now), **event.as_dict()}, default=str))


def _clock(moment: Moment) -> str:
    return datetime.fromtimestamp(moment.now).astimezone().strftime("%H:%M:%S")


def _label(number: int, state: State) -> str:
    return f"{number:>3} {state.phase(number).name}"


def _counted(state: State, plan: Plan) -> str:
    done = sum(state.phase(number).is_done for number in plan.specs if number in state.run.scope)
    return f"{done}/{sum(number in state.run.scope for number in plan.specs)}"


def _opened(event: ev.RunStarted | ev.RunContinued, state: State, plan: Plan) -> list[str]:
    begins = "begins" if isinstance(event, ev.RunStarted) else "goes on"
    return [f"run {event.run} {begins}: {event.scope}, {_counted(state, plan)} done, {event.jobs} at a time"]


def _intended(event: ev.AttemptIntended, state: State, plan: Plan) -> list[str]:
    spec = plan.specs[event.number]
    title = f"  {spec.title}" if spec.title else ""
    return [f"start     {_label(event.number, state)}{title}"]


def _completed(event: ev.PhaseCompleted, state: State, plan: Plan) -> list[str]:
    verdict = event.result.get("verdict") if isinstance(event.result, dict) else None
    line = f"completed {_label(event.number, state)}  {span(event.duration_seconds)}"
    lines = [line + (f"  {verdict}" if isinstance(verdict, str) else "")]
    lines += [f"          left running, and was ended: {name}" for name in event.leftovers]
    return lines


def _failed(event: ev.PhaseFailed, state: State, plan: Plan) -> list[str]:
    final = f" ({event.why_final})" if event.why_final else ""
    return [
        f"FAILED    {_label(event.number, state)}  {event.failure.code}: {event.failure.message}{final}",
        *_evidence(event.failure),
        f"          next: {event.failure.remedy}",
    ]


def _retry(event: ev.RetryScheduled, state: State, plan: Plan) -> list[str]:
    when = f"again in {span(event.delay_seconds)}" if event.delay_seconds >= 0.5 else "again at once"
    now = f"; now: `orch retry {event.number}`" if event.delay_seconds >= 5 else ""
    line = f"RETRY     {_label(event.number, state)}  {event.failure.code}: {event.failure.message}; {when}{now}"
    return [line, *_evidence(event.failure)]


def _found_dead(event: ev.PhaseRecovered | ev.PhaseMended, state: State, plan: Plan) -> list[str]:
    return [f"FAILED    {_label(event.number, state)}  {event.failure.code}: {event.failure.message}"]


def _evidence(failure: Failure) -> list[str]:
    lines = [f"          | {line}" for line in failure.tail[-TAIL_SHOWN:]]
    return [*lines, f"          log: {failure.log}"] if failure.log else lines


def _cancelled(event: ev.PhaseCancelled, state: State, plan: Plan) -> list[str]:
    return [f"cancelled {_label(event.number, state)}  {event.why}"]


def _stopping(event: ev.RunStopping, state: State, plan: Plan) -> list[str]:
    many = len(state.live)
    what = f"ending {many} {'attempt' if many == 1 else 'attempts'}; " if many else ""
    again = "once more insists; " if event.exit_code > 128 and many else ""
    return [f"{event.why}: {what}{again}`orch run` goes on from here"]


def _withdrawn(event: ev.AttemptWithdrawn, state: State, plan: Plan) -> list[str]:
    return [f"waits     {_label(event.number, state)}  {event.why}; this costs no try"]


def _ended(event: ev.RunEnded, state: State, plan: Plan) -> list[str]:
    return [f"run {state.run.id} {event.verdict}: {summary(state, plan)}", *hints(event, state, plan)]


def summary(state: State, plan: Plan) -> str:
    """3 done, 1 failed, 2 blocked."""
    counts: dict[str, int] = {}
    for number in plan.specs:
        if number in state.run.scope:
            phase = state.phase(number)
            word = "done" if phase.is_done else "not run" if phase.status == "pending" else phase.status
            counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{many} {word.replace('_', ' ')}" for word, many in counts.items()) or "nothing to do"


def hints(event: ev.RunEnded, state: State, plan: Plan) -> list[str]:
    asked = [number for number in sorted(plan.specs) if number in state.run.scope]
    failed = [number for number in asked if state.phase(number).status == "failed"]
    if event.verdict == "waiting":
        due = min(phase.retry_at or "" for phase in state.phases.values() if phase.status == "retry_wait")
        return [f"          the next retry is due {due}; `orch run` honours it"]
    if failed:
        return [f"          next: `orch logs {failed[0]}` shows what it printed; `orch run` runs what failed again"]
    return []


_TOLD: dict[type[ev.Event], Callable[..., list[str]]] = {
    ev.RunStarted: _opened,
    ev.RunContinued: _opened,
    ev.AttemptIntended: _intended,
    ev.AttemptWithdrawn: _withdrawn,
    ev.PhaseCompleted: _completed,
    ev.PhaseFailed: _failed,
    ev.RetryScheduled: _retry,
    ev.PhaseRecovered: _found_dead,
    ev.PhaseMended: _found_dead,
    ev.PhaseCancelled: _cancelled,
    ev.RunStopping: _stopping,
    ev.RunEnded: _ended,
}
_BAD = (ev.PhaseFailed, ev.PhaseRecovered, ev.PhaseMended)
