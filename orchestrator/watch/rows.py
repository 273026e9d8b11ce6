"""What the live view shows, as rows of text: from state, agenda and tally; no terminal, no clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from rich.cells import cell_len

from orchestrator.core.agenda import Agenda
from orchestrator.core.eta import Eta
from orchestrator.core.gate import APPROVE, Gate
from orchestrator.core.item import phase_of
from orchestrator.core.names import Moment
from orchestrator.core.plan import Plan
from orchestrator.core.state import State
from orchestrator.core.table import AWAITING, COMPLETED, FAILED, IN_PROGRESS, PENDING, RETRY_WAIT
from orchestrator.core.value import Value
from orchestrator.watch.printing import printable
from orchestrator.watch.remaining import left
from orchestrator.watch.screen import Row, cut
from orchestrator.watch.tally import Tally, retry_due_in, seconds_left
from orchestrator.watch.words import short_span

NARROW, USUAL, WIDE = 60, 76, 110
_DUE = "retry due, no free slot"
_LOOKED_AT = 50  # so many of those that wait are looked at: a few are shown


class Marks(Value):
    """What bars and gaps are made of."""

    full: str = "━"
    empty: str = "╌"
    dots: str = "…"


ASCII = Marks("#", "-", "...")


class View(Value):
    """All that a drawing depends on."""

    state: State
    agenda: Agenda
    plan: Plan
    tally: Tally
    moment: Moment
    width: int
    height: int
    marks: Marks = Marks()
    eta: Eta | None = None

    def row(self) -> Row:
        return Row(self.width, self.marks.dots)


def rows_of(view: View) -> list[Row]:
    """What runs, what is tried again, what waits, and below it all the whole: there it stands still."""
    most = max(1, view.height - 1 if view.height < 12 else view.height * 2 // 3) - 1
    live, retries, waiting = sorted(set(map(phase_of, view.state.live))), _retries(view), _waiting(view)
    gates = sorted(view.tally.of(AWAITING))
    few = most - min(len(retries) + len(gates), max(1, most // 4)) - bool(waiting) if most > 2 else most
    rows = _limited(view, _running(view, _longest(view, live, few)), len(live), few, "running")
    few = most - len(rows) - bool(waiting) - min(len(retries), 1)
    rows += _limited(view, _asking(view, gates), len(gates), few, "to be approved")
    few = most - len(rows) - bool(waiting)
    rows += _limited(view, _retrying(view, retries), len(retries), few, "to be tried again")
    if waiting and len(rows) < most:
        rows.append(waiting)
    return [*rows, _overall(view)]


def _limited(view: View, rows: Iterator[Row], many: int, most: int, what: str) -> list[Row]:
    if many <= most:
        return list(rows)
    shown = list(islice(rows, max(0, most - 1)))
    rest = view.row().add(f"{'':>4} and {many - len(shown)} more {what}", "quiet")
    return [*shown, rest] if most > 0 else []


def _longest(view: View, live: list[int], most: int) -> list[int]:
    """Of too many those that have run the longest, still in the order of their numbers."""
    if len(live) <= most:
        return live
    return sorted(sorted(live, key=lambda number: view.state.phase(number).started_at or "")[: max(0, most - 1)])


# ---- what runs


class _Columns(Value):
    number: int
    name: int
    bar: int
    time: int


def _columns(view: View, numbers: list[int], times: list[str]) -> _Columns:
    names = max((cell_len(view.state.phase(number).name) for number in numbers), default=0)
    bar = 0 if view.width < NARROW else 10 if view.width < WIDE else 20
    number = max((len(str(number)) for number in numbers), default=0)
    return _Columns(max(4, number), min(names, max(8, view.width // 4)), bar, max(map(len, times), default=0))


def _running(view: View, numbers: list[int]) -> Iterator[Row]:
    times = [_time(view, number) for number in numbers]
    columns = _columns(view, numbers, times)
    for number, time in zip(numbers, times, strict=True):
        row = view.row().add(str(number), "strong", columns.number, right=True).add(" ")
        row.add(printable(view.state.phase(number).name), "", columns.name).add("  ")
        _add_progress(view, number, row, columns.bar)
        row.add("  ").add(time, "", columns.time, right=True)
        words, style = _words(view, number)
        yield row.add("  ").add(words, style) if row.room > 6 else row


def _time(view: View, number: int) -> str:
    elapsed = view.tally.elapsed(number, view.state, view.moment)
    if number in view.plan.items_of:
        return short_span(elapsed)
    return f"{short_span(elapsed)} of {short_span(view.plan.timeout(number))}"


def _add_progress(view: View, number: int, row: Row, bar: int) -> None:
    """What it says of itself; else, marked with ~, what its earlier durations say; else where it stands."""
    if number in view.plan.items_of:
        ended, many = view.tally.items(number)[COMPLETED], len(view.plan.items_of[number])
        if bar:
            _add_bar(view, row, ended / many, bar)
        row.add(f"{int(100 * ended / many)}%", "", 6 if bar else 8, right=bool(bar))
        return
    known = view.tally.fraction(number, view.state)
    share = known if known is not None else view.tally.expected(number, view.state, view.moment)
    step = view.state.phase(number).step or ""
    if share is None or step != "running":
        news = view.tally.news(number, view.state)
        done = news.get("done") if step == "running" else None
        row.add(f"{done:g} done" if isinstance(done, (int, float)) else step, "quiet", bar + 6 if bar else 8)
        return
    if bar:
        _add_bar(view, row, share, bar)
    row.add(f"{'' if known is not None else '~'}{int(share * 100)}%", "", 6 if bar else 8, right=bool(bar))


def _add_bar(view: View, row: Row, share: float, width: int) -> None:
    full = int(share * width)
    row.add(view.marks.full * full, "good").add(view.marks.empty * (width - full), "quiet")


def _words(view: View, number: int) -> tuple[str, str]:
    """Why it is being ended; that it has fallen silent; or the last that it said."""
    if number in view.plan.items_of:
        return _items(view, number)
    phase, spec, news = view.state.phase(number), view.plan.specs.get(number), view.tally.news(number, view.state)
    if phase.step == "stopping" and phase.why:
        return printable(phase.why), ""
    idle, limit = news.get("idle_seconds"), spec.heartbeat_timeout if spec else None
    if limit and isinstance(idle, (int, float)) and idle > limit / 2:
        return f"silent for {short_span(idle)} of {short_span(limit)}", "again"
    line = str(news.get("line") or "")
    text = str(news.get("text") or "")
    return printable(text if text and (not line or line.startswith("::progress")) else line).strip(), "quiet"


def _items(view: View, number: int) -> tuple[str, str]:
    counts, many = view.tally.items(number), len(view.plan.items_of[number])
    parts = [f"{counts[COMPLETED]}/{many} items", f"{counts[IN_PROGRESS]} running"]
    again = [f"{counts[RETRY_WAIT]} to be tried again"] if counts[RETRY_WAIT] else []
    failed = [f"{counts[FAILED]} FAILED"] if counts[FAILED] else []
    return ", ".join([*parts, *again, *failed]), "bad" if failed else "quiet"


# ---- what does not run yet


def _retries(view: View) -> list[int]:
    return sorted(view.tally.of(RETRY_WAIT), key=lambda number: (view.state.phase(number).retry_at or "", number))


def _retrying(view: View, numbers: list[int]) -> Iterator[Row]:
    """How to have it now is worth more than its name."""
    longest = max((cell_len(view.state.phase(number).name) for number in numbers), default=0)
    for number in numbers:
        phase, when = view.state.phase(number), _when(view, number)
        now = f", now: orch retry {number}" if when != _DUE and not view.state.run.stopping else ""
        name = min(longest, max(8, view.width // 4), view.width - len(f"{number:>4}   {when}{now}"))
        row = view.row().add(str(number), "strong", 4, right=True).add(" ")
        if name >= min(longest, 4):
            row.add(printable(phase.name), "", name).add("  ")
        row.add(when, "again").add(now)
        yield row.add("  ").add(printable(phase.why or ""), "quiet") if row.room > 8 else row


def _asking(view: View, numbers: list[int]) -> Iterator[Row]:
    """What to type is worth more than its name, and that more than for whom it waits, and until when."""
    longest = max((cell_len(view.state.phase(number).name) for number in numbers), default=0)
    for number in numbers:
        gate, way = view.state.phase(number).gate, f"orch approve {number}"
        name = min(longest, max(8, view.width // 4), view.width - len(f"{number:>4}   {way}"))
        row = view.row().add(str(number), "strong", 4, right=True).add(" ")
        if name >= min(longest, 4):
            row.add(printable(view.state.phase(number).name), "", name).add("  ")
        row.add(way, "again")
        yield row.add("  ").add(_until(view, gate), "quiet") if gate and row.room > 8 else row


def _until(view: View, gate: Gate) -> str:
    whom = f" by {' or '.join(gate.who)}" if gate.who else ""
    then = "approved" if gate.default == APPROVE else "rejected"
    left = f", {then} in {short_span(seconds_left(gate, view.moment) + 0.999)}" if gate.due_at else ""
    return printable(f"waits for approval{whom}{left}" + (f": {gate.shown}" if gate.shown else ""))


def _when(view: View, number: int) -> str:
    left = retry_due_in(number, view.state, view.moment)
    if left <= 0:
        return _DUE
    return f"{'' if view.width < NARROW else 'retry '}in {short_span(left + 0.999)}"


def _waiting(view: View) -> Row | None:
    """How many, and which come next, and for whom they wait."""
    state, tally = view.state, view.tally
    if state.run.stopping:
        return None
    blocked, short = len(tally.blocked & tally.of(PENDING)), view.agenda.short_of(view.agenda.free_tokens(state.live))
    counts = [
        (len(tally.of(PENDING)) - blocked, "waiting"), (view.agenda.count_ready - short.total(), "for a slot"),
        *((many, f"for {pool}") for pool, many in sorted(short.items())), (blocked, "blocked by what failed"),
    ]  # fmt: skip
    said = [", ".join(f"{many} {what}" for many, what in counts if many > 0)]
    busy = [*sorted(set(map(phase_of, state.live))), *tally.of(RETRY_WAIT), *tally.of(AWAITING)]
    coming = {n for by in islice(busy, _LOOKED_AT) for n in islice(_dependents(view, by), _LOOKED_AT)}
    if coming:
        few = sorted(coming)[: max(1, view.width // 25)]
        said.append("next: " + ", ".join(f"{n} {cut(state.phase(n).name, 14)} for {_needs(view, n)}" for n in few))
    return view.row().add("     ").add(printable("; ".join(said)), "quiet") if said[0] else None


def _dependents(view: View, number: int) -> Iterator[int]:
    scope = view.agenda.scope
    return (
        n
        for n in view.plan.dependents.get(number, ())
        if n in scope and view.state.phase(n).status == PENDING and n not in view.tally.blocked
    )


def _needs(view: View, number: int) -> str:
    needs = [need for need in view.plan.needs[number] if not view.state.phase(need).is_done]
    return " and ".join(map(str, needs[:2])) + (f" and {len(needs) - 2} more" if len(needs) > 2 else "")


# ---- the whole


def _overall(view: View) -> Row:
    tally = view.tally
    share = tally.done / tally.total if tally.total else 1.0
    row = view.row().add(f"{int(share * 100):>3}%", "strong").add(" ")
    said = [(text, style) for text, style in _figures(view) if text]
    room = row.room - sum(cell_len(text) + 2 for text, _ in said)
    bar = min(room, 40 if view.width >= WIDE else 16 if view.width >= USUAL else 10)  # still while words change
    if bar >= 5:
        _add_bar(view, row, share, bar)
        row.add("  ")
    for place, (text, style) in enumerate(said):
        row.add("  " if place else "").add(text, style)
    return row


def _figures(view: View) -> list[tuple[str, str]]:
    tally, narrow = view.tally, view.width < NARROW
    failed = len(tally.of(FAILED))
    return [
        (f"{tally.done}/{tally.total}" + ("" if narrow else " done"), ""),
        (short_span(tally.seconds(view.moment)), ""),
        (f"{failed} FAILED" if failed else "", "bad"),
        _outlook(view, narrow),
    ]


def _outlook(view: View, narrow: bool) -> tuple[str, str]:
    run = view.state.run
    if run.stopping:
        return f"ending: {run.stopping}", ""
    if run.paused is not None:
        return "PAUSED" if narrow else "PAUSED: orch resume", "again"
    return left(view.eta, view.width >= WIDE, narrow), ""
