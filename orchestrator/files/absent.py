"""Inputs that are not there, and that no phase says that it makes: a slip of the pen would never be seen to change."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from orchestrator.core.spec import Spec
from orchestrator.files.patterns import is_wild


def absent(root: Path, specs: Sequence[Spec]) -> list[str]:
    """A sentence for each phase that has such. A wildcard may stand for nothing, and for anything in its folder."""
    asked = {path for spec in specs for path in spec.inputs if not is_wild(path)}
    gone = {path for path in asked if not os.path.lexists(root / path)}
    if not gone:
        return []
    made = {_said_outright(pattern) for spec in specs for pattern in spec.outputs}
    slips = {path for path in gone if made.isdisjoint(_with_those_above(path))}
    return [_told(spec, [path for path in spec.inputs if path in slips]) for spec in specs if slips & {*spec.inputs}]


def _said_outright(pattern: str) -> str:
    parts = pattern.split("/")
    many = next((place for place, part in enumerate(parts) if is_wild(part)), len(parts))
    return "/".join(parts[:many])


def _with_those_above(path: str) -> set[str]:
    parts = path.split("/")
    return {"/".join(parts[:many]) for many in range(len(parts) + 1)}


def _told(spec: Spec, paths: list[str]) -> str:
    if len(paths) == 1:
        return f"phase {spec.number}: its input {paths[0]} is not there, and no phase says that it makes it"
    more = f"{paths[0]} and {len(paths) - 1} more"
    return f"phase {spec.number}: its inputs {more} are not there, and no phase says that it makes them"
