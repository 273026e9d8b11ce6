"""orch run: begin, or go on with, a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from orchestrator import app
from orchestrator.beginning import RunOptions, params_for, scope_for
from orchestrator.cli.completing import params, phases
from orchestrator.cli.frame import Command, JsonOption, ProjectOption, root_of, settings_of, show, show_json, tell
from orchestrator.cli.plan import steps_document, steps_lines
from orchestrator.cli.terminal import can_be_drawn_on, live_view
from orchestrator.config import Settings
from orchestrator.core.due import Met
from orchestrator.core.events import Scope
from orchestrator.core.plan import Plan
from orchestrator.core.preview import preview
from orchestrator.core.state import State
from orchestrator.errors import UsageError
from orchestrator.files.ground import Ground
from orchestrator.files.measuring import examine
from orchestrator.holding import Recovered
from orchestrator.look import Look, rules_of
from orchestrator.ports import Watcher
from orchestrator.watch.outlet import Outlet
from orchestrator.watch.plain import JsonLines, PlainLines
from orchestrator.watch.words import summary

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
    root = root_of(project)
    options = RunOptions(
        _scope(first, last, only), new=new, force=force, no_wait=no_wait, fail_fast=fail_fast, takeover=takeover,
        with_needs=with_needs, params=_params(given or []),
    )  # fmt: skip
    settings = settings_of(root, {"jobs": jobs})
    if dry_run:
        _dry(root, settings, options, as_json=as_json)
        return
    raise typer.Exit(perform(root, settings, options, as_json=as_json, quiet=quiet).exit_code)


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """What options of `orch run` say, by the names of the parameters of `command`; UsageError if they are wrong."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command("run", cls=Command, epilog=EXAMPLE)(command)
    return dict(get_command(alone).make_context("orch run", list(words)).params)


def scheduled(given: Mapping[str, Any], *, new: bool, meets: Callable[[State], Met]) -> RunOptions:
    """What a schedule was told of its runs."""
    plain = ("force", "no_wait", "fail_fast", "takeover", "with_needs")
    scope = _scope(given["first"], given["last"], given["only"])
    return RunOptions(
        scope, new=new, meets=meets, params=_params(given["given"] or []), **{name: given[name] for name in plain}
    )


def perform(
    root: Path, settings: Settings, options: RunOptions, *, as_json: bool = False, quiet: bool = False,
    more: Sequence[Watcher] = (),
) -> app.RunResult:  # fmt: skip
    """The run, with what people see of it."""
    outlet = Outlet((sys.stderr if quiet and not as_json else sys.stdout).fileno())  # only failures: words for people

    def said(found: Recovered) -> None:
        swept = (f"ended what was left running: {name}" for name in found.swept)
        hints = [] if quiet else found.hints
        for note in [*found.notes, *swept, *found.of_the_hidden(), *hints]:
            tell(note)

    try:
        with _watcher(outlet, as_json=as_json, quiet=quiet) as watcher:
            told = [watcher, *more]
            ended = app.run(root, settings, options, told, said, lambda: min(outlet.flush(), watcher.tend()))
        _last_words(ended, outlet, as_json=as_json, quiet=quiet)
    finally:
        outlet.close()
    return ended


def _scope(first: int | None, last: int | None, only: str | None) -> Scope:
    if only is None:
        return Scope(first, last)
    if first is not None or last is not None:
        raise UsageError("--only and --from/--to exclude each other", "give one of the two")
    return Scope(only=_numbers(only))


def _watcher(outlet: Outlet, *, as_json: bool, quiet: bool) -> Any:
    """Live on a terminal; lines everywhere else."""
    if as_json:
        return nullcontext(JsonLines(outlet))
    if quiet or not can_be_drawn_on():
        return nullcontext(PlainLines(outlet, quiet=quiet))
    return live_view(outlet)


def _params(given: list[str]) -> dict[str, str]:
    for text in given:
        if "=" not in text:
            raise UsageError(f"--set {text}: it has no value", f"write it like this: --set {text}=2024")
        if not text.partition("=")[0].strip():
            raise UsageError(f"--set {text}: it has no name", f"write it like this: --set year{text.strip()}")
    return {name.strip(): value for name, _, value in (text.partition("=") for text in given)}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--only {text}: these are not numbers", "write them like this: --only 3,5,-1") from None
    if not found:  # an empty variable of a script is not meant to run everything
        raise UsageError("--only: no number is given", "write them like this: --only 3,5,-1")
    return found


def _dry(root: Path, settings: Settings, options: RunOptions, *, as_json: bool) -> None:
    definitions = app.definitions_of(root, settings)
    plan, state = Plan(definitions.specs, rules_of(settings), definitions.digest), Look(root).state
    scope = scope_for(plan, state, options)
    params = params_for(settings.params, state, options)
    materials = {} if options.force else examine(Ground(root), plan.questions(state, scope, new=options.new))
    kept = {} if options.new else state.run.params
    steps = preview(
        plan, state, scope, materials, new=options.new, force=options.force, params={**kept, **params}
    )  # fmt: skip
    if as_json:
        show_json(steps_document(steps))
    else:
        show("\n".join(steps_lines([step for step in steps if step.number in scope])))


def _last_words(ended: app.RunResult, outlet: Outlet, *, as_json: bool, quiet: bool) -> None:
    if ended.began or quiet:
        return
    if as_json:
        outlet.line('{"event":"NothingToDo"}')
        return
    outlet.line(f"nothing to do: {summary(ended.state, ended.plan)} in run {ended.state.run.id}")
    outlet.line("          `orch run --new` does it all again, `orch run --only N --force` one phase")
