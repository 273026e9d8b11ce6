"""orch plan: what a run would do with each phase, and why. Writes nothing but caches."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.frame import root_of, settings_of, show, show_json, tell
from orchestrator.cli.options import JsonOption, ProjectOption
from orchestrator.cli.steps import steps_document, steps_lines
from orchestrator.core import graph
from orchestrator.core.drawing import KINDS, nodes_of
from orchestrator.core.events import Scope
from orchestrator.core.plan import Plan
from orchestrator.core.preview import preview
from orchestrator.errors import UsageError
from orchestrator.files.absent import absent
from orchestrator.files.ground import Ground
from orchestrator.files.measuring import examine
from orchestrator.fitting import definitions_of
from orchestrator.look import Look, rules_of

EXAMPLE = "Example: orch plan --graph svg > plan.svg"


def command(
    graph_kind: Annotated[
        str | None, typer.Option("--graph", metavar="KIND", help="Draw it instead: text, mermaid, dot or svg.")
    ] = None,
    as_json: JsonOption = False,
    project: ProjectOption = None,
) -> None:
    """Say for every phase whether a run would run it, keep it, or cannot, and why.

    Of a new run, or one with other parameters: `orch run --new --set NAME=VALUE --dry-run`.
    """
    if graph_kind is not None and graph_kind not in KINDS:
        raise UsageError(f"--graph {graph_kind}: no such kind", f"there are {', '.join(KINDS)}")
    root = root_of(project)
    settings = settings_of(root)
    definitions = definitions_of(root, settings)
    plan = Plan(definitions.specs, rules_of(settings), definitions.digest)
    look = Look(root)
    for notice in (*look.notices, *definitions.broken.values(), *absent(root, definitions.specs)):
        tell(notice)
    if graph_kind is not None:
        show(_drawn(plan, look, graph_kind))
        return
    steps = preview(plan, look.state, Scope(), examine(Ground(root), plan.questions(look.state, Scope())))
    longest = graph.longest_path(plan.needs, dict.fromkeys(plan.needs, 1.0))
    if as_json:
        show_json({"phases": steps_document(steps, plan), "longest_path": longest, "digest": plan.digest})
        return
    show("\n".join(steps_lines(steps, plan)))
    many = "1 phase" if len(steps) == 1 else f"{len(steps)} phases"
    show(f"{many}; the longest path has {len(longest)}: {_path(longest)}")


def _drawn(plan: Plan, look: Look, kind: str) -> str:
    names = {number: spec.name for number, spec in plan.specs.items()}
    statuses = {number: look.state.phase(number).status for number in plan.specs}
    return KINDS[kind](nodes_of(plan.needs, names, statuses))


def _path(numbers: list[int]) -> str:
    shown = [str(number) for number in numbers]
    return " → ".join(shown if len(shown) <= 12 else [*shown[:5], "…", *shown[-5:]])
