"""The way from phases/ to definitions, in order: read, look in the cache; if need be, make anew, keep."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from orchestrator.load import cached, folder
from orchestrator.load.definitions import Definitions, Fault


def load(
    root: Path, *, load_timeout: float, trust: bool, cache: Path | None, environ: dict[str, str] | None = None
) -> Definitions:
    """Never raises for what an author got wrong: every fault of every file is in the definitions.

    `environ` is what files find when they are imported; None: as here.
    """
    found = folder.read(root, trust=trust)
    name = cached.key(found.sources)
    if cache is not None and not found.faults and (kept := cached.read(cache, root, name)) is not None:
        return kept
    made = _anew().make(root, found, load_timeout, environ)
    definitions: Definitions = made.definitions
    if cache is not None and not definitions.faults and not definitions.broken:
        cached.write(cache, root, name, definitions, made.imported, made.read)
    return definitions


def peek(root: Path, cache: Path, *, trust: bool = True) -> Definitions | None:
    """The definitions if the cache has them: nothing is imported, started or written."""
    found = folder.read(root, trust=trust)
    return None if found.faults else cached.read(cache, root, cached.key(found.sources))


def knows(root: Path, cache: Path, *, trust: bool = True) -> bool:
    """Would `peek` find them? Most who look want to know no more."""
    found = folder.read(root, trust=trust)
    return not found.faults and cached.holds(cache, root, cached.key(found.sources))


def glance(root: Path, *, trust: bool = True) -> list[Fault]:
    """What is wrong with the files as far as reading tells: for whoever looks while they are being written."""
    faults: list[Fault] = _anew().faults_in(folder.read(root, trust=trust))
    return faults


def _anew() -> Any:
    """Loaded only here: most starts find everything in the cache."""
    return import_module("orchestrator.load.anew")
