"""Settings that were found right, kept by what was written: the library that checks them is asked once for each.

In system/cache, written by whoever runs, read by all. What is damaged, or of another orch or Python, is not believed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from orchestrator import __version__, disk
from orchestrator.core.formats import MALFORMED
from orchestrator.core.own import setting_of
from orchestrator.core.setting import WORDS

Given = dict[str, tuple[Any, str]]
"""By the name of a setting its value, and where that was written."""

_RECIPE = f"1, orch {__version__}, Python {sys.version}"  # raised with every change of what is made of the same text
_FILE = "settings"
_MOST = 20  # with other flags, or other variables, it is another text
_fresh: dict[str, Given] = {}  # what this process has had checked


def key(written: object) -> str:
    return hashlib.sha256(json.dumps([_RECIPE, written]).encode("utf-8", "surrogatepass")).hexdigest()


def recall(cache: Path, name: str) -> Given | None:
    return _fresh[name] if name in _fresh else _restored(_read(cache).get(name))


def note(name: str, given: Given) -> None:
    """Only what comes back as it is: the same values, of the same types."""
    if repr(_restored(json.loads(json.dumps(given)))) == repr(given):
        _fresh[name] = given


def keep(cache: Path) -> None:
    """For who may write; a folder is made by others. Without it settings are checked once more: no reason to fail."""
    known = _read(cache) if _fresh else {}
    if _fresh.keys() <= known.keys():
        return
    body = json.dumps(dict([*known.items(), *_fresh.items()][-_MOST:])).encode()
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


def _restored(found: Any) -> Given | None:
    """JSON has no tuples."""
    if found is None:
        return None
    return {
        name: (tuple(value) if _is_of_words(name, value) else value, where) for name, (value, where) in found.items()
    }


def _is_of_words(name: str, value: object) -> bool:
    return isinstance(value, list) and setting_of(name).kind == WORDS
