"""The short way against typer: it declines, or yields exactly what typer does; and what it starts loads nothing heavy."""

from __future__ import annotations

from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from typer.main import get_command

from orchestrator.cli import cron, run, status
from orchestrator.cli.commands import application
from orchestrator.cli.quick import _QUICK, call_of, read
from tests.driving import Project

VALUES = (
    "", "0", "1", "-1", "-8", "007", "+3", "1_000", " 4 ", "4.0", "1e3", "0x10", "three", "3,5,-1", "-1,3", "a=b", "a=b=c",
    "=", "--", "-", "-q", "--json", "--js", "x y", "ü", "٣", "\t", "\udcff", "~", "~/x", ".", "../x", "-0", "99999999999999999999",
)  # fmt: skip
OTHERS = (
    "",
    "-",
    "--",
    "--help",
    "-h",
    "--js",
    "--no-json",
    "-qj",
    "-j4",
    "-j=4",
    "-qw",
    "more",
    "-8",
    "--nothing",
    "--version",
)


CALLED = {"status": (status, "status"), "run": (run, "run"), "cron fire": (cron, "fire_what_is_due")}


@cache
def typed(name: str) -> Any:
    """The command as typer knows it."""
    found: Any = get_command(application())
    for word in name.split():
        found = found.get_command(None, word)
    return found


def of_typer(name: str, words: list[str]) -> dict[str, Any] | None:
    """What the call is given in the end; None where typer refuses, or would do something else."""
    given = list[dict[str, Any]]()
    module, called = CALLED[name]
    with patch.object(module, called, lambda **params: given.append(params) or 0), redirect_stdout(StringIO()):
        try:
            typed(name).main(list(words), prog_name=f"orch {name}", standalone_mode=False)
        except Exception:
            return None
    return given[0] if given else None


def with_kinds(params: dict[str, Any] | None) -> Any:
    return params and {name: (type(value), value) for name, value in params.items()}


def words_for(name: str) -> some.SearchStrategy[list[str]]:
    """Options of the command as typer lists them, in every way of writing, among words that make no sense."""
    known = [option for param in typed(name).params for option in (*param.opts, *param.secondary_opts)]
    options, values = some.sampled_from(sorted({*known, *_QUICK[name].options})), some.sampled_from(VALUES)
    piece = (
        options.map(lambda option: [option])
        | some.tuples(options, values).map(list)
        | some.tuples(options, values).map(lambda both: ["=".join(both)])
        | some.sampled_from(OTHERS).map(lambda word: [word])
        | values.map(lambda word: [word])
    )
    plain = some.tuples(options, some.sampled_from(("3", "-2", "a=b", "x"))).map(list) | options.map(lambda one: [one])
    return (some.lists(piece, max_size=4) | some.lists(plain, max_size=6)).map(
        lambda pieces: [word for piece in pieces for word in piece]
    )


@pytest.mark.parametrize("name", _QUICK)
@given(data=some.data())
@settings(max_examples=100, deadline=None, derandomize=True)
def test_it_says_what_typer_says_or_nothing(name: str, data: Any) -> None:
    words = data.draw(words_for(name))
    found = read(name, words)
    assert found is None or with_kinds(found) == with_kinds(of_typer(name, words))


@pytest.mark.parametrize("name", _QUICK)
def test_every_option_that_typer_knows_by_its_full_name_goes_the_short_way(name: str) -> None:
    """And the table has no others: one that typer does not know yields what typer does not."""
    for param in typed(name).params:
        takes = param.param_type_name == "option" and not param.is_flag
        for option in (*param.opts, *param.secondary_opts) if param.param_type_name == "option" else ():
            if option == "--help":
                continue
            words = [option, *(["-3" if param.metavar == "N" else "a=b"] if takes else []), *_QUICK[name].takes]
            assert with_kinds(read(name, words)) == with_kinds(of_typer(name, words)) is not None, words
    known = {option for param in typed(name).params for option in (*param.opts, *param.secondary_opts)}
    assert _QUICK[name].options.keys() <= known


@pytest.mark.parametrize(
    "words",
    [
        "", "--help", "status --help", "stat", "status x", "status --js", "run -qj 4", "run -j4", "run --jobs", "run --jobs x",
        "cron", "cron fire", "cron fire a b", "cron list", "--version status", "run -- --new", "run --only -1,3", "plan",
    ],
)  # fmt: skip
def test_what_can_be_misread_is_left_to_typer(words: str) -> None:
    assert call_of(words.split()) is None


def test_completion_is_left_to_typer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert call_of(["status"]) is not None
    monkeypatch.setenv("_ORCH_COMPLETE", "complete_bash")
    assert call_of(["status"]) is None


SHOWN = (
    "status", "status --json", "status --watch --json", "status --project /nowhere", "run --quiet", "run -j 0", "run --only x",
    "run --only 1 --from 2", "run --dry-run", "run --set nothing", "cron fire night", "--version",
)  # fmt: skip


def test_both_ways_show_the_same_and_end_the_same(project: Project) -> None:
    """Everything is done already, so that nothing but the way there can differ."""
    project.commands({"number": 1, "name": "one", "run": "true"})
    assert project.orch("run").code == 0
    for words in map(str.split, SHOWN):
        assert call_of(words) is not None
        assert project.orch(*words) == project.orch(*words, env={"_ORCH_COMPLETE": ""}), words
