"""What a holder of the lock does for what waits to be told, while its run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import clock, process
from orchestrator.config import settings
from orchestrator.core.names import iso
from orchestrator.core.state import State
from orchestrator.core.telling import Message
from orchestrator.outgoing import WAKES_EVERY, Outgoing
from orchestrator.services.outbox import Outbox


def test_a_message_for_another_day_finds_a_sender_although_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orch.toml").write_text('[notify.ops]\nurl = "http://127.0.0.1:1/"\n')
    outbox, woken, ticking = Outbox(tmp_path), list[float](), [100.0]
    monkeypatch.setattr(clock, "ticking", lambda: ticking[0])
    monkeypatch.setattr(Outbox, "wake", lambda outbox: woken.append(ticking[0]))
    outgoing = Outgoing(tmp_path, settings(tmp_path, {}, {}), lambda: 0, print)
    now = clock.now()
    outbox.put("ops", Message("a", "gate", "still waits", iso(now), after=iso(now + 3 * 86400)))
    for _ in range(5):
        ticking[0] += outgoing.tend()
    assert woken == [100.0 + WAKES_EVERY * many for many in range(1, 5)]
    outbox.drop(None)
    ticking[0] += WAKES_EVERY
    assert outgoing.tend() == WAKES_EVERY and len(woken) == 4, "where nothing waits nobody is woken"


def test_the_sender_has_no_secret_that_is_not_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "c4n4ry")
    seen = list[dict[str, str]]()
    monkeypatch.setattr(process, "spawn_detached", lambda argv, **how: seen.append(how["env"]) or 2**22)
    (tmp_path / "orch.toml").write_text(
        '[secrets]\ntoken = { env = "TOKEN" }\n[notify.ops]\nurl = "http://127.0.0.1:1/"\n'
    )
    outgoing = Outgoing(tmp_path, settings(tmp_path, {}, {}), lambda: 0, print)
    outgoing._outbox.put("ops", Message("a", "failed", "it failed", iso(clock.now())))
    outgoing._outbox.wake()
    assert "PATH" in seen[0] and "TOKEN" not in seen[0]


def test_what_is_for_nobody_any_more_expires_though_nobody_sends_it(tmp_path: Path) -> None:
    outbox, long_ago = Outbox(tmp_path), clock.now() - 8 * 86400
    outbox.put("old", Message("a", "failed", "it failed", iso(long_ago)))
    Outgoing(tmp_path, settings(tmp_path, {}, {}), lambda: 0, print).begin(State())
    assert not outbox.waits() and [letter.message.id for letter in outbox.refused()] == ["a"]
