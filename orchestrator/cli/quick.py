"""The short way to the commands that are started often: without typer, which costs more than all that they do.

Only what cannot be misread is read here. Everything else (help, mistakes, abbreviations, completion) is left to typer,
which also says what is wrong. A test holds the two against each other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.cli.frame import COMPLETING, show_version


class Option(NamedTuple):
    """Which parameter it is, and what of its value makes it; None: it takes no value, and is `value`."""

    parameter: str
    made: Callable[[str], Any] | None = None
    value: bool = True


class Quick(NamedTuple):
    """A command: where its call is, its options, and what it takes besides."""

    module: str
    function: str
    options: dict[str, Option]
    takes: tuple[str, ...] = ()


_PROJECT = {"--project": Option("project", Path)}
_QUICK: dict[str, Quick] = {
    "status": Quick("showing", "status", {
        "--all": Option("everything"), "--watch": Option("watched"), "-w": Option("watched"),
        "--json": Option("as_json"), **_PROJECT,
    }),
    "run": Quick("running", "run", {
        "--from": Option("first", int), "--to": Option("last", int), "--only": Option("only", str),
        "--with-needs": Option("with_needs"), "--new": Option("new"), "--force": Option("force"),
        "--set": Option("given", list), "--jobs": Option("jobs", int), "-j": Option("jobs", int),
        "--dry-run": Option("dry_run"), "--no-wait": Option("no_wait"), "--fail-fast": Option("fail_fast"),
        "--keep-going": Option("fail_fast", value=False), "--takeover": Option("takeover"),
        "--quiet": Option("quiet"), "-q": Option("quiet"), "--json": Option("as_json"), **_PROJECT,
    }),
    "cron fire": Quick("firing", "fire", _PROJECT, ("name",)),
}  # fmt: skip
_WHOLE = re.compile("0|-?[1-9][0-9]{0,8}")


def call_of(words: Sequence[str]) -> Callable[[], int] | None:
    """What these words ask for; None where typer is to say."""
    if COMPLETING in os.environ:
        return None
    if [*words] == ["--version"]:
        return _version
    many = 2 if words[:1] == ["cron"] else 1
    name = " ".join(words[:many])
    params = read(name, words[many:])
    if params is None:
        return None
    command = _QUICK[name]
    return partial(getattr(import_module(f"orchestrator.cli.{command.module}"), command.function), **params)


def _version() -> int:
    show_version()
    return 0


def options_of_run(words: Sequence[str]) -> dict[str, Any]:
    """What they say, by the names of the parameters; UsageError if they are wrong."""
    params = read("run", words)
    return dict(import_module("orchestrator.cli.run").parsed(words)) if params is None else params


def read(name: str, words: Sequence[str]) -> dict[str, Any] | None:
    """The parameters of that command; None if it is none of these, or the words are not plain."""
    if name not in _QUICK:
        return None
    _, _, options, takes = _QUICK[name]
    found: dict[str, Any] = {one.parameter: False if one.made is None else None for one in options.values()}
    missing, left = list(takes), iter(words)
    for word in left:
        option, has_value, value = word.partition("=")
        if not word.startswith("-"):
            if not missing or not _is_plain(word):
                return None
            found[missing.pop(0)] = word
            continue
        if option not in options or (has_value and not option.startswith("--")):
            return None
        parameter, made, switched = options[option]
        if made is None:
            if has_value:
                return None
            found[parameter] = switched
            continue
        value = value if has_value else next(left, "")
        if not (_WHOLE.fullmatch(value) if made is int else _is_plain(value)):
            return None
        found[parameter] = [*(found[parameter] or ()), value] if made is list else made(value)
    return None if missing else found


def _is_plain(word: str) -> bool:
    return word.isprintable() and bool(word) and not word.startswith("-")
