"""Phase -3 with the store as it is, and with stores that break one promise each: all must be caught."""

from __future__ import annotations

import errno

import pytest

from orchestrator import ConfigurationFault, Resource, disk
from orchestrator.store import lines
from orchestrator.store.lock import StateLock
from phases import m03_state_and_journal as phase


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    monkeypatch.setattr(phase, "DECISIONS", 60)
    monkeypatch.setattr(phase, "KILLED_AFTER", (5, 20))


def test_it_tells_what_the_state_costs_and_survives(make, fits, empty):
    context = make(-3)
    found = fits(phase.state_and_journal(context))["figures"]
    assert found["decisions"] == 60
    assert found["kills"] == 2
    assert found["flips_detected"] == found["flips"] == phase.FLIPS
    assert found["torn_lines_tolerated"] == 3
    assert 0 < found["commit_median_ms"] <= found["commit_p95_ms"]
    assert 50 < found["journal_bytes_per_decision"] < 2000
    assert (context.told[-1]["done"], context.told[-1]["total"]) == (4, 4)
    assert empty(context)


def test_a_slow_disk_is_measured_less_often(make, monkeypatch):
    monkeypatch.setattr(phase, "AT_MOST_SECONDS", 0.0)
    assert phase.state_and_journal(make(-3))["figures"]["decisions"] == phase.LEAST


def test_a_writer_that_keeps_back_what_it_acknowledged_is_caught(make, empty, monkeypatch):
    kept: dict[int, list[bytes]] = {}
    right = disk.Appender.close

    def append(self, data, *, durable):
        kept.setdefault(id(self), []).append(data)

    def close(self):
        disk.write_all(self._fd, b"".join(kept.pop(id(self), [])))
        right(self)

    monkeypatch.setattr(disk.Appender, "append", append)
    monkeypatch.setattr(disk.Appender, "close", close)
    with pytest.raises(ConfigurationFault, match=r"a journal on this disk .* cannot be trusted"):
        phase.state_and_journal(make(-3))
    assert empty(make(-3))


def test_lines_that_are_never_written_are_caught(make, monkeypatch):
    right, count = disk.Appender.append, iter(range(10**9))
    monkeypatch.setattr(
        disk.Appender,
        "append",
        lambda self, data, durable: right(self, data, durable=durable) if next(count) != 40 else None,
    )
    with pytest.raises(ConfigurationFault, match="cannot be trusted"):
        phase.state_and_journal(make(-3))


def test_checksums_that_are_not_looked_at_are_caught(make, monkeypatch):
    monkeypatch.setattr(lines, "check", lambda raw, chain: int(raw[-10:-2], 16))
    with pytest.raises(ConfigurationFault, match=r"of 12 flipped bits only \d+ were detected"):
        phase.state_and_journal(make(-3))


def test_a_lock_that_stays_with_the_dead_is_caught(make, monkeypatch):
    monkeypatch.setattr(phase, "kill_a_writer", lambda system, count: 0)
    monkeypatch.setattr(StateLock, "acquire", lambda *words: False)
    with pytest.raises(ConfigurationFault, match="the lock is still held although its holder was killed"):
        phase.state_and_journal(make(-3))


def test_a_writer_that_ends_by_itself_is_a_fault(make, monkeypatch):
    monkeypatch.setattr(phase, "committed", named("committed"))
    monkeypatch.setattr(StateLock, "acquire", lambda *words: 1 / 0)
    with pytest.raises(ConfigurationFault, match="its writer ended by itself after decision 0"):
        phase.state_and_journal(make(-3))


def named(name):
    def trial(system):
        return {}

    trial.__name__ = name
    return trial


def test_a_full_disk_is_a_want_of_room(make, empty, monkeypatch):
    def write_all(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "write_all", write_all)
    with pytest.raises(Resource, match="No space left on device; free space"):
        phase.state_and_journal(make(-3))
    assert empty(make(-3))


def test_slow_commits_are_told():
    quick = {"commit_p95_ms": 1.0, "snapshot_p95_ms": 1.0}
    assert list(phase.warnings(quick)) == []
    (warning,) = phase.warnings({**quick, "snapshot_p95_ms": 400.0})
    assert "takes up to 400 ms to stand in state.json" in warning


def test_a_decision_that_was_acknowledged_and_is_not_there_is_caught(make, monkeypatch):
    monkeypatch.setattr(phase, "kill_a_writer", lambda system, count: 99)
    with pytest.raises(ConfigurationFault, match="acknowledged 99 decisions and was killed, 0 are there"):
        phase.state_and_journal(make(-3))


def test_a_decision_that_is_not_there_after_opening_again_is_caught(make, monkeypatch):
    right = phase.write
    monkeypatch.setattr(phase, "write", lambda store, count: [[*seconds, 1.0] for seconds in right(store, count)])
    with pytest.raises(ConfigurationFault, match="61 decisions were written, 60 are there"):
        phase.state_and_journal(make(-3))
