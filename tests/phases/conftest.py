"""What the tests of the shipped phases share: a project to look at, and what every result must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Context

Make = Callable[..., Context]
Fits = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A context as a phase gets it; what it says of its progress is kept in `told`."""
    project = tmp_path / "project"
    (project / "system").mkdir(parents=True)
    (project / "phases").mkdir()

    def made(phase: int, results: dict[int, Any] | None = None) -> Context:
        told: list[dict[str, Any]] = []
        context = Context(phase=phase, project=project, results=results, send=told.append)
        context.told = told  # type: ignore[attr-defined]
        return context

    return made


@pytest.fixture
def fits() -> Fits:
    """A result is JSON, its verdict one line that can be read at a glance, its figures numbers and words."""

    def checked(result: dict[str, Any]) -> dict[str, Any]:
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        assert set(result) == {"verdict", "figures", "warnings"}
        assert result["verdict"].isprintable()
        assert 10 < len(result["verdict"]) <= 180
        assert all(isinstance(text, str) and text.isprintable() for text in result["warnings"])
        for name, value in result["figures"].items():
            assert name.isidentifier()
            if name.endswith(("_ms", "_seconds", "_bytes")) and value is not None:
                assert value >= 0, name
        return result

    return checked


@pytest.fixture
def empty(make: Make) -> Callable[[Context], bool]:
    """Whether nothing was left behind in system/."""
    return lambda context: list(context.path("system").iterdir()) == []
