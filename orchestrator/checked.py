"""Settings that were found right, kept by what was written: the library that checks them is asked once for each.

In system/cache, written by whoever runs, read by all. What is damaged, or of another orch or Python, is not believed.
Whoever has the address of a webhook may write there: of [notify] only the names are kept, never what they stand for.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator import __version__, disk
from orchestrator.core.formats import MALFORMED
from orchestrator.core.own import NOTIFY, setting_of
from orchestrator.core.setting import WORDS

Given = dict[str, tuple[Any, str]]
"""By the name of a setting its value, and where that was written."""

_RECIPE = f"1, orch {__version__}, Python {sys.version}"  # raised with every change of what is made of the same text
_FILE = "settings"
_MOST = 20  # with other flags, or other variables, it is another text
_fresh: dict[str, Given] = {}  # what this process has had checked


def key(written: object) -> str:
    return hashlib.sha256(json.dumps([_RECIPE, written]).encode("utf-8", "surrogatepass")).hexdigest()


def recall(cache: Path, name: str, written: Callable[[], Mapping[str, Any]]) -> Given | None:
    """`written`: the tables as they were read; asked only for what is not kept of them."""
    if name in _fresh:
        return _fresh[name]
    found = _read(cache).get(name)
    if found is None:
        return None
    return _restored(found, written() if any(map(_is_withheld, found)) else {})


def note(name: str, given: Given, written: Mapping[str, Any]) -> None:
    """Only what comes back as it is: the same values, of the same types."""
    if repr(_restored(json.loads(json.dumps(_kept(given))), written)) == repr(given):
        _fresh[name] = given


def keep(cache: Path) -> None:
    """For who may write; a folder is made by others. Without it settings are checked once more: no reason to fail."""
    known = _read(cache) if _fresh else {}
    if _fresh.keys() <= known.keys():
        return
    fresh = {name: _kept(given) for name, given in _fresh.items()}
    body = json.dumps(dict([*known.items(), *fresh.items()][-_MOST:])).encode()
    try:
        disk.replace(cache / _FILE, _seal(body) + b"\n" + body, durable=False)
    except OSError:
        return


def _read(cache: Path) -> dict[str, Any]:
    try:
        seal, _, body = disk.read(cache / _FILE).partition(b"\n")
        found = json.loads(body) if seal == _seal(body) else {}
    except (OSError, *MALFORMED):
        return {}
    return found if isinstance(found, dict) else {}


def _seal(body: bytes) -> bytes:
    return hashlib.sha256(_RECIPE.encode() + body).hexdigest().encode()


def _kept(given: Given) -> Given:
    return {name: (None if _is_withheld(name) else value, where) for name, (value, where) in given.items()}


def _restored(found: Any, written: Mapping[str, Any]) -> Given:
    """JSON has no tuples."""
    values = {name: _taken(name, written) if _is_withheld(name) else value for name, (value, _) in found.items()}
    return {
        name: (tuple(values[name]) if _is_of_words(name, values[name]) else values[name], where)
        for name, (_, where) in found.items()
    }


def _is_withheld(name: str) -> bool:
    return name.startswith(f"{NOTIFY}.")


def _taken(name: str, written: Mapping[str, Any]) -> Any:
    table, key, field = name.split(".")
    return written.get(table, {}).get(key, {}).get(field)


def _is_of_words(name: str, value: object) -> bool:
    return isinstance(value, list) and setting_of(name).kind == WORDS
