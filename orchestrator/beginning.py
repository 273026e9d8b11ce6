"""What a call of `orch run` was asked for, held against what there is: range, parameters, what is left to do."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from orchestrator.core.cachekey import Material
from orchestrator.core.due import Met
from orchestrator.core.events import Event, Scope
from orchestrator.core.graph import closure
from orchestrator.core.names import nearest, span
from orchestrator.core.plan import KEEP, Plan
from orchestrator.core.preview import preview
from orchestrator.core.state import State
from orchestrator.errors import RunActive, UsageError


class RunOptions:
    """What `orch run` was asked for."""

    def __init__(
        self, scope: Scope, *, new: bool = False, force: bool = False, no_wait: bool = False, takeover: bool = False,
        with_needs: bool = False, fail_fast: bool = False, params: Mapping[str, str] | None = None,
        meets: Callable[[State], Met] | None = None,
    ) -> None:  # fmt: skip
        self.scope, self.new, self.force, self.no_wait = scope, new, force, no_wait
        self.takeover, self.with_needs, self.fail_fast = takeover, with_needs, fail_fast
        self.meets = meets  # of a schedule: which instant it is for, asked when nobody else can settle it
        self.params = dict(params or {})  # as they were typed


class Recovered:
    """What was found before a run began, for people and for --json."""

    def __init__(self, notes: list[str], hints: list[str] | None = None) -> None:
        self.notes = notes  # what had to be done or said
        self.hints = hints or []  # what is not wrong, but may not be what was meant
        self.events: tuple[Event, ...] = ()
        self.swept: list[str] = []
        self.left: list[int] = []  # phases whose attempts go on with their agent
        self.untold: dict[int, float] = {}  # where that cannot be told: seconds until it counts as lost

    def of_the_hidden(self) -> list[str]:
        return [
            f"phase {number}: whether its agent is alive cannot be told from here; it is left alone until "
            f"{span(after)} after its start, then it counts as lost"
            for number, after in self.untold.items()
        ]


class RunResult(NamedTuple):
    exit_code: int
    began: bool  # False: there was nothing to do
    state: State
    plan: Plan


def scope_for(plan: Plan, state: State, options: RunOptions) -> Scope:
    """The range as it will be run; UsageError if it cannot be."""
    unknown = [number for number in options.scope.only if number not in plan.specs]
    if unknown:
        numbers = sorted(plan.specs)
        near = min(numbers, key=lambda known: abs(known - unknown[0])) if numbers else None
        raise UsageError(f"there is no phase {unknown[0]}", f"the nearest is {near}; `orch plan` lists them all")
    if not any(number in options.scope for number in plan.specs):
        raise UsageError(f"no phase is in the range ({options.scope})", "`orch plan` lists them all")
    if options.new and state.live:
        busy = ", ".join(str(state.attempt_id(number)) for number in sorted(state.live))
        raise RunActive(
            f"run {state.run.id} still has work in hand ({busy})", "`orch cancel` ends it; then `orch run --new`"
        )
    return _closed(plan, state, options)


def _closed(plan: Plan, state: State, options: RunOptions) -> Scope:
    fresh = State() if options.new else state
    missing = plan.unmet_outside(options.scope, fresh)
    if not missing:
        return options.scope
    if options.with_needs:
        wanted = [number for number in plan.specs if number in options.scope]
        needed = {need for need in closure(plan.needs, wanted) if not fresh.phase(need).is_done}
        return Scope(only=tuple(sorted({*wanted, *needed})))
    listed = ", ".join(f"{need} (needed by {', '.join(map(str, by[:3]))})" for need, by in sorted(missing.items())[:10])
    first = min(missing)
    raise UsageError(
        f"what is needed from outside the range is not done: {listed}",
        f"--with-needs runs it too, or widen the range: --from {first}",
    )


def nothing_to_do(
    plan: Plan, state: State, scope: Scope, options: RunOptions, materials: Mapping[int, Material]
) -> bool:
    """Everything in the range is done, and none of it has changed."""
    if options.new or options.force or not state.run.id:
        return False
    asked = [number for number in plan.specs if number in scope]
    if not all(state.phase(number).is_done for number in asked):
        return False
    run = state.run  # what was skipped, or approved, after it had ended: it has come to another end
    if run.verdict != "completed" and all(state.phase(n).is_done for n in plan.specs if n in run.scope):
        return False
    if not any(plan.is_judged(number, state.phase(number)) for number in asked):
        return True
    return all(step.what == KEEP for step in preview(plan, state, scope, materials) if step.number in scope)


def params_for(known: Mapping[str, Any], state: State, options: RunOptions) -> dict[str, Any]:
    """What `--set` gives, as what the settings say it is; UsageError if it cannot be."""
    given = {name: _typed(name, text, known) for name, text in options.params.items()}
    if options.new or not state.run.id:
        return given
    has = {**known, **state.run.params}
    for name, value in given.items():
        if value != has[name]:
            raise UsageError(
                f"run {state.run.id} has {name} = {json.dumps(has[name])}, and keeps it",
                f"`orch run --new --set {shlex.quote(f'{name}={options.params[name]}')}` begins another",
            )
    return given


def _typed(name: str, text: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        right = nearest(name, list(known))
        hint = f"did you mean {right}?" if right else f"write {name} = {json.dumps(text)} under [params] in orch.toml"
        raise UsageError(f"--set {name}: there is no parameter {name}", hint)
    kind = type(known[name])
    if kind is list:
        return _listed(name, text, known[name])
    try:
        value = _WORDS[text.lower()] if kind is bool else kind(text)
        if value != value or value in (math.inf, -math.inf):
            raise ValueError(text)
        return value
    except (ValueError, KeyError):
        raise UsageError(
            f"--set {name}={text}: {text} is not {_KINDS[kind]}", f"as in --set {name}={json.dumps(known[name])}"
        ) from None


def _listed(name: str, text: str, default: list[Any]) -> list[Any]:
    """A list is written as JSON; what is in it is of the kinds that the settings have in it, if they have any."""
    example = json.dumps(default or ["a", "b"])
    kinds = {type(each) for each in default} or {str, int, float, bool}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise UsageError(f"--set {name}={text}: {text} is not a list", f"as in --set '{name}={example}'")
    for each in found:
        fits = type(each) in kinds or (type(each) is int and float in kinds)
        if not fits or (isinstance(each, int | float) and not abs(each) < LARGEST):
            may = " or ".join(_KINDS[kind] for kind in _KINDS if kind in kinds)
            raise UsageError(f"--set {name}={text}: {json.dumps(each)} is not {may}", f"as in --set '{name}={example}'")
    return found


LARGEST = 2**63
_WORDS = {"true": True, "false": False}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
