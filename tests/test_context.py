"""What a phase's function can do with its context, without an agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.context import Context
from orchestrator.errors import ConfigurationFault


def context(**changes: Any) -> tuple[Context, list[dict[str, Any]]]:
    sent: list[dict[str, Any]] = []
    return Context(send=sent.append, **changes), sent


def test_it_can_be_made_in_a_unit_test_of_a_phase() -> None:
    ctx = Context()
    assert list(ctx.track([1, 2])) == [1, 2]
    ctx.beat()
    ctx.progress(1, 2)


def test_what_it_knows() -> None:
    ctx, _ = context(run="r", phase=-3, attempt=2, due="2026-01-02T00:00:00Z", project="/p")
    assert (ctx.run, ctx.phase, ctx.attempt, ctx.due) == ("r", -3, 2, "2026-01-02T00:00:00Z")
    assert ctx.path("a", "b.csv") == Path("/p/a/b.csv")
    assert ctx.path("/elsewhere") == Path("/elsewhere")


@pytest.mark.parametrize("results", [{"5": {"n": 1}}, {5: {"n": 1}}])
def test_results_of_what_it_needs(results: dict[Any, Any]) -> None:
    ctx, _ = context(phase=7, results=results)
    assert ctx.result(5) == {"n": 1}
    with pytest.raises(ConfigurationFault, match="phase 7 does not need phase 6: add 6 to its needs"):
        ctx.result(6)


def test_a_result_of_none_is_a_result() -> None:
    assert context(results={"5": None})[0].result(5) is None


def test_track_counts_what_has_a_length_and_what_has_none() -> None:
    ctx, sent = context()
    assert list(ctx.track("abc", text="letters")) == ["a", "b", "c"]
    assert [(each["done"], each["total"], each["text"]) for each in sent] == [
        (number, 3, "letters") for number in range(4)
    ]
    ctx, sent = context()
    list(ctx.track(iter("abc")))
    assert sent[-1] == {"kind": "progress", "done": 3, "total": None, "text": ""}
    ctx, sent = context()
    list(ctx.track(iter("abc"), total=9))
    assert sent[-1]["total"] == 9


def test_messages_are_limited_but_the_last_always_goes() -> None:
    ctx, sent = context()
    for number in range(100_000):
        ctx.progress(number + 1, 100_000)
    assert 10 <= len(sent) < 200
    assert sent[-1]["done"] == 100_000
    ctx, sent = context()
    for number in range(1000):
        ctx.progress(number)
    assert sent[-1]["done"] < 999
    ctx.flush()
    assert sent[-1]["done"] == 999
    count = len(sent)
    ctx.flush()
    assert len(sent) == count
    for _ in range(10_000):
        ctx.beat()
    assert len(sent) < count + 50
