"""The keys of a phase that fans out."""

from __future__ import annotations

import os
import re
from typing import Any

from orchestrator.core.item import MOST_ITEMS
from orchestrator.core.spec import Foreach
from orchestrator.load.definitions import Wrong, shown
from orchestrator.load.reading import is_whole, unfit

_RESULT = re.compile(r"result\((-?\d{1,9})\)((?:\[(?:\"[^\"\]]*\"|'[^'\]]*'|\d{1,9})\])*)")
_KEY = re.compile(r"\[(?:([\"'])([^\]]*)\1|(\d+))\]")
_PARAM = re.compile(r"params\[(?:\"([A-Za-z0-9_]+)\"|'([A-Za-z0-9_]+)')\]")
_SHARE = re.compile(r"(\d{1,2}(?:\.\d+)?)\s*%")


def foreach(value: Any, wrong: Wrong) -> Any:
    if isinstance(value, (list, tuple)):
        return _listed(tuple(value), wrong)
    hint = 'foreach = ["a", "b"], "data/*.csv", \'result(3)["files"]\' or \'params["names"]\''
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return wrong(f"foreach: {shown(value)} is no list, no pattern of files and no result", hint)
    if value.lstrip().startswith("result("):
        match = _RESULT.fullmatch(value.strip())
        if match is None:
            return wrong(f"foreach: {shown(value)} is not the way to a result", hint)
        keys = tuple(int(place) if place else text for _, text, place in _KEY.findall(match[2]))
        return Foreach(result=int(match[1]), keys=keys)
    if value.lstrip().startswith("params["):
        match = _PARAM.fullmatch(value.strip())
        if match is None:
            return wrong(f"foreach: {shown(value)} is not the way to a parameter", hint)
        return Foreach(param=match[1] or match[2])
    path = os.path.normpath(value)
    if path.startswith(("/", "../")) or path == "..":
        return wrong(f"foreach: {value} leads out of the project", "write a pattern below the project's folder")
    return Foreach(files=path)


def _listed(items: tuple[Any, ...], wrong: Wrong) -> Any:
    if len(items) > MOST_ITEMS:
        return wrong(f"foreach: {len(items)} items", f"there may be {MOST_ITEMS}")
    for each in items:
        if unfit(each):
            return wrong(f"foreach: {shown(each)} is no JSON", "write strings, numbers, lists and tables")
    return Foreach(items)


def fail_after(value: Any, wrong: Wrong) -> Any:
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    if match is not None and 0 < float(match[1]) < 100:
        return float(match[1]) / 100
    if not is_whole(value) or value < 1:
        return wrong(f"fail_after: {shown(value)} is neither a number of items nor a share", 'fail_after = "5%", or 3')
    return float(value)
