"""Agents for the tests: each is ended with its test, and nothing of it may be left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import process
from tests.agent.driving import Driven


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Callable[..., Driven]]:
    """Make an agent; keywords go into its hello, `env` into its environment."""
    made: list[Driven] = []

    def make(*, env: dict[str, str] | None = None, greet: bool = True, **settings: Any) -> Driven:
        agent = Driven(tmp_path, f"a{len(made) + 1}", env)
        made.append(agent)
        if greet:
            agent.owner.hello(**settings)
            agent.owner.wait("welcome")
        return agent

    yield make
    for agent in made:
        agent.end()
    left = process.find_tagged(tmp_path, [agent.agent for agent in made])
    assert not left, [process.describe(who.pid) for who in left]


@pytest.fixture
def agent(agents: Callable[..., Driven]) -> Driven:
    return agents()
