"""The report as one HTML page: no network, no script; it fits a phone and a wide screen, by day and by night.

Drawings are SVG whose places are per cent of their width: they stretch with the page while their text does not.

Not a phase itself: files in phases/ whose names begin with "_" are for the others to import.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime
from html import escape
from typing import Any, NamedTuple

from orchestrator.core.names import span

IDLE_SECONDS = 20.0  # more than this in which nothing ran is left out of the drawing
ROW = 20  # height of a row of a drawing

MEANING = {
    "A": "every promise was kept",
    "B": "nothing was lost, but not every promise was kept",
    "C": "nothing was lost, but several promises were not kept",
    "D": "nothing was lost, but many promises were not kept",
    "F": "do not leave runs alone on this machine",
}
# what it is, phase, figure, its 95th percentile, milliseconds in one of its units
COSTS: tuple[tuple[str, int, str, str, float], ...] = (
    ("message and answer, Unix socket", -2, "unix_trip_median_ms", "unix_trip_p95_ms", 1),
    ("fork of a process", -5, "fork_median_ms", "fork_p95_ms", 1),
    ("end by SIGKILL", -5, "kill_ms", "", 1),
    ("durable append (fsync)", -6, "append_sync_median_ms", "append_sync_p95_ms", 1),
    ("durable replacement (fsync)", -6, "replace_sync_median_ms", "replace_sync_p95_ms", 1),
    ("decision, safe in the journal", -3, "commit_median_ms", "commit_p95_ms", 1),
    ("new Python", -5, "spawn_python_median_ms", "spawn_python_p95_ms", 1),
    ("phase of a chain, beyond its work", -1, "per_phase_ms", "", 1),
    ("phase side by side, beyond its work", 5, "overhead_per_phase_ms", "", 1),
    ("loss of an agent, until known", 3, "noticed_ms", "", 1),
    ("stubborn tree, beyond its deadline", 2, "late_seconds", "", 1000),
    ("start of orch --version", -1, "version_ms", "", 1),
    ("start of orch status", -1, "status_ms", "", 1),
    ("second run, until sent away", 6, "second_run_ms", "", 1),
    ("orch retry, until accepted", 6, "retry_ms", "", 1),
    ("orch cancel, until all is gone", 6, "cancel_ms", "", 1),
    ("killed run, until it goes on", 1, "usable_seconds", "", 1000),
)


class Report(NamedTuple):
    grade: str
    score: float
    kept: int
    promises: int
    warnings: list[tuple[int, str]]
    results: dict[int, dict[str, Any]]
    run: dict[str, Any]  # as `orch status --json` tells it
    phases: list[dict[str, Any]]
    version: str

    @property
    def sentence(self) -> str:
        many = len(self.warnings)
        warned = "no warnings" if not many else f"{many} warning{'s' * (many > 1)}"
        return f"grade {self.grade}, {self.score:g} of 100: {self.kept} of {self.promises} promises kept, {warned}"

    @property
    def broken(self) -> list[tuple[int, dict[str, Any]]]:
        return [
            (number, check)
            for number, result in self.results.items()
            for check in result.get("checks", ())
            if not check["kept"]
        ]

    @property
    def broken_lines(self) -> list[str]:
        return [
            f"phase {number}: {check['expected']}: {check['found']}"
            + (f" ({check['grave']})" if check["grave"] else "")
            for number, check in self.broken
        ]

    @property
    def warning_lines(self) -> list[str]:
        return [f"phase {number}: {text}" for number, text in self.warnings]

    def name(self, number: int) -> str:
        return next((phase["name"] for phase in self.phases if phase["number"] == number), "")

    def figure(self, number: int, name: str) -> float | None:
        value = self.results.get(number, {}).get("figures", {}).get(name)
        return float(value) if isinstance(value, int | float) else None


def page(found: Report) -> str:
    sections = (
        head(found),
        listed("Not kept", "bad", found.broken_lines),
        section("The run", gantt(found), "When each phase ran. Drills that measure run by themselves."),
        section(
            "What things cost here",
            costs(found),
            "Where a mark has a line, it is a median, and the line reaches to the 95th percentile.",
        ),
        section("Side by side", efficiency(found), "Layers of phases that only wait, against the ideal."),
        listed("Warnings", "warned", found.warning_lines),
        section("All that was tried", evidence(found)),
        section("How the grade is made", rules()),
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>orch: grade {escape(found.grade)} for unattended runs</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{"".join(sections)}
</main>
</body>
</html>
"""


def section(title: str, inner: str, about: str = "") -> str:
    told = f'<p class="about">{escape(about)}</p>' if about else ""
    return f"<section><h2>{escape(title)}</h2>{told}{inner}</section>\n" if inner else ""


def head(found: Report) -> str:
    host = found.results.get(-8, {}).get("verdict", "")
    when = found.run.get("started_at") or ""
    facts = f"{host}. Run {found.run.get('id') or ''}, begun {when[:16].replace('T', ' ')} UTC, orch {found.version}."
    return f"""<header>
<div class="grade {found.grade}" role="img" aria-label="grade {found.grade}">{found.grade}</div>
<div><h1>Unattended runs on this machine: {escape(MEANING[found.grade])}</h1>
<p>{escape(found.sentence)}.</p><p class="about">{escape(facts)}</p></div>
</header>
"""


def listed(title: str, kind: str, lines: list[str]) -> str:
    rows = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return section(title, f'<ul class="{kind}">{rows}</ul>') if lines else ""


# Drawings: a row has what it is, a strip, and a figure


def row(label: str, strip: str, figure: str) -> str:
    return (
        f'<div class="row"><span class="label">{escape(label)}</span>'
        f'<svg height="{ROW}" aria-hidden="true">{strip}</svg><span class="figure">{escape(figure)}</span></div>\n'
    )


def axis(ticks: Iterable[tuple[float, str]]) -> str:
    strip = "".join(
        f'<text x="{place:.2f}%" y="13" text-anchor="{anchor(place)}">{escape(text)}</text>' for place, text in ticks
    )
    return row("", strip, "").replace('class="row"', 'class="row axis"')


def anchor(place: float) -> str:
    return "start" if place < 3 else "end" if place > 97 else "middle"


def grid(places: Iterable[float]) -> str:
    return "".join(f'<line class="grid" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="{ROW}"/>' for x in places)


def bar(left: float, width: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{left:.2f}%" width="{max(width, 0.4):.2f}%" y="4" height="{ROW - 8}" rx="2"/>'


def gantt(found: Report) -> str:
    spans = {phase["number"]: times_of(phase) for phase in found.phases if phase["started_at"]}
    if not spans:
        return ""
    shown, left_out = without_idle(spans)
    total = max(end for _, end in shown.values()) or 1.0
    ticks = list(nice_ticks(total))
    lines = grid(100 * tick / total for tick in ticks)
    rows = [
        row(
            f"{number} {found.name(number)}" + (" (not kept)" if kind_of(found, number) == "broken" else ""),
            lines + bar(100 * begin / total, 100 * (end - begin) / total, kind_of(found, number)),
            span(end - begin) if end > begin else "now",
        )
        for number, (begin, end) in sorted(shown.items())
    ]
    note = f'<p class="about">{escape(span(left_out))} in which nothing ran are left out.</p>' if left_out else ""
    return (
        f'<div class="drawing">{"".join(rows)}{axis((100 * tick / total, f"{tick:g} s") for tick in ticks)}</div>{note}'
    )


def times_of(phase: dict[str, Any]) -> tuple[float, float]:
    """What runs still (this report) has got so far as the last of the others."""
    begin = instant(phase["started_at"])
    return begin, max(begin, instant(phase["finished_at"])) if phase["finished_at"] else begin


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def without_idle(spans: dict[int, tuple[float, float]]) -> tuple[dict[int, tuple[float, float]], float]:
    """The same from 0 on, without the long times in which nothing ran, and how long these were together."""
    shown: dict[int, tuple[float, float]] = {}
    left_out, reached = 0.0, min(begin for begin, _ in spans.values())
    origin = reached
    for number, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin - reached > IDLE_SECONDS:
            left_out += begin - reached
        reached = max(reached, end)
        shown[number] = (begin - origin - left_out, end - origin - left_out)
    return shown, left_out


def nice_ticks(total: float) -> Iterator[float]:
    rough = total / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    for place in range(int(total / step) + 1):
        yield round(place * step, 6)


def kind_of(found: Report, number: int) -> str:
    if any(of == number for of, _ in found.broken):
        return "broken"
    return "drill" if number > 0 else "ground"


def costs(found: Report) -> str:
    known = [
        (label, value * unit, (found.figure(number, p95) or value) * unit)
        for label, number, name, p95, unit in COSTS
        if (value := found.figure(number, name)) is not None
    ]
    if not known:
        return ""
    low = math.floor(math.log10(max(0.01, min(value for _, value, _ in known))))
    high = max(low + 1, math.ceil(math.log10(max(most for _, _, most in known) or 1)))

    def place(ms: float) -> float:
        return 100 * (math.log10(max(ms, 10.0**low)) - low) / (high - low)

    decades = [10.0**power for power in range(low, high + 1)]
    lines = grid(map(place, decades))
    rows = [row(label, lines + mark(place(value), place(most)), cost(value)) for label, value, most in known]
    return f'<div class="drawing">{"".join(rows)}{axis((place(ms), decade(ms)) for ms in decades)}</div>'


def mark(value: float, most: float) -> str:
    """The circle keeps clear of the edges."""
    value = min(98.5, max(1.5, value))
    return (
        f'<line class="spread" x1="{value:.2f}%" x2="{max(value, most):.2f}%" y1="{ROW // 2}" y2="{ROW // 2}"/>'
        f'<circle class="ground" cx="{value:.2f}%" cy="{ROW // 2}" r="4.5"/>'
    )


def decade(ms: float) -> str:
    """Short: seven of them stand side by side on a phone."""
    unit, factor = ("s", 0.001) if ms >= 1000 else ("ms", 1.0) if ms >= 1 else ("µs", 1000.0)
    return f"{ms * factor:g} {unit}"


def cost(ms: float) -> str:
    if ms >= 1000:
        return f"{ms / 1000:.2f} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.2g} ms"


def efficiency(found: Report) -> str:
    ideal, wall = found.figure(5, "ideal_seconds"), found.figure(5, "wall_seconds")
    if not ideal or not wall:
        return ""
    full = max(ideal, wall)
    share = f"{100 * ideal / wall:.0f}% of the ideal"
    rows = row("ideal", bar(0, 100 * ideal / full, "ground"), f"{ideal:.2f} s")
    rows += row(f"measured, {share}", bar(0, 100 * wall / full, "drill"), f"{wall:.2f} s")
    return f'<div class="drawing">{rows}</div>'


# Words


def evidence(found: Report) -> str:
    return "".join(tried(found, number, result) for number, result in found.results.items())


def tried(found: Report, number: int, result: dict[str, Any]) -> str:
    checks = "".join(
        f'<li class="{"kept" if check["kept"] else "broken"}"><b>{"kept" if check["kept"] else "NOT KEPT"}</b> '
        f"{escape(check['expected'])} <i>{escape(check['found'])}</i></li>"
        for check in result.get("checks", ())
    )
    return (
        f"<article><h3>{number} {escape(found.name(number))}</h3><p>{escape(result['verdict'])}</p>"
        + (f"<ul>{checks}</ul>" if checks else "")
        + "</article>\n"
    )


def rules() -> str:
    return (
        "<p>Each drill counts the same: the share of its promises that were kept, nothing if it was cut short. "
        "A: all were kept. B, C, D: at least 90, 75, 60 of 100. F: fewer, or anything was lost, done twice, stuck or "
        "left running. Warnings do not change the grade: read them.</p>"
    )


STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1c1e21; --soft: #5c636b; --line: #dfe2e5; --card: #f4f5f6;
  --good: #1a7f37; --bad: #b3261e; --warn: #8a5a00; --ground: #3b6fb6; --drill: #7a4fb0; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --ink: #e6e8ea; --soft: #9da5ae; --line: #33383e;
  --card: #1e2125; --good: #4cc26b; --bad: #ff8a80; --warn: #e3b341; --ground: #7fb0f5; --drill: #c29bf2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; -webkit-text-size-adjust: 100%; }
main { max-width: 68rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
header { display: flex; gap: 1.25rem; align-items: flex-start; margin-bottom: 1.5rem; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 0 0 .2rem; }
p { margin: .2rem 0; }
.about, i { color: var(--soft); font-size: .875rem; font-style: normal; }
.grade { flex: none; width: 5rem; height: 5rem; border-radius: .8rem; border: 3px solid currentColor; font-size: 3rem;
  font-weight: 700; line-height: 4.6rem; text-align: center; color: var(--warn); }
.grade.A, .grade.B { color: var(--good); }
.grade.F { color: var(--bad); }
.drawing { padding: .5rem 0; }
.row { display: grid; grid-template-columns: minmax(0, 17rem) minmax(0, 1fr) 4.5rem; gap: 0 .9rem;
  align-items: center; }
.row svg { width: 100%; display: block; overflow: visible; }
.label { font-size: .875rem; }
.figure { font-size: .875rem; text-align: right; font-variant-numeric: tabular-nums; }
svg text { fill: var(--soft); font-size: 11px; }
.grid { stroke: var(--line); }
.spread { stroke: var(--ground); stroke-width: 2; opacity: .55; }
.ground { fill: var(--ground); }
.drill { fill: var(--drill); }
rect.broken { fill: var(--bad); }
ul { margin: .3rem 0; padding-left: 1.2rem; }
ul.bad li::marker { color: var(--bad); }
ul.warned li::marker { color: var(--warn); }
article { background: var(--card); border-radius: .6rem; padding: .7rem .9rem; margin: .6rem 0; }
article li { font-size: .9rem; margin: .15rem 0; }
li.kept b { color: var(--good); font-weight: 600; }
li.broken b { color: var(--bad); }
@media (max-width: 40rem) {
  header { gap: .9rem; }
  .grade { width: 3.6rem; height: 3.6rem; font-size: 2.2rem; line-height: 3.2rem; }
  .row { grid-template-columns: minmax(0, 1fr) auto; margin-bottom: .3rem; }
  .row svg { grid-column: 1 / -1; grid-row: 2; }
}
@media print { article { break-inside: avoid; } }
"""
