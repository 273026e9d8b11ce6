from __future__ import annotations

import pytest

from orchestrator.core.names import AttemptId, Identity, epoch, iso, nearest, seconds, span


@pytest.mark.parametrize("attempt", [AttemptId("r1", 3, 1), AttemptId("2026-11-20/a", -8, 12), AttemptId("r", 0, 1)])
def test_an_attempt_survives_its_key(attempt):
    assert AttemptId.parse(attempt.key) == attempt


def test_attempts_as_people_read_them():
    assert str(AttemptId("r1", -8, 2)) == "-8.2" and AttemptId("r1", -8, 2).key == "r1/-8.2"


def test_identity_from_what_was_stored():
    who = Identity(7, 99, "boot", "host")
    assert Identity.from_dict({**who.as_dict(), "pid": "7"}) == who


def test_times_on_disk_come_back():
    assert iso(0) == "1970-01-01T00:00:00.000Z"
    assert epoch(iso(1_795_000_000.125)) == 1_795_000_000.125


@pytest.mark.parametrize(
    ("text", "amount"),
    [(90, 90), (0.5, 0.5), ("90", 90), ("90s", 90), ("1.5m", 90), (" 2h ", 7200), ("1d", 86400), (0, 0)],
)
def test_durations(text, amount):
    assert seconds(text) == amount


@pytest.mark.parametrize(
    "text", ["", "soon", "10 min", "-5s", -5, "5S", True, None, [], float("nan"), float("inf"), "99999d", "1m30s"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (0.314, "0.31s"),
        (9.5, "9.50s"),
        (42, "42s"),
        (59.6, "1m 00s"),
        (185, "3m 05s"),
        (7620, "2h 07m"),
        (100_800, "1d 4h"),
    ],
)
def test_spans_as_people_read_them(amount, shown):
    assert span(amount) == shown


def test_nearest_means_what_was_mistyped():
    assert nearest("timeot", ["needs", "timeout", "heartbeat_timeout"]) == "timeout"
    assert nearest("zzz", ["needs", "timeout"]) is None
