from __future__ import annotations

import pytest

from orchestrator.core import cachekey
from orchestrator.core.cachekey import (
    NO_FILES,
    Difference,
    Made,
    Material,
    compared,
    difference,
    digest,
    first_difference,
    ingredients,
    key_of,
)
from orchestrator.core.spec import Limits, RetryRule, Spec

FUNCTION = Spec(3, "index", "phases/p03.py", 4, digest="d1", env={"A": "1", "B": "2"}, cache=True)
COMMAND = Spec(3, "index", "phases/a.toml", 4, digest="d1", run="make all", cache=True)
FILES = FUNCTION.replace(inputs=("data",), outputs=("out",), needs=(1, 2))
SEEN = Material("in1", "out1")
CAME = {1: "y1", 2: "y2"}


def made_of(spec: Spec, params=None, material=NO_FILES, came=CAME):
    return ingredients(spec, params or {}, material, lambda need: came.get(need, ""))


def key(spec: Spec) -> str:
    return key_of(spec.number, made_of(spec))


def test_a_key_names_its_recipe_and_stays_what_it_was_in_earlier_releases():
    assert key(FUNCTION) == "2:b9bd8b73d9986c8ee15d31156434c6e1"
    assert key(COMMAND) == "2:4df780374387b36ef3e55f7c0ca3567f"


@pytest.mark.parametrize(
    "same",
    [
        {"name": "x"}, {"title": "x"}, {"file": "x"}, {"line": 9}, {"timeout": 9.0}, {"heartbeat_timeout": 9.0},
        {"retries": 9}, {"retry": {"TIMEOUT": RetryRule(2)}}, {"limits": Limits(10**9)}, {"isolation": "spawn"},
        {"env": {"B": "2", "A": "1"}}, {"pools": {"gpu": 1}}, {"outputs": ("x",)}, {"when": "true"}, {"needs": (7,)},
    ],
)  # fmt: skip
def test_how_it_is_treated_does_not_count(same):
    assert key(FUNCTION.replace(**same)) == key(FUNCTION)


@pytest.mark.parametrize(
    "other",
    [
        {"number": 4}, {"digest": "d2"}, {"env": {"A": "1"}}, {"cwd": "data"}, {"run": "x"}, {"needs": (1,)},
        {"inputs": ("data",)},
    ],
)  # fmt: skip
def test_what_it_does_counts(other):
    assert key(FUNCTION.replace(**other)) != key(FUNCTION)


def test_a_command_is_its_own_code():
    assert key(COMMAND.replace(digest="d2")) == key(COMMAND)
    assert key(COMMAND.replace(run="make")) != key(COMMAND)
    assert key(COMMAND.replace(run=("make all",))) != key(COMMAND)


def record(spec: Spec = FILES, **how) -> Made:
    found = made_of(spec, material=SEEN, **how)
    return Made(key_of(3, found), compared(spec, found), SEEN.outputs, "yields")


def first(spec: Spec = FILES, made: Made | None = None, material: Material = SEEN, **how) -> str:
    now = compared(spec, made_of(spec, material=material, **how))
    return str(difference(spec, made or record(), now, material))


def test_what_is_as_it_was_has_no_difference():
    assert first() == "None"


def test_the_first_difference_is_named_with_old_and_new():
    one, two = digest("1"), digest("x")
    assert first(FILES.replace(env={"A": "x", "B": "y"})) == f"env: A changed ({one[:8]} → {two[:8]})"
    assert first(FILES.replace(env={"A": "1"})) == "env: B is gone"
    assert first(FILES.replace(cwd="data")) == "cwd changed (. → data)"
    assert first(FILES.replace(digest="d2")).startswith("code: phases/p03.py, or what it imports, changed (")
    assert first(params={"year": 2024}) == "params: year is new"
    with_year = record(params={"year": 2023})
    assert first(made=with_year, params={"year": 2024}) == "params: year changed (2023 → 2024)"
    assert first(came={**CAME, 2: "z"}) == "needs: what came out of phase 2 changed (y2 → z)"
    assert first(FILES.replace(needs=(1,))) == "needs: what came out of phase 2 is gone"
    assert first(COMMAND, record(COMMAND)) == "None"
    assert first(COMMAND.replace(run="x"), record(COMMAND)).startswith("run: its command changed (")


def test_files_are_named_by_who_looked_at_them():
    told = Difference("inputs: data/a.csv", "changed", "a" * 32, "b" * 32)
    assert first(material=SEEN.replace(inputs="in2", of_inputs=told)) == (
        "inputs: data/a.csv changed (aaaaaaaa → bbbbbbbb)"
    )
    assert first(material=SEEN.replace(outputs="", of_outputs=Difference("outputs: out", "is gone"))) == (
        "outputs: out is gone"
    )
    assert first(material=SEEN.replace(inputs="in2")) == "inputs changed (in1 → in2)"
    assert first(material=SEEN.replace(outputs="out2")) == "outputs changed (out1 → out2)"


def test_what_could_not_be_read_is_equal_to_nothing():
    unread = SEEN.replace(inputs="")
    found = compared(FILES, made_of(FILES, material=unread))
    assert difference(FILES, Made("2:x", found, SEEN.outputs, "y"), found, unread) == (
        Difference("inputs", "cannot be read")
    )
    assert first(made=record().replace(files=""), material=SEEN.replace(outputs="")) == "outputs changed"


def test_who_said_nothing_is_compared_by_what_it_needs_and_who_said_no_by_nothing():
    plain = FILES.replace(cache=None)
    assert compared(plain, made_of(plain)) == {"needs.1": "y1", "needs.2": "y2"}
    assert first(plain, record(plain), came={**CAME, 1: "z"}) == "needs: what came out of phase 1 changed (y1 → z)"
    assert first(plain.replace(digest="d2"), record(plain), SEEN.replace(outputs="o")) == "None"
    never = FILES.replace(cache=False)
    assert compared(never, made_of(never)) == {}


def test_a_phase_that_is_compared_since_just_now_says_so():
    assert first(FILES, record(FILES.replace(cache=None))) == (
        "what it was made of was not recorded: its definition said less then"
    )


def test_a_record_is_judged_by_the_recipe_that_it_was_made_by(monkeypatch):
    """An upgrade re-runs nothing: a newer recipe that looks at more finds nothing missing in an older record."""
    old = record()
    monkeypatch.setattr(cachekey, "RECIPE", 3)
    monkeypatch.setitem(cachekey.FAMILIES, 3, cachekey.FAMILIES[2] | {"limits"})
    now = {**compared(FILES, made_of(FILES, material=SEEN)), "limits": "x"}
    assert old.recipe == 2 and difference(FILES, old, now, SEEN) is None
    assert str(difference(FILES, old, {**now, "cwd": "x"}, SEEN)) == "cwd changed (. → x)"


def test_what_an_older_orch_has_run_is_compared_with_nothing():
    assert made_of(FILES, came={1: "y1"}).keys() & {"needs.1", "needs.2"} == {"needs.1"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ({"a": "1", "b": "2"}, {"a": "1", "b": "3"}, "inputs: b changed (2 → 3)"),
        ({"a": "1"}, {"a": "1", "b": "3"}, "inputs: b is new"),
        ({"a": "1", "b": "2"}, {"b": "3"}, "inputs: a is gone"),
        (None, {"b": "3"}, "inputs changed, which of them is not known any more (x → y)"),
    ],
)
def test_of_two_lists_the_first_file_is_named(old, new, told):
    assert str(first_difference("inputs", old, new, ("x", "y"))) == told
