"""Where a command's output goes: a terminal that can be drawn on, or something that takes lines."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from orchestrator.watch.outlet import Outlet


def can_be_drawn_on() -> bool:
    """A terminal that moves its cursor when told to."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown", "")


def is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def live_view(outlet: Outlet) -> Any:
    """Loaded only here: it brings rich, and whoever runs from cron need not wait for that."""
    live = import_module("orchestrator.watch.live")
    return live.LiveView(outlet, lambda: _screen().size_of(sys.stdout.fileno()), os.environ, unicode=is_unicode())


def screen(outlet: Outlet) -> Any:
    kind = _screen()
    return kind.Screen(outlet, lambda: kind.size_of(sys.stdout.fileno()), kind.Paint(os.environ))


def cells(text: str) -> int:
    """How wide it is; Chinese takes two cells a letter."""
    return len(text) if text.isascii() else int(_cells().cell_len(text))


def fitted(text: str, width: int) -> str:
    if text.isascii() and len(text) <= width:
        return text.ljust(width)
    short = text if cells(text) <= width else _cells().set_cell_size(text, max(0, width - 1)).rstrip() + "…"
    return short + " " * (width - cells(short))


def _cells() -> Any:
    return import_module("rich.cells")


def screen_row(width: int, text: str) -> Any:
    return _screen().Row(width).add(text)


def _screen() -> Any:
    return import_module("orchestrator.watch.screen")
