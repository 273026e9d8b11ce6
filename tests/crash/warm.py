"""Commands of a loop, forked by the process that has all loaded; `tests.warm` says how."""

from __future__ import annotations

import pytest

from tests.driving import PATIENCE, Ended, Project, Started

Command = Started


class Warm:
    def start(self, project: Project, *words: str, **env: str) -> Command:
        return project.start(*words, env=env)

    def orch(self, project: Project, *words: str, seconds: float = PATIENCE, **env: str) -> Ended:
        return project.orch(*words, env=env, seconds=seconds)


@pytest.fixture
def warm() -> Warm:
    return Warm()


kept_warm = warm
