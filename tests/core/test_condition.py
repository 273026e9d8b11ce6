from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.condition import Untellable, fault_of, holds, uses

PARAMS = {"year": 2024, "mode": "full", "on": True, "of": ["a", "b"]}
RESULTS = {1: {"changed": True, "rows": [3, {"n": -4}]}, -8: None}


def value(text: str) -> bool:
    return holds(text, PARAMS, RESULTS.__getitem__)


@pytest.mark.parametrize(
    "text",
    [
        "params.year >= 2024", "2023 < params.year <= 2024", "params.mode == 'full' and params.on", "not false",
        "params.mode in ['full', 'half']", "'a' in params.of", "'c' not in params.of", "result(1)['changed']",
        'result(1)["rows"][0] == 3', "result(1)['rows'][1]['n'] == -4", "result(-8) == none", "false or true",
        "'changed' in result(1)", "params.year != 2023", " true ",
    ],
)  # fmt: skip
def test_what_holds_and_what_its_opposite_does_not(text):
    assert fault_of(text) is None and value(text) is True
    assert value(f"not ({text.strip()})") is False


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("params.month", "asks for params.month, which the phase does not have"),
        ("result(1)['no']", "asks for result(1)['no'], which is not there (KeyError)"),
        ("result(1)['rows'][9]", "asks for result(1)['rows'][9], which is not there (IndexError)"),
        ("params.mode > 3", "cannot tell params.mode > 3: params.mode is text and 3 is a number"),
        ("result(-8)['x']", "cannot tell result(-8)['x']: result(-8) is nothing and 'x' is text"),
        ("result(1)['rows']['n']", "cannot tell result(1)['rows']['n']: result(1)['rows'] is a list and 'n' is text"),
        ("-params.mode == 1", "cannot tell -params.mode: params.mode is text"),
    ],
)
def test_what_cannot_be_told_is_a_fault_and_never_false(text, told):
    with pytest.raises(Untellable) as fault:
        value(text)
    assert str(fault.value) == told


def test_what_does_not_matter_any_more_is_not_asked():
    assert value("params.on or result(99)['x']") and not value("not params.on and params.month")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no condition"), ("params.year >", "is no condition"), ("x = 1", "is no condition"),
        ("(" * 300, "is no condition"), ("true or " * 99 + "true", "is longer than 500 characters"),
        ("__import__('os')", "holds \"__import__('os')\": known are"), ("year > 3", "holds 'year': known are"),
        ("params.year.real", "holds 'params.year.real': known are"), ("1 + 1", "holds '1 + 1': known are"),
        ("result('1')", "holds \"result('1')\": write result(3)"), ("result(1, 2)", "holds 'result(1, 2)': write"),
        ("[x for x in params.of]", "holds '[x for x in params.of]'"), ("params.of[0:1]", "holds 'params.of[0:1]'"),
        ("params.on is true", "holds 'params.on is true'"), ("b'x' == 'x'", "holds \"b'x'\""), ("lambda: 1", "holds"),
    ],
)  # fmt: skip
def test_what_is_no_part_of_the_language_is_refused_where_it_is_written(text, told):
    assert (fault_of(text) or "").startswith(told)


def test_what_it_asks_for():
    assert uses("params.year > 3 and (result(1)['x'] or result(-8) == params.mode)") == ({"year", "mode"}, {1, -8})


@given(st.text(alphabet="params.yeonr()[]'\"<>=!0123,l -", max_size=40))
def test_whatever_is_written_is_refused_or_told(text):
    if fault_of(text) is None:
        try:
            holds(text, PARAMS, RESULTS.get)
        except Untellable:
            pass
