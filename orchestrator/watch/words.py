"""What is said about a run, in one place: whoever shows it, as plain lines or live, uses the same words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from orchestrator.core import events as ev
from orchestrator.core.agenda import Agenda
from orchestrator.core.gate import ways
from orchestrator.core.graph import longest_path
from orchestrator.core.item import Item
from orchestrator.core.names import Moment, span
from orchestrator.core.outcome import Failure
from orchestrator.core.plan import Plan, stays_failed, unchanged_since
from orchestrator.core.state import State
from orchestrator.core.story import counted_files
from orchestrator.core.table import APPROVED, AWAITING, COMPLETED, FAILED, PENDING, RETRY_WAIT
from orchestrator.watch.printing import printable
from orchestrator.watch.tally import Tally

TAIL_SHOWN = 10
INDENT = " " * 10
_NAMED = 4  # so many are named, the rest is counted


def told(event: ev.Event, state: State, plan: Plan) -> list[str]:
    """The lines for one event; those that begin with a space belong to the one before."""
    words = _TOLD.get(type(event))
    return [printable(line) for line in words(event, state, plan)] if words else []


_BAD = (ev.PhaseFailed, ev.PhaseRecovered, ev.PhaseMended, ev.GatherFailed, ev.PhaseRestored, ev.GateRejected)


def is_bad(event: ev.Event) -> bool:
    return isinstance(event, _BAD)


def clocked(moment: Moment, line: str) -> str:
    if line.startswith(" "):
        return line
    return f"{datetime.fromtimestamp(moment.now).astimezone().strftime('%H:%M:%S')}  {line}"


def label(number: int, state: State) -> str:
    return f"{number!s:>3} {state.name_of(number)}"


def short_span(seconds: float) -> str:
    """For what changes while one looks: whole seconds, and 10m rather than 10m 00s."""
    whole = max(0, int(seconds))
    text = f"{whole}s" if whole < 10 else span(whole)
    head, _, tail = text.partition(" ")
    return head if tail[:-1].strip("0") == "" else text


def _counted(state: State, plan: Plan) -> str:
    done = sum(state.phase(number).is_done for number in plan.specs if number in state.run.scope)
    return f"{done}/{sum(number in state.run.scope for number in plan.specs)}"


# ---- one event


def _opened(event: ev.RunStarted | ev.RunContinued, state: State, plan: Plan) -> list[str]:
    begins = "begins" if isinstance(event, ev.RunStarted) else "goes on"
    line = f"run {event.run} {begins}: {event.scope}, {_counted(state, plan)} done, {event.jobs} at a time"
    paused = f"PAUSED    {state.run.paused}; nothing new starts before `orch resume`"
    return [line] if state.run.paused is None else [line, paused]


def _paused(event: ev.RunPaused, state: State, plan: Plan) -> list[str]:
    live = f"{counted(len(state.live), 'attempt')} in hand, " if state.live else ""
    return [f"PAUSED    {state.run.paused}; {live}nothing new starts before `orch resume`"]


def _resumed(event: ev.RunResumed, state: State, plan: Plan) -> list[str]:
    return [f"resumed   by {event.by}"]


def _intended(event: ev.AttemptIntended, state: State, plan: Plan) -> list[str]:
    if isinstance(event.number, Item):
        return []  # there may be thousands: the phase is told of
    spec = plan.specs[event.number]
    title = f"  {spec.title}" if spec.title else ""
    return [f"start     {label(event.number, state)}{title}"]


def _completed(event: ev.PhaseCompleted, state: State, plan: Plan) -> list[str]:
    if isinstance(event.number, Item) and not event.leftovers:
        return []
    verdict = event.result.get("verdict") if isinstance(event.result, dict) else None
    line = f"completed {label(event.number, state)}  {span(event.duration_seconds)}"
    lines = [line + (f"  {verdict}" if isinstance(verdict, str) else "")]
    lines += [f"{INDENT}left running, and was ended: {name}" for name in event.leftovers]
    return lines


def _kept(event: ev.PhaseKept, state: State, plan: Plan) -> list[str]:
    return [f"kept      {label(event.number, state)}  {unchanged_since(event.since)}"]


def _failed(event: ev.PhaseFailed, state: State, plan: Plan) -> list[str]:
    final = f" ({event.why_final})" if event.why_final else ""
    return [
        f"FAILED    {label(event.number, state)}  {event.failure.code}: {event.failure.message}{final}",
        *_evidence(event.failure),
        f"{INDENT}next: {event.failure.remedy}",
    ]


def _retry(event: ev.RetryScheduled, state: State, plan: Plan) -> list[str]:
    when = f"again in {span(event.delay_seconds)}" if event.delay_seconds >= 0.5 else "again at once"
    now = f"; now: `orch retry {event.number}`" if event.delay_seconds >= 5 else ""
    line = f"RETRY     {label(event.number, state)}  {event.failure.code}: {event.failure.message}; {when}{now}"
    return [line, *_evidence(event.failure)]


def _found_dead(event: ev.PhaseRecovered | ev.PhaseMended, state: State, plan: Plan) -> list[str]:
    return [f"FAILED    {label(event.number, state)}  {event.failure.code}: {event.failure.message}"]


def _evidence(failure: Failure) -> list[str]:
    lines = [f"{INDENT}| {line}" for line in failure.tail[-TAIL_SHOWN:]]
    return [*lines, f"{INDENT}log: {failure.log}"] if failure.log else lines


def _restored(event: ev.PhaseRestored, state: State, plan: Plan) -> list[str]:
    if event.fault:
        what = f"its outputs could not go back to {event.checkpoint}: {event.fault}"
        return [f"NOT BACK  {label(event.number, state)}  {what}"]
    what = f"its outputs are as in {event.checkpoint}: {counted_files(event)}"
    return [f"restored  {label(event.number, state)}  {what}"]


def _cancelled(event: ev.PhaseCancelled, state: State, plan: Plan) -> list[str]:
    return [f"cancelled {label(event.number, state)}  {event.why}"]


def _gate_opened(event: ev.GateOpened, state: State, plan: Plan) -> list[str]:
    gate = event.gate
    shown = [f"{INDENT}| {line}" for line in gate.shown.splitlines()]
    return [f"WAITS     {label(event.number, state)}  for {gate.told()}", *shown, f"{INDENT}{ways(event.number)}"]


def _decided(event: ev.GatePassed | ev.GateApproved, state: State, plan: Plan) -> list[str]:
    return [f"approved  {label(event.number, state)}  by {event.by}" + (f": {event.why}" if event.why else "")]


def _rejected(event: ev.GateRejected, state: State, plan: Plan) -> list[str]:
    again = f"{INDENT}next: `orch retry {event.number}` asks again"
    return [f"REJECTED  {label(event.number, state)}  by {event.by}: {event.why}", again]


def _skipped(event: ev.PhaseSkipped, state: State, plan: Plan) -> list[str]:
    return [f"skipped   {label(event.number, state)}  {f'by {event.by}: ' if event.by else ''}{event.why}"]


def _reset(event: ev.PhaseReset, state: State, plan: Plan) -> list[str]:
    """Only what a person forgot on purpose, or was found just now: the rest is seen as it starts again."""
    if event.forgotten:
        return [f"reset     {label(event.number, state)}  {event.why}"]
    return [f"changed   {label(event.number, state)}  {event.why}"] if event.changed else []


def _stopping(event: ev.RunStopping, state: State, plan: Plan) -> list[str]:
    many = len(state.live)
    what = f"ending {many} {'attempt' if many == 1 else 'attempts'}; " if many else ""
    again = "once more insists; " if event.exit_code > 128 and many else ""
    return [f"{event.why}: {what}{again}`orch run` goes on from here"]


def _withdrawn(event: ev.AttemptWithdrawn, state: State, plan: Plan) -> list[str]:
    return [f"waits     {label(event.number, state)}  {event.why}; this costs no try"]


def _fanned_out(event: ev.FannedOut, state: State, plan: Plan) -> list[str]:
    many = event.kept or f"for {counted(len(event.items), 'item')}"
    return [f"start     {label(event.number, state)}  {many}"]


def _gathered(event: ev.Gathered, state: State, plan: Plan) -> list[str]:
    many = counted(len(event.result), "item")
    how = f"{len(event.failed)} of {many} FAILED, which it bears" if event.failed else many
    took = f"  {span(event.duration_seconds)}" if event.duration_seconds else ""
    return [f"completed {label(event.number, state)}{took}  {how}"]


def _gather_failed(event: ev.GatherFailed, state: State, plan: Plan) -> list[str]:
    lines = [f"FAILED    {label(event.number, state)}  {event.failure.code}: {event.failure.message}"]
    return [*lines, f"{INDENT}next: {event.failure.remedy}"]


_TOLD: dict[type[ev.Event], Callable[..., list[str]]] = {
    ev.RunStarted: _opened,
    ev.RunContinued: _opened,
    ev.AttemptIntended: _intended,
    ev.AttemptWithdrawn: _withdrawn,
    ev.PhaseCompleted: _completed,
    ev.PhaseKept: _kept,
    ev.PhaseFailed: _failed,
    ev.RetryScheduled: _retry,
    ev.PhaseRecovered: _found_dead,
    ev.PhaseMended: _found_dead,
    ev.PhaseCancelled: _cancelled,
    ev.GateOpened: _gate_opened,
    ev.GatePassed: _decided,
    ev.GateApproved: _decided,
    ev.GateRejected: _rejected,
    ev.PhaseSkipped: _skipped,
    ev.PhaseReset: _reset,
    ev.RunPaused: _paused,
    ev.RunResumed: _resumed,
    ev.PhaseRestored: _restored,
    ev.RunStopping: _stopping,
    ev.FannedOut: _fanned_out,
    ev.Gathered: _gathered,
    ev.GatherFailed: _gather_failed,
}


# ---- while nothing happens


def going_on(tally: Tally, state: State, moment: Moment) -> str:
    """One line about what runs, and for how long already."""
    oldest = sorted(state.live, key=lambda number: (state.phase(number).started_at or "", number))
    parts = [_in_progress(number, tally, state, moment) for number in oldest[:_NAMED]]
    if len(oldest) > _NAMED:
        parts.append(f"{len(oldest) - _NAMED} more")
    waiting = sorted(tally.of(RETRY_WAIT), key=lambda number: (state.phase(number).retry_at or "", number))
    if waiting:
        many = f" and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        parts.append(f"{waiting[0]} {state.phase(waiting[0]).name}{many} until a retry is due")
    if many_items := tally.retrying_items:
        parts.append(f"{counted(many_items, 'item')} until a retry is due")
    gates = sorted(tally.of(AWAITING))
    if gates:
        many = f" and {len(gates) - 1} more" if len(gates) > 1 else ""
        parts.append(f"{gates[0]} {state.phase(gates[0]).name}{many} until approved")
    return printable(f"running   {', '.join(parts) or 'nothing yet'}; {tally.done}/{tally.total} done")


def only_waits(state: State, agenda: Agenda, moment: Moment) -> list[str]:
    """Of a run that goes on and has nothing to do before a retry is due: until when, else it would just be silent."""
    run, idle = state.run, not state.live and not agenda.looking and agenda.is_idle(agenda.free_tokens(()), 1)
    if not agenda.waiting or not idle or run.paused is not None or run.verdict is not None:
        return []
    due, number = agenda.waiting[0]
    more = f", the first of {counted(len(agenda.waiting), 'retry', 'retries')}" if len(agenda.waiting) > 1 else ""
    when = clocked(Moment(moment.now + due - moment.tick, due), "").strip()
    line = f"waits     {label(number, state)}  until its retry is due at {when}{more}; now: `orch retry {number}`"
    return [printable(line)]


def _in_progress(number: int, tally: Tally, state: State, moment: Moment) -> str:
    share = tally.fraction(number, state)
    percent = f" {share:.0%}" if share is not None else ""
    return f"{number} {state.name_of(number)}{percent} for {short_span(tally.elapsed(number, state, moment))}"


# ---- at the end


def closing(event: ev.RunEnded, tally: Tally, state: State, plan: Plan, moment: Moment) -> list[str]:
    """What ran, was kept, failed, how long, the longest path, what to do next."""
    took = f", in {span(tally.seconds(moment))}"
    lines = [f"run {state.run.id} {event.verdict}: {summary(state, plan)}{took}"]
    more = [_ran(tally), _longest(tally, state, plan), *_failures(tally, state)]
    lines += [f"{INDENT}{line}" for line in more if line]
    return [printable(line) for line in [*lines, *hints(event, state, plan)]]


def summary(state: State, plan: Plan) -> str:
    """3 done, 1 failed, 2 blocked."""
    counts: dict[str, int] = {}
    for number in plan.specs:
        if number in state.run.scope:
            status = state.phase(number).status
            word = _COUNTED_AS.get(status, status)
            counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{many} {word.replace('_', ' ')}" for word, many in counts.items()) or "nothing to do"


_COUNTED_AS = {COMPLETED: "done", APPROVED: "done", PENDING: "not run"}


def _ran(tally: Tally) -> str:
    again = f" ({counted(tally.retries, 'retry', 'retries')})" if tally.retries else ""
    kept = f", kept {tally.kept} that were done" if tally.kept else ""
    items = f" with {counted(len(tally.ran_items), 'item')}" if tally.ran_items else ""
    return f"ran {counted(len(tally.ran), 'phase')}{items}{again}{kept}"


def _longest(tally: Tally, state: State, plan: Plan) -> str:
    """Of what ran now: no number of slots makes the run shorter than this."""
    took = {number: state.phase(number).duration_seconds or 0.0 for number in tally.ran if number in plan.needs}
    path = longest_path({number: plan.needs[number] for number in took}, took)
    if len(path) < 2:
        return ""
    heaviest = sorted(path, key=lambda number: -took[number])[:_NAMED]
    shown = path if len(path) <= _NAMED + 1 else sorted(heaviest, key=path.index)
    names = ", ".join(f"{number} {state.phase(number).name} {span(took[number])}" for number in shown)
    more = f", and {len(path) - len(shown)} shorter ones" if len(shown) < len(path) else ""
    return f"the longest path took {span(sum(took[number] for number in path))}: {names}{more}"


def _failures(tally: Tally, state: State) -> list[str]:
    failed = sorted(tally.of(FAILED))
    if not failed:
        return []
    named = ", ".join(f"{number} {state.phase(number).name} ({_code(number, state)})" for number in failed[:_NAMED])
    more = f", and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    return [f"failed: {named}{more}"]


def _code(number: int, state: State) -> str:
    errors: Sequence[dict[str, object]] = state.phase(number).errors
    return str(errors[-1].get("code")) if errors else "unknown"


def hints(event: ev.RunEnded, state: State, plan: Plan) -> list[str]:
    asked = [number for number in sorted(plan.specs) if number in state.run.scope]
    failed = [number for number in asked if state.phase(number).status == "failed"]
    if event.verdict == "waiting":
        return [f"{INDENT}{line}" for line in _awaited(event, state, failed)]
    if stays := {number: why for number in failed if (why := stays_failed(plan, number, state.phase(number)))}:
        number, why = next(iter(stays.items()))
        if state.phase(number).errors[-1]["code"] == "REJECTED":
            return [f"{INDENT}next: {number} {state.phase(number).name} was {why}"]
        return [f"{INDENT}next: `orch logs {number}` shows what it printed; it was {why}"]
    if failed:
        shown = _with_log(failed[0], state)
        return [f"{INDENT}next: `orch logs {shown}` shows what it printed; `orch run` runs what failed again"]
    if event.verdict == "cancelled":
        return [f"{INDENT}next: `orch run` goes on from here"]
    return [f"{INDENT}next: `orch status` shows it; `orch run --new` does it all again"]


def _with_log(number: int, state: State) -> str:
    """Of a phase that fans out the first item that failed, in quotes: brackets mean something to a shell."""
    if state.phase(number).items is None:
        return str(number)
    failed = sorted(one for one in state.items if one.phase == number and state.phase(one).status == FAILED)
    return f"'{failed[0]}'" if failed else str(number)


def _awaited(event: ev.RunEnded, state: State, failed: Sequence[int]) -> list[str]:
    """What a run waits for that has ended as waiting, each with the way on."""
    if state.run.paused is not None:
        return [f"the run is paused {state.run.paused}: `orch resume`, then `orch run`"]
    gates = sorted(number for number in state.awaiting if number in state.run.scope)
    lines = [_waits(number, state) for number in gates[:_NAMED]]
    lines += [f"and {len(gates) - _NAMED} more wait for approval: `orch status`"] if len(gates) > _NAMED else []
    also = f"; `orch logs {_with_log(failed[0], state)}` shows what failed" if failed else ""
    return [*lines, *([f"the next retry is due {event.due_at}; `orch run` honours it{also}"] if event.due_at else [])]


def _waits(number: int, state: State) -> str:
    phase = state.phase(number)
    return f"{number} {phase.name} waits for {phase.gate.told() if phase.gate else 'approval'}: {ways(number)}"


def counted(many: int, one: str, several: str = "") -> str:
    return f"{many} {one if many == 1 else several or one + 's'}"
