"""The ETA against the truth on graphs of real workflows, which are not part of the project: $ORCH_WF names their folder."""

from __future__ import annotations

import pytest

from bench.eta_check import Chance, Graph, Replay, Score, folder, graphs, score, told

JOBS = 4
SEEDS = range(10)
CHAIN = Graph("chain", {1: (), 2: (1,), 3: (1,), 4: (2, 3)}, {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0})


def test_a_replay_knows_where_everything_stood() -> None:
    replay = Replay(CHAIN, 1, 0, Chance(spread=0.0))
    assert replay.seconds == pytest.approx(10)
    statuses = {number: phase.status for number, phase in replay.at(2.0).phases.items()}
    assert statuses == {1: "completed", 2: "pending", 3: "in_progress", 4: "pending"}
    assert replay.at(9.5).phase(3).durations == (3.0,) * 6


def test_a_forecast_without_chance_is_right_at_every_moment() -> None:
    result = score(CHAIN, 2, range(2), 10, Chance(spread=0.0))
    assert (result.within, result.held) == (1.0, 1.0)


def test_likely_is_within_a_fifth_at_half_of_all_moments_and_the_band_holds_at_four_of_five(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = graphs(folder())
    if not found:
        pytest.skip(f"there are no recorded graphs in {folder()}: name their folder in $ORCH_WF")
    results = []
    with capsys.disabled():
        print()
        for graph in found:
            results.append(score(graph, JOBS, SEEDS, _moments(graph), Chance()))
            print(told(graph, JOBS, Chance(), results[-1]))
    assert _share(results, "within") >= 0.5
    assert _share(results, "held") >= 0.8


def _moments(graph: Graph) -> int:
    """The largest is asked less often, because it is slow."""
    return 12 if len(graph.needs) < 1000 else 4


def _share(results: list[Score], what: str) -> float:
    """Every graph counts alike."""
    return float(sum(getattr(result, what) for result in results) / len(results))
