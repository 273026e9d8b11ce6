"""What the tests of the outbox and its sender begin from: messages, and a project whose sender is in no hurry to wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import clock
from orchestrator.core.names import iso
from orchestrator.core.outward import FAILED
from orchestrator.core.telling import Message
from orchestrator.services import sender, webhook
from orchestrator.services.outbox import Outbox


def message(ident: str, event: str = FAILED, *, at: float = 0.0, after: str = "") -> Message:
    return Message(ident, event, f"this is {ident}", iso(at or clock.now()), "r1", ((3, "p3"),), after)


def project_of(root: Path, settings: str) -> Outbox:
    (root / "phases").mkdir(parents=True, exist_ok=True)
    (root / "orch.toml").write_text(settings)
    return Outbox(root)


def ids(outbox: Outbox, target: str = "ops") -> list[str]:
    return [letter.message.id for letter in outbox.letters(target)]


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are hundredths."""
    monkeypatch.setattr(webhook, "TIMEOUT", 0.2)
    monkeypatch.setattr(sender, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(sender, "WALL_EVERY", 0.02)
    monkeypatch.setattr(sender, "_growing", sender.wait_exponential(multiplier=0.01, max=0.05))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
