from __future__ import annotations

from orchestrator.core.health import AGENTS, BAD, DEGRADED, HEALTHY, HOST, STATE, WEIGHTS, Finding, judge


def found(part: str, cost: int, *, critical: bool = False) -> Finding:
    return Finding(part, cost, "what", "remedy", critical)


def test_without_a_finding_all_points_are_there() -> None:
    health = judge([])
    assert (health.verdict, health.score, health.exit_code) == (HEALTHY, 100, 0)
    assert sum(WEIGHTS.values()) == 100 and health.parts == WEIGHTS


def test_what_costs_little_degrades_and_what_costs_much_or_is_critical_is_bad() -> None:
    assert (judge([found(STATE, 20)]).verdict, judge([found(STATE, 20)]).exit_code) == (DEGRADED, 1)
    assert judge([found(STATE, 25), found(AGENTS, 15)]).score == 60
    assert judge([found(STATE, 25), found(AGENTS, 15)]).verdict == DEGRADED
    assert judge([found(STATE, 26), found(AGENTS, 15)]).verdict == BAD
    only = judge([found(HOST, 1, critical=True)])
    assert (only.verdict, only.score, only.exit_code) == (BAD, 99, 6)


def test_a_part_cannot_lose_more_than_it_has_and_the_worst_comes_first() -> None:
    health = judge([found(HOST, 5), found(HOST, 40), found(STATE, 10, critical=True)])
    assert health.parts == {**WEIGHTS, HOST: 0, STATE: 30}
    assert [one.cost for one in health.findings] == [10, 40, 5]
