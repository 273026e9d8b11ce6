from __future__ import annotations

import pytest

from orchestrator.core import decide
from orchestrator.core import events as ev
from orchestrator.core import observations as obs
from orchestrator.core.cachekey import NO_FILES
from orchestrator.core.observations import Observation
from tests.core.given import AGENT, FINE, Case, an, asked, run_asked

ORDER = Case({9: ()}).start(9).order
EXAMPLES = [
    obs.Tick(), obs.Started(an(9), 30, 3), obs.Ended(an(9), FINE), obs.Beat("a1", {}), obs.AgentJoined("a9", AGENT),
    obs.AgentGone("a9", "why"), obs.NoAgents("why"), obs.OwnerDead(an(9), "owner", "since", "why"), obs.NeverStarted(an(9)),
    obs.Interrupt("SIGINT", 130), asked("cancel"), run_asked(), obs.CheckpointMade(ORDER, "phase_9_x"),
    obs.CheckpointFailed(an(9), "RESOURCE", "why"), obs.Unrestored(9), obs.Restored(9, "phase_9_x"),
    obs.WentBack(ev.RolledBack("phase_9_x", "token", "ann", {}, {})), obs.FilesListed(9),
    obs.Measured(9, NO_FILES), obs.InstantsMet((ev.InstantSettled("s", "2026-11-20T02:00:00.000Z", "ran"),)),
]  # fmt: skip


def test_there_is_an_example_of_every_observation():
    assert {type(seen) for seen in EXAMPLES} == set(Observation.__subclasses__())


@pytest.mark.parametrize("seen", EXAMPLES, ids=lambda seen: type(seen).__name__)
def test_every_observation_is_dealt_with_and_its_news_of_an_unknown_phase_harms_nobody(seen):
    assert type(seen) in decide._HANDLERS
    case = Case({1: ()})
    case.step(seen, obs.Tick())
    assert 9 not in case.state.phases


def test_observations_of_different_kinds_are_never_equal():
    assert len({repr(seen) for seen in EXAMPLES}) == len(EXAMPLES)
    assert obs.AgentGone("a", "b") != obs.NoAgents("b") and obs.Tick() == obs.Tick()
