"""A project for each test; what a test leaves running is a failure of that test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.driving import Project


@pytest.fixture
def projects(tmp_path: Path) -> Iterator[Callable[[str], Project]]:
    made: list[Project] = []

    def make(name: str) -> Project:
        made.append(Project(tmp_path / name, tmp_path / f"{name}-scratch"))
        return made[-1]

    yield make
    left = [each for project in made for each in project.end()]
    assert not left, f"the test left running: {left}"


@pytest.fixture
def project(projects: Callable[[str], Project]) -> Project:
    return projects("project")
