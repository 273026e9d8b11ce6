from __future__ import annotations

import pytest

from orchestrator.load.static import key_line, literal_phases, numbers_in

FILE = b'''
import orchestrator
from orchestrator import phase

@phase(
    -8,
    needs={2, 1},
    timeout=minutes(5),
)
def host(ctx):
    """
    Look at the host.
    """

if True:
    @orchestrator.phase(number=2, env={"A": "1"})
    @other
    def two(ctx): ...

for n in range(5):
    @phase(n)
    def many(ctx): ...

@phase
def bare(ctx): ...
'''


def test_phases_that_are_written_out_are_told_without_running_anything():
    host, two = literal_phases("phases/a.py", FILE, "broken: so")
    assert (host.line, host.name, host.title, host.broken) == (5, "host", "Look at the host.", "broken: so")
    assert host.keys == {"number": -8, "needs": [1, 2]}
    assert (two.line, two.name, two.keys) == (16, "two", {"number": 2, "env": {"A": "1"}})


def test_the_line_of_a_key():
    assert [key_line(FILE, 5, key) for key in ("number", "needs", "timeout", "env")] == [6, 7, 8, 5]
    assert key_line(FILE, 99, "needs") == 99


@pytest.mark.parametrize("data", [b"def (:", b"x = " + b"(" * 10_000, b"x = " + b"-" * 100_000 + b"1", b"\0"])
def test_what_cannot_be_parsed_holds_nothing(data):
    assert literal_phases("phases/a.py", data, "") == [] and key_line(data, 1, "needs") == 1


def test_numbers_that_a_file_seems_to_define():
    assert numbers_in(FILE + b"\ndef (:") == {-8, 2}
    assert numbers_in(b"[[phase]]\nnumber = 7\n  number=-1\nx = = 3") == {7, -1}
