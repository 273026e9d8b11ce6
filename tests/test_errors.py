from __future__ import annotations

import pytest

import orchestrator
from orchestrator import errors
from orchestrator.errors import CODES, OrchError, PhaseError

FAMILIES = {
    "client": {"CONFIGURATION", "VALIDATION", "NOT_FOUND", "PERMISSION", "CONFLICT"},
    "server": {"TIMEOUT", "TRANSIENT", "RESOURCE", "INTERRUPTED", "INTERNAL"},
    "business": {"DEPENDENCY", "FAILED", "REJECTED"},
}


def subclasses(of):
    """Of our own module: other tests make some too."""
    own = [child for child in of.__subclasses__() if child.__module__ == errors.__name__]
    return {of, *(each for child in own for each in subclasses(child))}


def test_exactly_thirteen_codes_in_three_families():
    assert len(CODES) == 13
    assert {family: {code.name for code in CODES.values() if code.family == family} for family in FAMILIES} == FAMILIES
    assert all(code.meaning and code.remedy and name == code.name for name, code in CODES.items())


def test_what_is_never_tried_again():
    assert {name for name, code in CODES.items() if code.retry is None} == {
        *("CONFIGURATION", "VALIDATION", "NOT_FOUND", "PERMISSION", "INTERNAL", "REJECTED")
    }


@pytest.mark.parametrize(
    ("code", "tries", "delays"),
    [
        ("TRANSIENT", 3, [60, 120, 240]),
        ("CONFLICT", 3, [60, 120, 240]),
        ("RESOURCE", 3, [300, 600, 1200]),
        ("DEPENDENCY", 3, [300, 600, 1200]),
        ("FAILED", 1, [60]),
        ("TIMEOUT", 0, []),
    ],
)
def test_the_defaults_of_trying_again(code, tries, delays):
    rule = CODES[code].retry
    assert rule is not None and rule.tries == tries
    assert [rule.delay * rule.factor**n for n in range(tries)] == delays
    assert (rule.cap, rule.jitter) == (3600, 0.1)


def test_every_error_of_a_phase_has_a_code_of_its_own_and_an_author_can_import_it():
    raised = subclasses(PhaseError) - {PhaseError}
    assert {error.code for error in raised} == set(CODES) - {"INTERNAL"} and len(raised) == 13  # FAILED: and Critical
    assert all(getattr(orchestrator, error.__name__) is error for error in subclasses(PhaseError))


def test_exit_codes_of_the_tool():
    assert {error.__name__: error.exit_code for error in subclasses(OrchError)} == {
        "OrchError": 70,
        "UsageError": 2,
        "SettingsError": 2,
        "DefinitionsError": 2,
        "Refused": 1,
        "StateDamaged": 4,
        "StateUnwritable": 74,
        "OutputUnwritable": 74,
        "RunActive": 75,
        "InternalFault": 70,
    }


def test_an_error_says_what_and_what_next():
    error = errors.UsageError("no such phase", "see `orch plan`")
    assert (str(error), error.message, error.remedy) == ("no such phase", "no such phase", "see `orch plan`")
