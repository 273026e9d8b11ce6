"""What `orch run` does: a run, with what people see of it; also for whoever begins one by schedule. No typer here."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from orchestrator import app
from orchestrator.beginning import Recovered, RunOptions, RunResult, params_for, scope_for
from orchestrator.cli.frame import root_of, settings_of, show, show_json, tell
from orchestrator.cli.steps import steps_document, steps_lines
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
from orchestrator.fitting import definitions_of
from orchestrator.look import Look, rules_of
from orchestrator.ports import Watcher
from orchestrator.watch.outlet import Outlet
from orchestrator.watch.plain import JsonLines, PlainLines
from orchestrator.watch.words import summary


def run(
    *, first: int | None, last: int | None, only: str | None, with_needs: bool, new: bool, force: bool,
    given: list[str] | None, jobs: int | None, dry_run: bool, no_wait: bool, fail_fast: bool, takeover: bool,
    quiet: bool, as_json: bool, project: Path | None,
) -> int:  # fmt: skip
    """The exit code."""
    root = root_of(project)
    options = RunOptions(
        _scope(first, last, only), new=new, force=force, no_wait=no_wait, fail_fast=fail_fast, takeover=takeover,
        with_needs=with_needs, params=_params(given or []),
    )  # fmt: skip
    settings = settings_of(root, {"jobs": jobs})
    if dry_run:
        _dry(root, settings, options, as_json=as_json)
        return 0
    return perform(root, settings, options, as_json=as_json, quiet=quiet).exit_code


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
) -> RunResult:  # fmt: skip
    """The run, with what people see of it."""
    outlet = Outlet((sys.stderr if quiet and not as_json else sys.stdout).fileno())  # only failures: words for people

    def said(found: Recovered) -> None:
        swept = (f"ended what was left running: {name}" for name in found.swept)
        hints = [] if quiet else found.hints
        for note in [*found.notes, *swept, *found.of_the_hidden(), *hints]:
            tell(note)

    gc.disable()  # until the loop begins: what is read stays
    try:
        with _watcher(outlet, as_json=as_json, quiet=quiet) as watcher:
            told = [watcher, *more]
            ended = app.run(root, settings, options, told, said, lambda: min(outlet.flush(), watcher.tend()))
        _last_words(ended, outlet, as_json=as_json, quiet=quiet)
    finally:
        gc.enable()
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
    definitions = definitions_of(root, settings)
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


def _last_words(ended: RunResult, outlet: Outlet, *, as_json: bool, quiet: bool) -> None:
    if ended.began or quiet:
        return
    if as_json:
        outlet.line('{"event":"NothingToDo"}')
        return
    outlet.line(f"nothing to do: {summary(ended.state, ended.plan)} in run {ended.state.run.id}")
    outlet.line("          `orch run --new` does it all again, `orch run --only N --force` one phase")
