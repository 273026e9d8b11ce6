"""What is said about a run, in one place: whoever shows it, as plain lines or live, uses the same words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from orchestrator.core import events as ev
from orchestrator.core.graph import longest_path
from orchestrator.core.names import Moment, span
from orchestrator.core.outcome import Failure
from orchestrator.core.plan import Plan, stays_failed, unchanged_since
from orchestrator.core.state import State
from orchestrator.core.table import FAILED, RETRY_WAIT
from orchestrator.watch.tally import Tally

TAIL_SHOWN = 10
INDENT = " " * 10
_NAMED = 4  # so many are named, the rest is counted


def told(event: ev.Event, state: State, plan: Plan) -> list[str]:
    """The lines for one event; those that begin with a space belong to the one before."""
    words = _TOLD.get(type(event))
    return [printable(line) for line in words(event, state, plan)] if words else []


def is_bad(event: ev.Event) -> bool:
    return isinstance(event, (ev.PhaseFailed, ev.PhaseRecovered, ev.PhaseMended))


def clocked(moment: Moment, line: str) -> str:
    if line.startswith(" "):
        return line
    return f"{datetime.fromtimestamp(moment.now).astimezone().strftime('%H:%M:%S')}  {line}"


def printable(text: str) -> str:
    """What a phase printed may hold anything: on a terminal it must not move the cursor, nor turn the text round."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char == "\t" else "" for char in _without_escapes(text))


def _without_escapes(text: str) -> str:
    head, *rest = text.split("\x1b")
    return head + "".join(_after_escape(part) for part in rest)


def _after_escape(part: str) -> str:
    """The text behind one escape sequence: `[`, its numbers, one letter."""
    if not part.startswith("["):
        return part[1:]
    end = next((place for place, char in enumerate(part[1:], 1) if "@" <= char <= "~"), len(part))
    return part[end + 1 :]


def label(number: int, state: State) -> str:
    return f"{number:>3} {state.phase(number).name}"


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
    return [f"run {event.run} {begins}: {event.scope}, {_counted(state, plan)} done, {event.jobs} at a time"]


def _intended(event: ev.AttemptIntended, state: State, plan: Plan) -> list[str]:
    spec = plan.specs[event.number]
    title = f"  {spec.title}" if spec.title else ""
    return [f"start     {label(event.number, state)}{title}"]


def _completed(event: ev.PhaseCompleted, state: State, plan: Plan) -> list[str]:
    verdict = event.result.get("verdict") if isinstance(event.result, dict) else None
    line = f"completed {label(event.number, state)}  {span(event.duration_seconds)}"
    lines = [line + (f"  {verdict}" if isinstance(verdict, str) else "")]
    lines += [f"{INDENT}left running, and was ended: {name}" for name in event.leftovers]
    return lines


def _kept(event: ev.PhaseKept, state: State, plan: Plan) -> list[str]:
    return [f"kept      {label(event.number, state)}  {unchanged_since(event.since)}"]


def _skipped(event: ev.PhaseSkipped, state: State, plan: Plan) -> list[str]:
    return [f"skipped   {label(event.number, state)}  {event.why}"]


def _reset(event: ev.PhaseReset, state: State, plan: Plan) -> list[str]:
    """Only what was found just now: that something failed was said when it did."""
    return [f"changed   {label(event.number, state)}  {event.why}"] if event.changed else []


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


def _cancelled(event: ev.PhaseCancelled, state: State, plan: Plan) -> list[str]:
    return [f"cancelled {label(event.number, state)}  {event.why}"]


def _stopping(event: ev.RunStopping, state: State, plan: Plan) -> list[str]:
    many = len(state.live)
    what = f"ending {many} {'attempt' if many == 1 else 'attempts'}; " if many else ""
    again = "once more insists; " if event.exit_code > 128 and many else ""
    return [f"{event.why}: {what}{again}`orch run` goes on from here"]


def _withdrawn(event: ev.AttemptWithdrawn, state: State, plan: Plan) -> list[str]:
    return [f"waits     {label(event.number, state)}  {event.why}; this costs no try"]


_TOLD: dict[type[ev.Event], Callable[..., list[str]]] = {
    ev.RunStarted: _opened,
    ev.RunContinued: _opened,
    ev.AttemptIntended: _intended,
    ev.AttemptWithdrawn: _withdrawn,
    ev.PhaseCompleted: _completed,
    ev.PhaseKept: _kept,
    ev.PhaseSkipped: _skipped,
    ev.PhaseReset: _reset,
    ev.PhaseFailed: _failed,
    ev.RetryScheduled: _retry,
    ev.PhaseRecovered: _found_dead,
    ev.PhaseMended: _found_dead,
    ev.PhaseCancelled: _cancelled,
    ev.RunStopping: _stopping,
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
    return printable(f"running   {', '.join(parts) or 'nothing yet'}; {tally.done}/{tally.total} done")


def _in_progress(number: int, tally: Tally, state: State, moment: Moment) -> str:
    share = tally.fraction(number, state)
    percent = f" {share:.0%}" if share is not None else ""
    return f"{number} {state.phase(number).name}{percent} for {short_span(tally.elapsed(number, state, moment))}"


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
            phase = state.phase(number)
            word = "done" if phase.is_done else "not run" if phase.status == "pending" else phase.status
            counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{many} {word.replace('_', ' ')}" for word, many in counts.items()) or "nothing to do"


def _ran(tally: Tally) -> str:
    again = f" ({counted(tally.retries, 'retry', 'retries')})" if tally.retries else ""
    kept = f", kept {tally.kept} that were done" if tally.kept else ""
    return f"ran {counted(len(tally.ran), 'phase')}{again}{kept}"


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
        due = min(phase.retry_at or "" for phase in state.phases.values() if phase.status == "retry_wait")
        return [f"{INDENT}the next retry is due {due}; `orch run` honours it"]
    if stays := {number: why for number in failed if (why := stays_failed(plan, number, state.phase(number)))}:
        number, why = next(iter(stays.items()))
        return [f"{INDENT}next: `orch logs {number}` shows what it printed; it was {why}"]
    if failed:
        return [f"{INDENT}next: `orch logs {failed[0]}` shows what it printed; `orch run` runs what failed again"]
    if event.verdict == "cancelled":
        return [f"{INDENT}next: `orch run` goes on from here"]
    return [f"{INDENT}next: `orch status` shows it; `orch run --new` does it all again"]


def counted(many: int, one: str, several: str = "") -> str:
    return f"{many} {one if many == 1 else several or one + 's'}"
