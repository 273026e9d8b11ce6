"""`orch`: the list of commands, and the way in."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated

import typer

from orchestrator import __version__
from orchestrator.cli.frame import Command, guarded, show

# In the order of the help. Each is a file of this folder; only that of the command in use is loaded.
COMMANDS = ("run", "status", "recover", "plan", "logs", "story", "cancel", "retry", "init")
GROUPS = ("config",)
ABOUT = "Runs numbered phases in the order their needs allow, under deadlines that really kill."


def application(words: list[str]) -> typer.Typer:
    """With the one command that `words` names, or with all where they name none (help, completion, a mistake)."""
    app = typer.Typer(
        name="orch", help=ABOUT, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(_root)
    named = next((word for word in words if not word.startswith("-")), "")
    for name in (named,) if named in (*COMMANDS, *GROUPS) else (*COMMANDS, *GROUPS):
        module = import_module(f"orchestrator.cli.{name}")
        if name in GROUPS:
            app.add_typer(module.app, name=name)
        else:
            app.command(name, cls=Command, epilog=module.EXAMPLE)(module.command)
    return app


def _version(asked: bool) -> None:
    if asked:
        show(f"orch {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Runs numbered phases in the order their needs allow, under deadlines that really kill."""


def main() -> None:
    codes: list[int] = []
    code = guarded(lambda: codes.append(int(application(sys.argv[1:])(prog_name="orch") or 0)))
    sys.exit(code or (codes[0] if codes else 0))
