"""`orch`: the list of commands, and the way in."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator import __version__
from orchestrator.cli import cancel, config, init, logs, plan, recover, retry, run, status
from orchestrator.cli.frame import Command, guarded, show

app = typer.Typer(
    name="orch",
    help="Runs numbered phases in the order their needs allow, under deadlines that really kill.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, module in (
    ("run", run), ("status", status), ("recover", recover), ("plan", plan), ("logs", logs),
    ("cancel", cancel), ("retry", retry), ("init", init),
):  # fmt: skip
    app.command(name, cls=Command, epilog=module.EXAMPLE)(module.command)
app.add_typer(config.app, name="config")


def _version(asked: bool) -> None:
    if asked:
        show(f"orch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Runs numbered phases in the order their needs allow, under deadlines that really kill."""


def main() -> None:
    codes: list[int] = []
    code = guarded(lambda: codes.append(int(app(prog_name="orch") or 0)))
    sys.exit(code or (codes[0] if codes else 0))
