"""The graph as text, Mermaid, DOT or SVG, each phase with where it stands; too many are folded into layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from orchestrator.core.graph import order
from orchestrator.core.value import Value

MOST = 80  # more phases than this are drawn as their layers

SIGNS = {
    "completed": "✓", "skipped": "»", "failed": "✗", "in_progress": "▶", "retry_wait": "↻", "cancelled": "-",
    "pending": "·",
}  # fmt: skip
COLOURS = {
    "completed": "#2e7d32", "skipped": "#558b2f", "failed": "#c62828", "in_progress": "#1565c0",
    "retry_wait": "#b26a00", "cancelled": "#6a6a6a", "pending": "#9e9e9e",
}  # fmt: skip


class Node(Value):
    key: str
    label: str
    status: str
    layer: int
    needs: tuple[str, ...] = ()


def nodes_of(needs: Mapping[int, Sequence[int]], names: Mapping[int, str], statuses: Mapping[int, str]) -> list[Node]:
    """One node a phase, or one a layer; a layer is as far from the beginning as its longest way."""
    layers: dict[int, int] = {}
    for number in order(needs):
        layers[number] = 1 + max((layers[need] for need in needs[number]), default=-1)
    if len(needs) > MOST:
        return _folded(layers, statuses)
    return [
        Node(_key(number), f"{number} {names[number]}", statuses.get(number, "pending"), layers[number],
             tuple(map(_key, needs[number])))
        for number in sorted(needs, key=lambda number: (layers[number], number))
    ]  # fmt: skip


def _key(number: int) -> str:
    return f"p{number}".replace("-", "m")


def _folded(layers: Mapping[int, int], statuses: Mapping[int, str]) -> list[Node]:
    nodes = []
    for layer in range(1 + max(layers.values(), default=-1)):
        members = sorted(number for number, at in layers.items() if at == layer)
        counts: dict[str, int] = {}
        for number in members:
            counts[statuses.get(number, "pending")] = counts.get(statuses.get(number, "pending"), 0) + 1
        told = ", ".join(f"{many} {status.replace('_', ' ')}" for status, many in sorted(counts.items()))
        label = f"layer {layer}: {len(members)} phases, {members[0]} to {members[-1]}: {told}"
        nodes.append(Node(f"l{layer}", label, _worst(counts), layer, (f"l{layer - 1}",) if layer else ()))
    return nodes


def _worst(counts: Mapping[str, int]) -> str:
    return next(
        (one for one in ("failed", "in_progress", "retry_wait", "cancelled", "pending") if one in counts), "completed"
    )


def text(nodes: Sequence[Node]) -> str:
    labels = {node.key: node.label.split(" ")[0] for node in nodes}
    lines = []
    for node in nodes:
        needs = f"  ← {', '.join(labels[need] for need in node.needs)}" if node.needs and node.key[0] == "p" else ""
        lines.append(f"{'  ' * node.layer}{SIGNS.get(node.status, '?')} {node.label}{needs}")
    marks = "  ".join(f"{sign} {status.replace('_', ' ')}" for status, sign in SIGNS.items())
    return "\n".join([*lines, "", marks])


def mermaid(nodes: Sequence[Node]) -> str:
    lines = ["graph LR"]
    lines += [
        f'    {node.key}["{SIGNS.get(node.status, "?")} {_quoted(node.label)}"]:::{node.status}' for node in nodes
    ]
    lines += [f"    {need} --> {node.key}" for node in nodes for need in node.needs]
    lines += [f"    classDef {status} stroke:{colour},stroke-width:2px" for status, colour in COLOURS.items()]
    return "\n".join(lines)


def dot(nodes: Sequence[Node]) -> str:
    lines = ["digraph orch {", "    rankdir=LR; node [shape=box, style=rounded];"]
    for node in nodes:
        label = f"{SIGNS.get(node.status, '?')} {node.label}".replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'    {node.key} [label="{label}", color="{COLOURS.get(node.status, "black")}"];')
    lines += [f"    {need} -> {node.key};" for node in nodes for need in node.needs]
    return "\n".join([*lines, "}"])


def _quoted(label: str) -> str:
    return label.replace("#", "#35;").replace('"', "#quot;")


ROW, COLUMN_GAP, CHARACTER, PADDING = 44, 60, 7.6, 12


def svg(nodes: Sequence[Node]) -> str:
    """Layers from left to right; within a layer near to what is needed, so that few lines cross."""
    columns = _columns(nodes)
    widths = [max((len(node.label) for node in column), default=0) * CHARACTER + 2 * PADDING + 14 for column in columns]
    lefts = [PADDING + sum(widths[:index]) + COLUMN_GAP * index for index in range(len(columns))]
    height = ROW * max((len(column) for column in columns), default=1) + 2 * PADDING
    places = {
        node.key: (lefts[index], PADDING + (height - 2 * PADDING - ROW * len(column)) / 2 + ROW * row, widths[index])
        for index, column in enumerate(columns)
        for row, node in enumerate(column)
    }
    width = (lefts[-1] + widths[-1] + PADDING) if columns else 100
    body = [_line(places[need], places[node.key]) for node in nodes for need in node.needs if need in places]
    body += [_box(node, places[node.key]) for node in nodes]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' height="{height:.0f}" font-family="ui-monospace, monospace" font-size="12.5">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{chr(10).join(body)}\n</svg>'
    )


def _columns(nodes: Sequence[Node]) -> list[list[Node]]:
    columns: list[list[Node]] = [[] for _ in range(1 + max((node.layer for node in nodes), default=-1))]
    rows: dict[str, float] = {}
    for node in nodes:
        columns[node.layer].append(node)
    for column in columns:
        column.sort(key=_barycentre(rows))
        rows.update({node.key: row / max(1, len(column)) for row, node in enumerate(column)})
    return columns


def _barycentre(rows: Mapping[str, float]) -> Callable[[Node], float]:
    def middle(node: Node) -> float:
        found = [rows[need] for need in node.needs if need in rows]
        return sum(found) / len(found) if found else 0.0

    return middle


def _line(start: tuple[float, float, float], end: tuple[float, float, float]) -> str:
    x1, y1 = start[0] + start[2], start[1] + ROW / 2 - 4
    x2, y2 = end[0], end[1] + ROW / 2 - 4
    bend = (x2 - x1) / 2
    return (
        f'<path d="M{x1:.0f} {y1:.0f} C{x1 + bend:.0f} {y1:.0f} {x2 - bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"'
        ' fill="none" stroke="#b0b0b0"/>'
    )


def _box(node: Node, place: tuple[float, float, float]) -> str:
    x, y, width = place
    colour = COLOURS.get(node.status, "#000000")
    return (
        f'<g><title>{escape(node.label)}: {node.status}</title><rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}"'
        f' height="{ROW - 8}" rx="6" fill="#ffffff" stroke="{colour}" stroke-width="2"/>'
        f'<text x="{x + PADDING:.0f}" y="{y + ROW / 2:.0f}" fill="{colour}">{SIGNS.get(node.status, "?")}'
        f' <tspan fill="#202020">{escape(node.label)}</tspan></text></g>'
    )


KINDS: dict[str, Callable[[Sequence[Node]], str]] = {"text": text, "mermaid": mermaid, "dot": dot, "svg": svg}
