"""The graph, drawn four ways: every phase and every need is there, odd names do no harm, many are folded."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from orchestrator.core import drawing
from orchestrator.core.table import STATUSES

NEEDS = {-1: (), 2: (-1,), 3: (-1,), 4: (2, 3)}
NAMES = {-1: "host", 2: 'a "quoted" <b>', 3: "索引", 4: "end"}
NODES = drawing.nodes_of(NEEDS, NAMES, {-1: "completed", 2: "failed", 3: "in_progress"})


def test_layers_are_the_longest_way_from_the_beginning():
    assert {node.key: node.layer for node in NODES} == {"pm1": 0, "p2": 1, "p3": 1, "p4": 2}


def test_every_status_has_a_sign_of_its_own_and_a_colour():
    assert set(drawing.SIGNS) == set(drawing.COLOURS) == set(STATUSES)
    assert len(set(drawing.SIGNS.values())) == len(STATUSES)


def test_text():
    lines = drawing.text(NODES).splitlines()
    assert lines[:4] == ["✓ -1 host", '  ✗ 2 a "quoted" <b>  ← -1', "  ▶ 3 索引  ← -1", "    · 4 end  ← 2, 3"]


def test_mermaid_and_dot_have_every_arrow_and_quote_what_must_be_quoted():
    mermaid, dot = drawing.mermaid(NODES), drawing.dot(NODES)
    assert len(re.findall(r"^    \w+ --> \w+$", mermaid, re.M)) == 4
    assert '2 a #quot;quoted#quot; <b>"]' in mermaid
    assert len(re.findall(r"^    \w+ -> \w+;$", dot, re.M)) == 4
    assert '2 a \\"quoted\\" <b>"' in dot


def test_svg_is_valid_and_nothing_lies_outside_or_over_another():
    root = ElementTree.fromstring(drawing.svg(NODES))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    boxes = [box for box in root.iter("{http://www.w3.org/2000/svg}rect") if "rx" in box.attrib]
    assert len(boxes) == len(NODES)
    spots = []
    for box in boxes:
        x, y, wide, high = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
        assert x >= 0 and x + wide <= width and y >= 0 and y + high <= height
        spots.append((x, y))
    assert len(set(spots)) == len(spots)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) == 4


@pytest.mark.parametrize("kind", drawing.KINDS)
def test_a_thousand_phases_are_folded_into_their_layers(kind):
    needs = {n: (n - 50,) if n >= 50 else () for n in range(1000)}
    nodes = drawing.nodes_of(needs, dict.fromkeys(needs, "x"), {**dict.fromkeys(range(100), "completed"), 60: "failed"})
    assert len(nodes) == 20
    assert nodes[0].status == "completed" and nodes[1].status == "failed" and nodes[2].status == "pending"
    assert "layer 1: 50 phases, 50 to 99: 49 completed, 1 failed" in drawing.KINDS[kind](nodes)


@pytest.mark.parametrize("kind", drawing.KINDS)
def test_nothing_at_all_can_be_drawn(kind):
    assert drawing.KINDS[kind]([]) is not None
