"""The way in: what is typed often goes the short way, everything else through typer."""

from __future__ import annotations

import sys
from importlib import import_module

from orchestrator.cli import quick
from orchestrator.cli.frame import guarded
from orchestrator.cli.standing import open_what_was_closed, say_what_can_be_said
from orchestrator.supervisor import SUPERVISOR


def main() -> None:
    open_what_was_closed()
    say_what_can_be_said()
    code = guarded(lambda: called(sys.argv[1:]))
    SUPERVISOR.leaving()
    sys.exit(code)


def called(words: list[str]) -> int:
    """The exit code of the command that these words are."""
    call = quick.call_of(words)
    if call is not None:
        return call()
    return int(import_module("orchestrator.cli.commands").called(words))
