"""orch history: how the last runs ended, and how long each phase took in them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from orchestrator import clock
from orchestrator.cli.completing import phases
from orchestrator.cli.frame import root_of, show, show_json, tell
from orchestrator.cli.instants import instants_lines
from orchestrator.cli.options import JsonOption, ProjectOption
from orchestrator.cli.terminal import fitted, is_unicode
from orchestrator.core.names import epoch, span
from orchestrator.core.phase import PhaseState
from orchestrator.core.state import INSTANTS_KEPT, State
from orchestrator.core.value import Value
from orchestrator.errors import UsageError
from orchestrator.store.reading import read_state

EXAMPLE = "Example: orch history --phase -8"
MANY = 60  # more phases than this, and only those that stand out are shown
RUNS_SHOWN, INSTANTS_SHOWN = 20, 10
SLOWEST_SHOWN, CHANGED_SHOWN = 10, 30
USUAL, STRIKING = 5.0, 25.0  # percent that a last duration may lie off the median: to be as usual, to stand out
NOTICEABLE = 1.0  # seconds that nobody would miss
WIDEST_NAME = 32


class Marks(Value):
    levels: str
    slower: str
    faster: str
    usual: str


UNICODE = Marks("▁▂▃▄▅▆▇█", "↑ ", "↓ ", "→ ")
ASCII = Marks(".:-=+*#@", "", "", "")


class Row(Value):
    """One phase: its durations in seconds, the newest last."""

    number: int
    name: str
    durations: tuple[float, ...]

    @property
    def last(self) -> float:
        return self.durations[-1]

    @property
    def median(self) -> float:
        return _median(self.durations)

    @property
    def usual(self) -> float | None:
        """The median of those before the last: what the last is held against."""
        return _median(self.durations[:-1]) if len(self.durations) > 1 else None

    @property
    def trend_percent(self) -> float | None:
        return 100 * (self.last / self.usual - 1) if self.usual else None

    @property
    def stands_out(self) -> bool:
        if self.usual is None or self.trend_percent is None:
            return False
        return abs(self.trend_percent) >= STRIKING and abs(self.last - self.usual) >= NOTICEABLE


def command(
    number: Annotated[
        int | None, typer.Option("--phase", metavar="N", help="Only this phase, every duration.", autocompletion=phases)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every run and phase that is known.")] = False,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Show how the last runs ended, what became of what was due, and what each phase took."""
    loaded = read_state(root_of(project) / "system")
    state = loaded.state
    if number is not None and number not in state.phases:
        raise UsageError(f"nothing is known of a phase {number}", "`orch status` lists the phases")
    rows = rows_of(state, number)
    if as_json:
        show_json(document(state, rows))
        return
    for notice in loaded.notices:
        tell(notice)
    marks = UNICODE if is_unicode() and os.environ.get("TERM") != "dumb" else ASCII
    show("\n".join(lines(state, rows, marks, number, everything=everything)))


def rows_of(state: State, number: int | None = None) -> list[Row]:
    """What has ever succeeded and is still defined."""
    wanted = [number] if number is not None else sorted(one for one, phase in state.phases.items() if phase.planned)
    return [_row(one, state.phase(one)) for one in wanted if state.phase(one).durations]


def document(state: State, rows: Sequence[Row]) -> dict[str, Any]:
    return {"runs": state.runs, "schedules": state.schedules, "phases": [_row_document(row) for row in rows]}


def lines(state: State, rows: Sequence[Row], marks: Marks, number: int | None, *, everything: bool) -> list[str]:
    if number is not None:
        return _phase_lines(number, state.phase(number), rows, marks)
    if not state.runs and not rows and not state.schedules:
        return [*_going_on(state), "nothing has been finished yet: what runs took is shown here, once `orch run` ends"]
    shown = rows if everything or len(rows) <= MANY else _striking(rows)
    instants = instants_lines(state.schedules, clock.zone(), INSTANTS_KEPT if everything else INSTANTS_SHOWN)
    told = [*_run_lines(state, everything=everything), *_going_on(state), *instants, *_table(shown, marks)]
    if len(shown) < len(rows):
        told.append(f"and {len(rows) - len(shown)} that do not stand out: `orch history --all` shows them")
    return told


def _row(number: int, phase: PhaseState) -> Row:
    return Row(number, phase.name, phase.durations)


def _row_document(row: Row) -> dict[str, Any]:
    return {
        "number": row.number, "name": row.name, "durations_seconds": list(row.durations),
        "median_seconds": row.median, "last_seconds": row.last,
        "trend_percent": None if row.trend_percent is None else round(row.trend_percent, 1),
    }  # fmt: skip


# ---- runs


def _run_lines(state: State, *, everything: bool) -> list[str]:
    shown = state.runs if everything else state.runs[-RUNS_SHOWN:]
    told = [_run_line(run) for run in shown]
    if len(shown) < len(state.runs):
        told.insert(0, f"({len(state.runs) - len(shown)} earlier runs: `orch history --all` shows them)")
    return [*told, ""] if told else []


def _run_line(run: dict[str, Any]) -> str:
    calls = f", {run['calls']} calls" if run["calls"] > 1 else ""
    took = f"{span(_between(run)):>8}" if run["started_at"] and run["finished_at"] else f"{'':>8}"
    return f"run {run['id']}  {run['verdict']:<11}  {took}  {run['done']}/{run['total']} done{calls}{_due(run)}"


def _between(run: dict[str, Any]) -> float:
    return max(0.0, epoch(run["finished_at"]) - epoch(run["started_at"]))


def _due(run: dict[str, Any]) -> str:
    """Only where it was not begun when it was due."""
    try:
        late = epoch(run["started_at"]) - epoch(run["due"])
    except (TypeError, ValueError):
        return ""
    return f", was due {span(late)} before it began" if late >= 60 else ""


def _going_on(state: State) -> list[str]:
    if not state.run.id or state.run.verdict is not None:
        return []
    return [f"run {state.run.id} has not ended: `orch status` shows where it stands", ""]


# ---- phases


def _striking(rows: Sequence[Row]) -> list[Row]:
    """The slowest, and those whose last duration is far off the others."""
    slowest = sorted(rows, key=lambda row: -row.median)[:SLOWEST_SHOWN]
    changed = sorted((row for row in rows if row.stands_out), key=lambda row: -abs(row.last - (row.usual or 0.0)))
    chosen = {row.number for row in (*slowest, *changed[:CHANGED_SHOWN])}
    return [row for row in rows if row.number in chosen]


def _table(rows: Sequence[Row], marks: Marks) -> list[str]:
    if not rows:
        return []
    wide = min(WIDEST_NAME, max(len("name"), *(len(row.name.encode()) for row in rows)))
    long = max(len("durations"), *(len(row.durations) for row in rows))
    head = f"phase  {'name':<{wide}}  {'durations':<{long}}  {'median':>8}  {'last':>8}  trend"
    return [head, *(_line(row, wide, long, marks) for row in rows)]


def _line(row: Row, wide: int, long: int, marks: Marks) -> str:
    drawn = sparkline(row.durations, marks.levels)
    name = fitted(row.name, wide)
    return f"{row.number:>5}  {name}  {drawn:<{long}}  {span(row.median):>8}  {span(row.last):>8}  {trend(row, marks)}"


def _phase_lines(number: int, phase: PhaseState, rows: Sequence[Row], marks: Marks) -> list[str]:
    label = f"phase {number} {phase.name}".rstrip()
    if not rows:
        return [f"{label} has never succeeded: `orch status` says where it stands, `orch story {number}` why"]
    row = rows[0]
    least, most = min(row.durations), max(row.durations)
    return [
        f"{label}  {sparkline(row.durations, marks.levels)}",
        f"  last {span(row.last)}, {trend(row, marks)}",
        f"  median {span(row.median)}, from {span(least)} to {span(most)}, in {_times(len(row.durations))}",
        f"  the newest last: {', '.join(map(span, row.durations))}",
    ]


def _times(many: int) -> str:
    return "1 attempt that succeeded" if many == 1 else f"{many} attempts that succeeded"


def sparkline(values: Sequence[float], levels: str) -> str:
    """One character a value, from the least to the most of them; nothing but noise stays flat."""
    least, most = min(values), max(values)
    if most - least <= 0.02 * abs(most):
        return levels[len(levels) // 2 - 1] * len(values)
    return "".join(levels[round((value - least) / (most - least) * (len(levels) - 1))] for value in values)


def trend(row: Row, marks: Marks) -> str:
    percent = row.trend_percent
    if percent is None:
        return "the first" if len(row.durations) == 1 else ""
    if abs(percent) < USUAL:
        return f"{marks.usual}as usual"
    return f"{marks.slower}{percent:.0f} % slower" if percent > 0 else f"{marks.faster}{-percent:.0f} % faster"


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
