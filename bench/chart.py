"""Draws what was measured as SVG: bars side by side, and lines of what a phase costs, for light and dark pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

STYLE = """<style>
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.card { fill: #ffffff; stroke: #d1d9e0; } .title { font-weight: 600; } .faint { fill: #59636e; font-size: 11px; }
.bar { fill: #afb8c1; } .ours { fill: #0969da; } .reach { stroke: #bc4c00; stroke-width: 2; } .said { fill: #bc4c00; }
.axis { stroke: #d1d9e0; } .line { fill: none; stroke: #0969da; stroke-width: 2; } .dot { fill: #0969da; }
.played { fill: none; stroke: #8250df; stroke-width: 2; stroke-dasharray: 5 4; } .dot2 { fill: #8250df; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .card { fill: #0d1117; stroke: #3d444d; } .faint { fill: #9198a1; }
.bar { fill: #59636e; } .ours { fill: #4493f8; } .reach { stroke: #f0883e; } .said { fill: #f0883e; }
.axis { stroke: #3d444d; } .line { stroke: #4493f8; } .dot { fill: #4493f8; }
.played { stroke: #ab7df8; } .dot2 { fill: #ab7df8; } }
</style>"""
WIDTH, GAP, COLUMNS = 940, 20, 2
PANEL = (WIDTH - GAP * (COLUMNS + 1)) / COLUMNS
ROW, HEAD, LABEL, VALUE = 18, 44, 74, 62
PLOT = 120


class Bar(NamedTuple):
    name: str
    value: float
    is_ours: bool = False


class Bars(NamedTuple):
    title: str
    unit: str
    bars: Sequence[Bar]
    reach: float | None = None  # as far as ours may go

    @property
    def height(self) -> float:
        return HEAD + ROW * len(self.bars) + 18


class Line(NamedTuple):
    points: Sequence[tuple[float, float]]
    is_played: bool = False


class Lines(NamedTuple):
    title: str
    unit: str
    lines: Sequence[Line]
    ticks: Sequence[float]  # from left to right, each as far from the next
    height: float = HEAD + PLOT + 26


def drawn(panels: Sequence[Bars | Lines], label: str) -> str:
    """Two beside each other, as high as the higher one."""
    parts, top = list[str](), float(GAP)
    for at in range(0, len(panels), COLUMNS):
        pair = panels[at : at + COLUMNS]
        for column, panel in enumerate(pair):
            left = GAP + column * (PANEL + GAP)
            inner = _bars(panel) if isinstance(panel, Bars) else _lines(panel)
            parts.append(f'<g transform="translate({left:.0f} {top:.0f})">\n{_heading(panel)}\n{inner}\n</g>')
        top += max(panel.height for panel in pair) + GAP
    size = f'width="{WIDTH}" height="{top:.0f}" viewBox="0 0 {WIDTH} {top:.0f}"'
    card = f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{top - 1:.0f}" rx="8"/>'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(label)}">'
    return "\n".join([opening, STYLE, card, *parts, "</svg>"]) + "\n"


def _heading(panel: Bars | Lines) -> str:
    return f"{_text(0, 14, panel.title, 'title')}\n{_text(0, 31, panel.unit, 'faint')}"


def _bars(panel: Bars) -> str:
    """What is many times longer than ours ends with the panel, and says so by an arrow."""
    ours = max((bar.value for bar in panel.bars if bar.is_ours), default=0.0)
    longest = max(panel.reach or 0.0, *(bar.value for bar in panel.bars))
    full = min(longest, 4 * max(ours, panel.reach or 0.0) or longest)
    room, parts = PANEL - LABEL - VALUE, list[str]()
    for at, bar in enumerate(panel.bars):
        top, length = HEAD + at * ROW, max(1.5, room * min(1.0, bar.value / full))
        kind, beyond = ("ours" if bar.is_ours else "bar"), " ▸" if bar.value > full else ""
        parts += [
            _text(LABEL - 8, top + 12, bar.name, "title" if bar.is_ours else "", anchor="end"),
            f'<rect class="{kind}" x="{LABEL}" y="{top + 2}" width="{length:.1f}" height="{ROW - 5}" rx="2"/>',
            _text(PANEL - 12, top + 12, f"{figure(bar.value)}{beyond}", "" if bar.is_ours else "faint", anchor="end"),
        ]
    if panel.reach is not None:
        x, end = LABEL + room * min(1.0, panel.reach / full), HEAD + ROW * len(panel.bars)
        parts.append(f'<path class="reach" d="M{x:.1f} {HEAD - 2}V{end}"/>')
        parts.append(_text(x, end + 12, f"reach {figure(panel.reach)}", "faint said", anchor="middle"))
    return "\n".join(parts)


def _lines(panel: Lines) -> str:
    """Downwards to nothing, so that a line looks as flat as it is; to the right ten times as many at each step."""
    highest = max((y for line in panel.lines for _, y in line.points), default=1.0) * 1.15 or 1.0
    room, foot = PANEL - LABEL - 30, HEAD + PLOT
    places = {x: LABEL + room * (at / max(1, len(panel.ticks) - 1)) for at, x in enumerate(panel.ticks)}
    parts = [
        f'<path class="axis" d="M{LABEL - 12} {foot}H{PANEL - 16:.0f}"/>',
        _text(LABEL - 18, foot + 4, "0", "faint", "end"),
    ]
    parts += [_text(places[x], foot + 17, f"{x:,.0f}", "faint", "middle") for x in panel.ticks]
    for line in panel.lines:
        spots = [(places[x], foot - PLOT * y / highest, y) for x, y in line.points]
        kind, dot = ("played", "dot2") if line.is_played else ("line", "dot")
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in spots)
        parts.append(f'<path class="{kind}" d="M{path}"/>')
        for x, y, value in spots:
            parts.append(f'<circle class="{dot}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
            below = line.is_played and y < foot - 24  # the axis has numbers of its own
            parts.append(_text(x, y + (16 if below else -8), figure(value), "faint", "middle"))
    return "\n".join(parts)


def figure(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    how = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{how}>{escape(text)}</text>'


def sorted_bars(values: Iterable[tuple[str, float]], ours: str) -> list[Bar]:
    return [Bar(name, value, name == ours) for name, value in sorted(values, key=lambda one: one[1])]
