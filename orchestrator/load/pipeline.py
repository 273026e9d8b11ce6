"""All phases together: numbers, needs, circles; what a single phase cannot know of itself."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from itertools import islice

from orchestrator.core.condition import uses
from orchestrator.core.graph import circle
from orchestrator.core.names import nearest
from orchestrator.core.plan import is_of_run
from orchestrator.core.spec import Spec
from orchestrator.load.checks import Checked
from orchestrator.load.definitions import Report, shown
from orchestrator.load.overlap import clashes

_CIRCLES = 10  # named at most; mending these will show the others
_CLASHES = 10


def assemble(phases: list[Checked], unread: Collection[int], report: Report) -> tuple[Spec, ...]:
    """Specs by number with their needs filled in. `unread`: numbers that files seem to define which cannot be read."""
    by_number: dict[int, Checked] = {}
    for phase in phases:
        first = by_number.setdefault(phase.spec.number, phase)
        if first is not phase:
            here, there = _place(phase), _place(first)
            said = f"phase {phase.spec.number} is defined twice: {there} and {here}"
            report(phase.written, "number", said, "give one of them another number")
    ordered = [by_number[number] for number in sorted(by_number)]
    numbers = [phase.spec.number for phase in ordered]
    known = {*numbers, *unread}
    specs: dict[int, Spec] = {}
    for before, phase in zip([None, *numbers], ordered, strict=False):
        needs = _needs_of(phase, before, known, numbers, report)
        specs[phase.spec.number] = phase.spec.replace(needs=needs) if needs != phase.spec.needs else phase.spec
        if phase.spec.when:
            _check_condition(phase, needs, report)
        if phase.spec.foreach:
            _check_list(phase, report)
    if not _name_circles(specs, by_number, report):
        _name_clashes(specs, by_number, report)
    return tuple(specs.values())


def _place(phase: Checked) -> str:
    return f"{phase.written.file}:{phase.written.line}"


def _needs_of(
    phase: Checked, before: int | None, known: Collection[int], numbers: list[int], report: Report
) -> tuple[int, ...]:
    if phase.needs_left_out:
        return () if before is None else (before,)
    own = phase.spec.number
    for need in phase.spec.needs:
        if need == own:
            report(phase.written, "needs", f"phase {own} needs itself", "take it out of its needs")
        elif need not in known:
            said = f"phase {own} needs phase {need}, which does not exist"
            report(phase.written, "needs", said, _nearest(need, [each for each in numbers if each != own]))
    source = phase.spec.foreach.result if phase.spec.foreach else None
    if source is not None and source not in phase.spec.needs:
        said = f"phase {own} fans out over the result of phase {source}, which it does not need"
        report(phase.written, "foreach", said, f"add {source} to its needs")
    return tuple(need for need in phase.spec.needs if need != own)


def _nearest(need: int, numbers: list[int]) -> str:
    at = bisect_left(numbers, need)
    around = [str(number) for number in numbers[max(0, at - 1) : at + 1]]
    if not around:
        return "it is the only one"
    return f"the nearest {'is' if len(around) == 1 else 'are'} {' and '.join(around)}"


def _check_condition(phase: Checked, needs: Collection[int], report: Report) -> None:
    """A condition asks for nothing that the phase does not have."""
    own, (names, numbers) = phase.spec, uses(phase.spec.when)
    for name in sorted(names - own.params.keys()):
        said = f"phase {own.number}: when: it has no parameter {name}"
        report(phase.written, "when", said, f"params = {{ {name} = ... }}")
    for number in sorted(numbers - set(needs)):
        said = f"phase {own.number}: when: it does not need phase {number}, so nobody knows its result by then"
        report(phase.written, "when", said, f"add {number} to its needs")


def _check_list(phase: Checked, report: Report) -> None:
    """A parameter that it fans out over is one of its own, and may be a list."""
    own, foreach = phase.spec, phase.spec.foreach
    assert foreach is not None
    name = foreach.param
    if not name:
        path = foreach.files.removeprefix("params.")
        if path != foreach.files and path in own.params:
            said = f"phase {own.number}: foreach: {foreach.files} is the name of a file"
            report(phase.written, "foreach", said, f"the parameter is written 'params[\"{path}\"]'")
        return
    if name not in own.params:
        right = nearest(name, list(own.params))
        hint = f"did you mean {right}?" if right else f'params = {{ {name} = ["a", "b"] }}, or {name} = "${name}"'
        report(phase.written, "foreach", f"phase {own.number}: foreach: it has no parameter {name}", hint)
    elif not (isinstance(value := own.params[name], list | tuple) or (isinstance(value, str) and is_of_run(value))):
        said = f"phase {own.number}: foreach: its parameter {name} is no list: it is {shown(value)}"
        report(phase.written, "foreach", said, f'{name} = ["a", "b"]')


def _name_clashes(specs: dict[int, Spec], by_number: dict[int, Checked], report: Report) -> None:
    for one, other, pattern, pattern2 in islice(clashes(specs), _CLASHES):
        same = f"both write {pattern}" if pattern == pattern2 else f"{one} writes {pattern}, {other} writes {pattern2}"
        said = f"phases {one} and {other} may run at the same time, and their outputs overlap: {same}"
        report(
            by_number[other].written, "outputs", said, f"let {other} need {one}, or let them write to different places"
        )


def _name_circles(specs: dict[int, Spec], by_number: dict[int, Checked], report: Report) -> bool:
    needs = {number: spec.needs for number, spec in specs.items()}
    has_one = False
    for _ in range(_CIRCLES):
        found = circle(needs)
        if found is None:
            return has_one
        has_one = True
        shown = " needs ".join(map(str, [*found, found[0]]))
        said = f"phases wait for each other in a circle: {shown}"
        report(by_number[found[0]].written, "needs", said, "take one of these needs out")
        needs[found[0]] = tuple(need for need in needs[found[0]] if need != found[1 % len(found)])
    return has_one
