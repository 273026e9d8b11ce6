"""health: how well a project is, in points, with every reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.core.value import Value

STATE, AGENTS, SERVICES, HOST = "state", "agents", "services", "host"
WEIGHTS = {STATE: 40, AGENTS: 30, SERVICES: 20, HOST: 10}
HEALTHY, DEGRADED, BAD = "healthy", "degraded", "bad"
EXIT_CODES = {HEALTHY: 0, DEGRADED: 1, BAD: 6}
_BAD_BELOW = 60


class Finding(Value):
    """Something that is not as it should be, and what to do about it."""

    part: str  # one of WEIGHTS
    cost: int  # points of that part
    what: str
    remedy: str
    critical: bool = False  # by itself enough to call the whole bad


class Health(Value):
    verdict: str
    score: int
    parts: dict[str, int]  # points that are left of each
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]


def judge(findings: Iterable[Finding]) -> Health:
    """Worst first; nothing can cost more than its part has."""
    found: Sequence[Finding] = sorted(findings, key=lambda one: (not one.critical, -one.cost))
    parts = {
        part: max(0, weight - sum(one.cost for one in found if one.part == part)) for part, weight in WEIGHTS.items()
    }
    score = sum(parts.values())
    is_bad = any(one.critical for one in found) or score < _BAD_BELOW
    return Health(BAD if is_bad else DEGRADED if found else HEALTHY, score, parts, tuple(found))
