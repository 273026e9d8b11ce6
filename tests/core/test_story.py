"""Every event has a sentence, and a story keeps to its phase."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.core import events as ev
from orchestrator.core.events import Event
from orchestrator.core.item import item
from orchestrator.core.story import _SENTENCES, Chapter, concerns, is_about
from tests.core.given import run_started

GOLDEN = [json.loads(line) for line in (Path(__file__).parent / "golden_events.jsonl").read_text().splitlines()]
NOT_OF_A_PHASE = {ev.PlanAdopted, ev.AgentEngaged, ev.AgentLeft, ev.InstantSettled}


@pytest.mark.parametrize("data", GOLDEN, ids=lambda data: data["event"])
def test_every_event_that_can_stand_in_a_story_has_a_sentence(data):
    event = Event.from_dict(data)
    if type(event) in NOT_OF_A_PHASE:
        assert type(event) not in _SENTENCES
        return
    chapter = Chapter(7, "2026-11-20T00:00:00Z", event, "a cause")
    assert len(chapter.sentence()) > 10 and "\n" not in chapter.sentence()
    assert chapter.as_dict()["because"] == "a cause" and chapter.as_dict()["event"] == data["event"]


def test_a_story_has_its_phase_and_the_frame_of_runs():
    of_three = ev.PhaseReset(3, "retry asked")
    assert concerns(of_three, 3) and not concerns(of_three, -3)
    assert concerns(ev.RunEnded("completed", 0), 3) and not concerns(ev.RunEnded("completed", 0), item(3, 0))
    assert concerns(run_started(), item(3, 0))
    assert concerns(ev.AskAnswered("a", "retry", "me", True, "yes", 3), 3)
    assert not concerns(ev.AskAnswered("a", "cancel", "me", True, "yes"), 3)
    assert not concerns(ev.AgentLeft("a", "gone"), 3)


def test_the_frame_alone_is_no_story():
    frame = Chapter(1, "t", ev.RunEnded("completed", 0), "c")
    assert not is_about([frame], 3)
    assert is_about([frame, Chapter(2, "t", ev.PhaseReset(3, "why"), "c")], 3)


def test_the_sentence_names_attempt_code_and_when_it_is_tried_again():
    failure = ev.Failure("TRANSIENT", "exit status 75 after 2s")
    event = ev.RetryScheduled(3, 2, failure, 2.0, "2026-11-20T03:00:00Z", 62.0)
    assert Chapter(1, "t", event, "c").sentence() == (
        "attempt 3.2 failed: TRANSIENT: exit status 75 after 2s; tried again in 1m 02s, at 2026-11-20T03:00:00Z"
    )
