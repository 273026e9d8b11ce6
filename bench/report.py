"""Writes what results.json holds into docs/performance.md, between its marks, and draws it: python -m bench.report."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import results
from bench.chart import Bars, Line, Lines, drawn, figure, sorted_bars
from bench.goals import GOALS, MEMORY, Rows

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "performance.md"
_MARKED = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.S)
COLUMNS = {
    "chain24 cold": "24", "chain24 again": "again", "chain24 state": "state", "layered1000 cold": "1,000",
    "layered1000 again": "again", "layered10000 cold": "10,000", "layered10000 again": "again",
    "sleepy cold": "40 sleeps",
}  # fmt: skip
GROWN = (
    ("processor", 1000.0, "Milliseconds of processor time"),
    ("wall", 1000.0, "Milliseconds until it returns, 2 slots"),
    ("memory_mib", 1024.0, "KiB of memory at its peak"),
    ("written", 1 / 1024, "KiB written"),
    ("syncs", 1.0, "Syncs"),
)
Found = Mapping[str, Any]


def page(text: str, found: Found) -> str:
    """The same text with every marked part made anew."""
    return _MARKED.sub(lambda part: f"{part[1]}{PARTS[part[2]](found)}\n{part[3]}", text)


def pictures(found: Found) -> dict[str, str]:
    drawings = {"performance.svg": _compared(found), "growth.svg": _growing(found)}
    return {name: text for name, text in drawings.items() if text}


def main() -> None:
    found = results.read()
    PAGE.write_text(page(PAGE.read_text("utf-8"), found), "utf-8")
    for name, text in pictures(found).items():
        (DOCS / name).write_text(text, "utf-8")


def _rows(found: Found) -> Rows:
    rows: Rows = found["compare"]["measured"]["rows"]
    return rows


def _table(head: list[str], rows: Iterator[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# The parts of the page


def _machine(found: Found) -> str:
    told = found["compare"]["machine"]
    versions = found["compare"]["measured"]["versions"]
    names = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = "".join(
        f" {name} could not be had ({why})." for name, why in found["compare"]["measured"]["missing"].items()
    )
    return (
        f"Measured {told['day']}: {told['cores']} cores ({told['architecture']}), {told['memory_gib']} GiB,"
        f" Linux {told['kernel']}, {told['file_system']}, Python {told['python']}; {names}.{missing}"
    )


def _reach(found: Found) -> str:
    def rows() -> Iterator[list[str]]:
        measured = _rows(found)
        for goal in GOALS:
            limit, ours = goal.limit(measured), goal.ours(measured)
            words = " and ".join(bound.words for bound in goal.bounds)
            met = "?" if limit is None or ours is None else "yes" if ours <= limit else f"no: {ours / limit:.2f} x that"
            yield [goal.title, _seconds(ours), words, _seconds(limit), met]
        for phases, most in MEMORY.items():
            memory = next((one["memory_mib"] for one in _grown(found, "real") if one["phases"] == phases), None)
            met = "?" if memory is None else "yes" if memory <= most else f"no: {memory / most:.2f} x that"
            shown = "" if memory is None else f"{memory:.0f} MiB"
            yield [f"Memory of all its processes, {phases:,}", shown, f"{most:g} MiB", f"{most:g} MiB", met]

    return _table(["what", "orch", "reach", "that is", "met"], rows())


def _tools(measure: str) -> Callable[[Found], str]:
    def part(found: Found) -> str:
        measured = _rows(found)
        names = dict.fromkeys(name for row in COLUMNS for name in measured.get(row, {}))
        speed = {name: measured.get("chain24 cold", {}).get(name, {}).get("wall", 1e9) for name in names}
        order = sorted(names, key=lambda name: (name != "orch", speed[name]))
        rows = (
            [f"**{name}**" if name == "orch" else name, *(_cell(measured, row, name, measure) for row in COLUMNS)]
            for name in order
        )
        return _table(["tool", *COLUMNS.values()], rows)

    return part


def _cell(rows: Rows, row: str, name: str, measure: str) -> str:
    """Seconds, and how many times as long orch takes; why not, where there is a figure of nobody."""
    told, ours = rows.get(row, {}).get(name, {}), rows.get(row, {}).get("orch", {}).get(measure)
    if measure not in told:
        return str(told.get("fault", ""))
    times = "" if name == "orch" or ours is None else f" ({_times(ours / max(told[measure], 0.0005))})"
    return f"{figure(told[measure])}{times}"


def _times(ratio: float) -> str:
    return f"{ratio:.0f} x" if ratio >= 10 else f"{ratio:.1f} x" if ratio >= 0.1 else f"{ratio:.2f} x"


def _growth(found: Found) -> str:
    def rows() -> Iterator[list[str]]:
        for kind in ("real", "simulated"):
            for one in _grown(found, kind)[1:]:
                costs = [_per_phase(found, kind, name, scale).get(one["phases"]) for name, scale, _ in GROWN]
                shown = ["" if cost is None else figure(cost) for cost in costs]
                yield [
                    f"{one['phases']:,}{', simulated' if kind == 'simulated' else ''}",
                    *shown,
                    f"{one['memory_mib']:.0f} MiB",
                ]

    head = ["phases", "processor ms", "wall ms", "KiB of memory", "KiB written", "syncs", "memory in all"]
    return _table(head, rows())


def _calls(found: Found) -> str:
    def rows() -> Iterator[list[str]]:
        for name, told in found.get("growth", {}).get("measured", {}).get("calls", {}).items():
            for part, calls in told["calls"].items():
                most = ", ".join(f"{call} {many:g}" for call, many in calls.items() if call != "all")
                yield [name, part, f"{calls['all']:g}", most]
            yield [
                name,
                "all",
                "",
                f"{told['syncs']:g} syncs, {told['written']:,} bytes into files, {told['processes']:g} processes",
            ]

    return _table(["run", "part", "calls of a phase", "most of them"], rows())


PARTS: dict[str, Callable[[Found], str]] = {
    "machine": _machine, "reach": _reach, "wall": _tools("wall"), "processor": _tools("processor"), "growth": _growth,
    "calls": _calls,
}  # fmt: skip


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{figure(value)} s"


def _grown(found: Found, kind: str) -> list[dict[str, Any]]:
    grown: list[dict[str, Any]] = found.get("growth", {}).get("measured", {}).get(kind, [])
    return grown


def _per_phase(found: Found, kind: str, name: str, scale: float) -> dict[int, float]:
    """Beyond a run of one phase, which is what starting and ending cost."""
    first, *others = _grown(found, kind) or [{}]
    if first.get(name) is None:
        return {}
    return {
        one["phases"]: max(0.0, one[name] - first[name]) / (one["phases"] - first["phases"]) * scale for one in others
    }


# The pictures


def _compared(found: Found) -> str:
    measured, panels = _rows(found), list[Bars]()
    for goal in GOALS:
        rows = dict(measured.get(goal.row, {}))
        for bound in goal.bounds:  # another row's tool is shown with it, where it is what counts
            if bound.row and bound.of in measured.get(bound.row, {}):
                rows.setdefault(bound.of, measured[bound.row][bound.of])
        values = [(name, told[goal.measure]) for name, told in rows.items() if goal.measure in told]
        if values:
            unit = "seconds of processor time" if goal.measure == "processor" else "seconds"
            title = goal.title.replace("`", "").partition(": processor")[0]
            panels.append(Bars(title, unit, sorted_bars(values, "orch"), goal.limit(measured)))
    return drawn(panels, "orch beside its rivals: seconds of each workload") if panels else ""


def _growing(found: Found) -> str:
    panels = list[Lines]()
    ticks = sorted({one["phases"] for kind in ("real", "simulated") for one in _grown(found, kind)[1:]})
    for name, scale, title in GROWN:
        lines = [
            Line(sorted(costs.items()), kind == "simulated")
            for kind in ("real", "simulated") if (costs := _per_phase(found, kind, name, scale))
        ]  # fmt: skip
        if lines:
            panels.append(Lines(title, "of one phase, by how many there are; dashed: simulated", lines, ticks))
    return drawn(panels, "What a phase costs, by how many there are") if panels else ""


if __name__ == "__main__":
    main()
