"""docs/performance.md shows what was measured and nothing else: its tables and pictures are made of results.json."""

from __future__ import annotations

import json
import re

import pytest

from bench import report, results
from tests.docs.reading import ROOT

TEXT = (ROOT / "docs" / "performance.md").read_text("utf-8")
FOUND = results.read()


def test_the_tables_are_those_of_the_results() -> None:
    assert report.page(TEXT, FOUND) == TEXT, "python -m bench.report"


@pytest.mark.parametrize("name", sorted(report.pictures(FOUND)))
def test_the_pictures_are_those_of_the_results(name: str) -> None:
    assert (ROOT / "docs" / name).read_text("utf-8") == report.pictures(FOUND)[name], "python -m bench.report"
    assert f"({name})" in TEXT


def test_every_part_of_the_page_is_made_and_a_changed_figure_is_noticed() -> None:
    assert re.findall(r"<!-- measured: (\w+) -->", TEXT) == list(report.PARTS)
    changed = json.loads(json.dumps(FOUND))
    changed["compare"]["measured"]["rows"]["chain24 cold"]["orch"]["wall"] += 1
    assert report.page(TEXT, changed) != TEXT
    assert report.pictures(changed)["performance.svg"] != report.pictures(FOUND)["performance.svg"]


def test_the_results_say_nothing_of_whose_machine_it_was() -> None:
    text = results.PATH.read_text("utf-8")
    assert not re.search(r"/(home|tmp|root|work|usr)/", text)
    for part in ("compare", "growth"):
        assert set(FOUND[part]["machine"]) == {
            "architecture", "cores", "day", "file_system", "kernel", "memory_gib", "python",
        }  # fmt: skip
