"""phases/_page.py: a page that is whole, says everything, asks nobody; places and ticks of its drawings."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from phases import _page
from phases import p15_report as phase
from phases._page import page
from tests.phases.reporting import check, results, told

VOID = {"meta", "line", "rect", "circle", "br"}


class Balance(HTMLParser):
    """Which elements there are, and whether each is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.seen, self.words = list[str](), dict[str, int](), list[str]()

    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data.strip())


def read(found):
    balance = Balance()
    balance.feed(page(found))
    assert balance.open == []
    return balance


def test_it_is_whole_and_says_everything():
    found = phase.graded(results({2: [check(grave="orphaned"), check(True)]}), told())
    balance = read(found)
    words = " ".join(balance.words)
    assert {"script", "img", "link", "iframe"} & set(balance.seen) == set()
    assert {f"{number} {found.name(number)}" for number in found.results} <= set(balance.words)
    assert "2 deadline (not kept)" in balance.words
    for result in found.results.values():
        assert result["verdict"] in words
    for text in (*found.broken_lines, *found.warning_lines, found.sentence, "20261120T100000-abcd", "NOT KEPT"):
        assert text in words
    assert (
        balance.seen["svg"] == len(found.results) + 1 + len(_page.COSTS) + 2 + 2
    )  # phases and this one, costs, two bars, two axes
    assert balance.seen["circle"] == len(_page.COSTS)


def test_it_asks_nobody():
    text = page(phase.graded(results(), told()))
    assert re.findall(r"https?:|url\(|@import|src=|href=", text) == []
    assert "default-src 'none'" in text


def test_what_phases_say_is_text_and_nothing_else():
    evil = "<script>alert(1)</script>&"
    found = results({1: [check(found=evil)]})
    found[-8]["verdict"] = found[-8]["warnings"] = evil
    found[-8]["warnings"] = [evil]
    text = page(phase.graded(found, told()))
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;") >= 4


def test_what_is_not_known_is_not_drawn():
    found = results()
    for result in found.values():
        result["figures"] = {}
    empty = phase.graded(found, {"run": {}, "phases": []})
    assert "svg" not in read(empty).seen
    assert (_page.gantt(empty), _page.costs(empty), _page.efficiency(empty)) == ("", "", "")


def test_long_times_in_which_nothing_ran_are_left_out():
    shown, left_out = _page.without_idle(
        {1: (100.0, 101.0), 2: (100.5, 104.0), 3: (1104.0, 1105.0), 4: (1105.0, 1106.0)}
    )
    assert left_out == 1000.0
    assert shown == {1: (0.0, 1.0), 2: (0.5, 4.0), 3: (4.0, 5.0), 4: (5.0, 6.0)}
    assert _page.without_idle({1: (5.0, 6.0), 2: (7.0, 8.0)}) == ({1: (0.0, 1.0), 2: (2.0, 3.0)}, 0.0)


def test_what_runs_still_has_got_as_far_as_now():
    begin, end = _page.times_of({"started_at": "2026-11-20T10:00:01.000Z", "finished_at": None})
    assert begin == end
    backwards = {"started_at": "2026-11-20T10:00:01.000Z", "finished_at": "2026-11-20T10:00:00.000Z"}
    assert _page.times_of(backwards) == (begin, begin)


@pytest.mark.parametrize(("total", "ticks"), [(9, [0, 2, 4, 6, 8]), (26, [0, 10, 20]), (0.4, [0, 0.1, 0.2, 0.3, 0.4])])
def test_ticks_are_round(total, ticks):
    assert list(_page.nice_ticks(total)) == ticks


def test_costs_in_the_unit_that_people_would_take():
    assert [_page.cost(ms) for ms in (0.0123, 0.8, 4.38, 65.4, 1234.0)] == [
        "0.012 ms",
        "0.8 ms",
        "4.4 ms",
        "65 ms",
        "1.23 s",
    ]
    assert [_page.decade(ms) for ms in (0.01, 0.1, 1, 100, 10_000)] == ["10 µs", "100 µs", "1 ms", "100 ms", "10 s"]


def test_nothing_is_drawn_beside_the_paper():
    text = page(phase.graded(results(), told()))
    places = [float(place) for place in re.findall(r' (?:x|x1|x2|cx)="(-?[\d.]+)%"', text)]
    assert len(places) > 100
    assert 0 <= min(places) <= max(places) <= 100
    for left, width in re.findall(r'<rect class="\w+" x="([\d.]+)%" width="([\d.]+)%"', text):
        assert float(left) + float(width) <= 100.5
