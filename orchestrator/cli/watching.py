"""orch status --watch: the same lines again about once a second, until the run is over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Protocol

from orchestrator import clock
from orchestrator.cli.frame import INTERRUPTED
from orchestrator.cli.terminal import can_be_drawn_on, screen, screen_row
from orchestrator.look import Look
from orchestrator.watch.outlet import Outlet

EVERY = 1.0


class Words(Protocol):
    """What the status says of a look, within so many columns and lines."""

    def __call__(self, look: Look, *, columns: int = ..., room: int = ...) -> list[str]: ...


class Display(Protocol):
    def show(self, look: Look, words: Words) -> None: ...

    def end(self, look: Look, words: Words) -> None:
        """The last look, to stay."""


def watch(root: Path, words: Words) -> int:
    """The exit code."""
    outlet = Outlet(sys.stdout.fileno())
    display: Display = InPlace(screen(outlet)) if can_be_drawn_on() else Again(outlet)
    try:
        _until_over(root, words, outlet, display)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        outlet.close()
    return 0


def _until_over(root: Path, words: Words, outlet: Outlet, display: Display) -> None:
    look = Look(root)
    while outlet.is_open and (look.is_alive or look.run_state == "detached"):
        display.show(look, words)
        clock.pause(EVERY)
        outlet.flush()
        look = Look(root)
    display.end(look, words)


class InPlace:
    """Drawn over what was shown before; at the end everything once, however long it is."""

    def __init__(self, on: Any) -> None:
        self._screen = on

    def show(self, look: Look, words: Words) -> None:
        columns, height = self._screen.size
        room = max(1, height - 1)
        lines = [*look.notices, *words(look, columns=columns, room=room - len(look.notices))]
        if len(lines) > room:
            lines = [*lines[: room - 1], f"and {len(lines) - room + 1} more lines: `orch status` shows them"]
        self._screen.draw([screen_row(columns - 1, line) for line in lines])

    def end(self, look: Look, words: Words) -> None:
        for line in [*look.notices, *words(look)]:
            self._screen.line(line)
        self._screen.close()


class Again:
    """For whatever cannot be drawn on: printed again when something has happened, not when only time has passed."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._shown: object = None

    def show(self, look: Look, words: Words) -> None:
        news = _without_times(look)
        if news == self._shown:
            return
        for line in [*([""] if self._shown else []), *look.notices, *words(look)]:
            self._outlet.line(line)
        self._shown = news

    end = show


def _without_times(look: Look) -> object:
    run, phases = look.state.run, look.state.phases
    places = [(n, p.status, p.step, p.attempt, p.retry_at, p.gate) for n, p in sorted(phases.items()) if p.planned]
    told = (run.id, run.verdict, run.stopping, run.paused)
    return (look.run_state, look.is_hung, look.owner, told, tuple(look.notices), places)
