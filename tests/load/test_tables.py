from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.load.tables import headers, key_line, parse

TEXT = '''
# [[phase]] in a comment
[[phase]]
number = 1
run = """
[[phase]]
timeout = 3
"""
timeout = "soon"

  [[ "phase" ]]  # another
title = "a [[phase]] # no comment"
"number" = 2
run = \'\'\'
[[phase]]\'\'\'
[phase.env]
LEVEL = 9
'''


def test_lines_of_tables_and_keys_but_not_of_what_only_looks_like_them():
    assert headers(TEXT) == [3, 11]
    data = TEXT.encode()
    assert [key_line(data, 3, key) for key in ("number", "run", "timeout", "needs")] == [4, 5, 9, 3]
    assert [key_line(data, 11, key) for key in ("number", "env", "title", "timeout")] == [13, 16, 12, 11]


def test_what_was_written_comes_out():
    found, faults = parse("phases/a.toml", TEXT.encode(), "d")
    assert faults == [] and [(each.line, each.keys["number"], each.digest) for each in found] == [
        (3, 1, "d"),
        (11, 2, "d"),
    ]


@pytest.mark.parametrize(
    "text", ["phase = [{number = 1}, {number = 2}]\n", "\ufeff[[phase]]\nnumber = 1\r\n[[phase]]\r\nnumber = 2\r\n"]
)
def test_other_ways_to_write_it(text):
    found, faults = parse("phases/a.toml", text.encode(), "d")
    assert faults == [] and [each.keys["number"] for each in found] == [1, 2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# nothing\n", ["phases/a.toml: defines no phase: begin each phase with [[phase]], two brackets"]),
        ("\n[phase]\nnumber = 1\n", ["phases/a.toml:2: phase is not a list of tables: begin each phase with [[phase]], two brackets"]),
        ("\nphase = [1]\n", ["phases/a.toml:2: phase holds 1, which is not a table: begin each phase with [[phase]], two brackets"]),
        ("\n[[phases]]\nnumber = 1\n", ["phases/a.toml:2: phases is not known here: a file of phases holds [[phase]] tables only: begin each phase with [[phase]], two brackets"]),
        ("jobs = 3\n[[phase]]\n", ["phases/a.toml:1: jobs is not known here: a file of phases holds [[phase]] tables only: move it, or remove it"]),
        ("[[phase]]\nrun = \"x\n", ["phases/a.toml:2: is not TOML: illegal character '\\n': correct this line"]),
        ("[[phase]]\nnumber = 1\nnumber = 2\n", ["phases/a.toml:3: is not TOML: cannot overwrite a value: correct this line"]),
        ("[[phase]]\nrun = ", ["phases/a.toml:2: is not TOML: invalid value: correct this line"]),
        ("[[phase]]\nrun = '''\n\n", ["phases/a.toml:2: is not TOML: expected \"'''\": correct this line"]),
        ("[[phase]]\nnumber = " + "9" * 5000, ["phases/a.toml: holds a number of thousands of digits: correct it"]),
        ("a=" + "[" * 3000 + "]" * 3000, ["phases/a.toml: is nested too deeply: write each phase as a table of its own: [[phase]]"]),
    ],
)  # fmt: skip
def test_faults_have_their_line(text, told):
    assert [str(fault) for fault in parse("phases/a.toml", text.encode(), "d")[1]] == told


@given(st.text(alphabet="[]phase=\"'#\n \\1{},.x\ufeff\r"))
def test_whatever_the_text_every_fault_has_a_line_of_it(text):
    phases, faults = parse("phases/a.toml", text.encode(), "d")
    lines = text.replace("\r\n", "\n").count("\n") + 1
    assert phases or faults
    assert all(1 <= each.line <= lines for each in (*phases, *faults) if each.line is not None)
    assert all(1 <= key_line(text.encode(), each.line, "number") <= lines for each in phases)


def test_odd_values_are_told_not_raised(faults):
    found = faults(
        "[[phase]]\nnumber = 1\nrun = 1979-05-27T07:32:00Z\ntimeout = 07:32:00\nneeds = [[1]]\nenv.A = nan\n"
    )
    assert [line.split(": ")[0] for line in found] == [f"phases/a.toml:{line}" for line in (3, 4, 5, 6)]
