"""orch run: begin, or go on with, a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command

from orchestrator.cli.completing import params, phases
from orchestrator.cli.options import Command, JsonOption, ProjectOption, wrong_usage
from orchestrator.cli.running import run

EXAMPLE = "Example: orch run --from -8 --to 15 --jobs 4"


def command(
    first: Annotated[
        int | None, typer.Option("--from", metavar="N", help="Begin with this number.", autocompletion=phases)
    ] = None,
    last: Annotated[
        int | None, typer.Option("--to", metavar="N", help="End with this number.", autocompletion=phases)
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", metavar="N,...", help="Only these numbers.", autocompletion=phases)
    ] = None,
    with_needs: Annotated[
        bool, typer.Option("--with-needs", help="Also run what these need, and is not done.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin a new run: what is done is done again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run what is in the range whatever its state.")] = False,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the new run.", autocompletion=params),
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", metavar="N", help="How many at the same time.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Leave with 3 where nothing is left but to wait.")] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast/--keep-going", help="End all at the first phase that fails for good.")
    ] = False,
    takeover: Annotated[bool, typer.Option("--takeover", help="End a run that somebody stopped (state T).")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but failures, on standard error.")] = False,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Run the phases in the order their needs allow; continues where the last call ended."""
    code = run(
        first=first, last=last, only=only, with_needs=with_needs, new=new, force=force, given=given, jobs=jobs,
        dry_run=dry_run, no_wait=no_wait, fail_fast=fail_fast, takeover=takeover, quiet=quiet, as_json=as_json,
        project=project,
    )  # fmt: skip
    raise typer.Exit(code)


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """What options of `orch run` say, by the names of the parameters of `command`; UsageError if they are wrong."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command("run", cls=Command, epilog=EXAMPLE)(command)
    try:
        return dict(get_command(alone).make_context("orch run", list(words)).params)
    except TyperException as error:
        raise wrong_usage(error) from error
