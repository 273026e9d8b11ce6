"""The definitions of a project, held against its settings: what phases take, against what the settings have."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator import secret
from orchestrator.config import Settings
from orchestrator.core.names import nearest
from orchestrator.core.plan import taken_from_run
from orchestrator.core.pools import misfit
from orchestrator.core.spec import Spec
from orchestrator.errors import DefinitionsError
from orchestrator.load.definitions import Definitions, Fault
from orchestrator.load.loading import load
from orchestrator.look import cache_of


def definitions_of(root: Path, settings: Settings) -> Definitions:
    """Read, or from the cache; DefinitionsError lists every fault."""
    environ = secret.without_sources(settings.secrets, os.environ)
    found = load(root, load_timeout=settings.load_timeout, trust=settings.trust, cache=cache_of(root), environ=environ)
    if faults := [*found.faults, *misfits(found.specs, settings)]:
        many = f"{len(faults)} faults" if len(faults) > 1 else "a fault"
        told = "\n  ".join(map(str, faults))
        message = f"the phases have {many}; nothing was started\n  {told}"
        raise DefinitionsError(message, "correct what is named, then `orch plan`")
    return found


def misfits(specs: Iterable[Spec], settings: Settings) -> Iterator[Fault]:
    yield from _of_pools(specs, settings.pools)
    yield from _of_params(specs, settings.params)
    yield from _of_secrets(specs, settings.secrets)


def _of_secrets(specs: Iterable[Spec], secrets: Collection[str]) -> Iterator[Fault]:
    for spec in specs:
        for name in spec.secrets or ():
            if name not in secrets:
                right = nearest(name, list(secrets))
                hint = f"did you mean {right}?" if right else f'write {name} = {{ env = "..." }} under [secrets]'
                yield Fault(spec.file, spec.line, f"phase {spec.number}: secrets: there is no secret {name}", hint)


def _of_pools(specs: Iterable[Spec], pools: Mapping[str, int]) -> Iterator[Fault]:
    """What phases take, against what the settings have."""
    for spec in specs:
        if (found := misfit(spec, pools)) is not None:
            yield Fault(spec.file, spec.line, f"phase {spec.number}: pools: {found[0]}", found[1])


def _of_params(specs: Iterable[Spec], params: Mapping[str, Any]) -> Iterator[Fault]:
    """What phases take from the run, against what a run may be given."""
    for spec in specs:
        for name in sorted(taken_from_run(spec.params) - params.keys()):
            right = nearest(name, list(params))
            hint = f"did you mean ${right}?" if right else f"write {name} = ... under [params] in orch.toml"
            yield Fault(spec.file, spec.line, f"phase {spec.number}: params: there is no parameter ${name}", hint)
        given = spec.params.get(spec.foreach.param) if spec.foreach and spec.foreach.param else None
        if isinstance(given, str) and not isinstance(value := params.get(given[1:], []), list | tuple):
            said = f"phase {spec.number}: foreach: the parameter {given[1:]} is no list: it is {json.dumps(value)}"
            yield Fault(spec.file, spec.line, said, f'write {given[1:]} = ["a", "b"] under [params] in orch.toml')
