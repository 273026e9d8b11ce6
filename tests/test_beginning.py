"""What a call of `orch run` was asked for, held against what there is."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.beginning import RunOptions, params_for
from orchestrator.core.events import Scope
from orchestrator.core.state import State
from orchestrator.errors import UsageError
from tests.core.given import NOW, run_started

KNOWN = {
    "year": 2024,
    "share": 0.5,
    "wide": False,
    "title": "all",
    "regions": ["eu"],
    "shares": [0.5],
    "any": list[str](),
}


def params(state: State | None = None, *, new: bool = False, **given: str) -> dict[str, Any]:
    return params_for(KNOWN, state or State(), RunOptions(Scope(), new=new, params=given))


def began(**has: Any) -> State:
    state = State()
    state.apply(run_started(params=has), NOW)
    return state


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("year", "-3", -3), ("share", "2", 2.0), ("wide", "True", True), ("wide", "false", False), ("title", "2025", "2025"),
        ("title", "", ""), ("regions", '["jp", "us"]', ["jp", "us"]), ("regions", "[]", []), ("shares", "[1, 0.5]", [1, 0.5]),
        ("any", '[1, "x", true]', [1, "x", True]),
    ],
)  # fmt: skip
def test_a_value_is_of_the_kind_of_its_default(name: str, text: str, value: object) -> None:
    found = params(**{name: text})[name]
    assert found == value and type(found) is type(KNOWN[name])


@pytest.mark.parametrize(
    ("name", "text", "told", "hint"),
    [
        ("year", "x", "--set year=x: x is not a whole number", "as in --set year=2024"),
        ("year", "2.5", "--set year=2.5: 2.5 is not a whole number", "as in --set year=2024"),
        ("share", "half", "--set share=half: half is not a number", "as in --set share=0.5"),
        ("share", "nan", "--set share=nan: nan is not a number", "as in --set share=0.5"),
        ("regions", "jp", "--set regions=jp: jp is not a list", "as in --set 'regions=[\"eu\"]'"),
        ("regions", "[1]", "--set regions=[1]: 1 is not text", "as in --set 'regions=[\"eu\"]'"),
        (
            "any",
            "[[]]",
            "--set any=[[]]: [] is not true or false or a whole number or a number or text",
            'as in --set \'any=["a", "b"]\'',
        ),
        ("shares", "[NaN]", "--set shares=[NaN]: NaN is not a number", "as in --set 'shares=[0.5]'"),
        ("wide", "1", "--set wide=1: 1 is not true or false", "as in --set wide=false"),
        ("yaer", "1", "--set yaer: there is no parameter yaer", "did you mean year?"),
        (
            "colour",
            "red",
            "--set colour: there is no parameter colour",
            'write colour = "red" under [params] in orch.toml',
        ),
    ],
)
def test_what_is_none_is_refused(name: str, text: str, told: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        params(**{name: text})
    assert (refused.value.message, refused.value.remedy) == (told, hint)


def test_a_run_that_goes_on_keeps_its_own() -> None:
    state = began(year=2025)
    assert params(state, year="2025") == {"year": 2025} and params(state, title="all") == {"title": "all"}
    with pytest.raises(UsageError, match="run r1 has year = 2025, and keeps it"):
        params(state, year="2024")
    assert params(state, new=True, year="2024") == {"year": 2024}
