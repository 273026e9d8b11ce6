"""What the tests of the outbox and its sender begin from: messages, and a project whose sender is in no hurry to wait."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from orchestrator import clock
from orchestrator.core.names import iso
from orchestrator.core.outward import FAILED
from orchestrator.core.telling import Message
from orchestrator.services import sender, webhook
from orchestrator.services.outbox import Outbox
from orchestrator.services.sender import main


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


class woken:
    """A sender in a process of its own, for as long as the block."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def __enter__(self) -> int:
        self.pid = forked(lambda: main(["--project", str(self._outbox._root)]))
        return self.pid

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def forked(what: Callable[[], object]) -> int:
    pid = os.fork()
    if not pid:
        code = 99
        try:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            code = int(what() or 0)  # type: ignore[call-overload]
        finally:
            os._exit(code)
    return pid


def ended(pid: int, seconds: float = 30.0) -> int:
    until = time.monotonic() + seconds
    while (found := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("it did not end")
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(found[1])


def steps(root: Path, at: int) -> None:
    """A sender that is killed before the step `at`: a line of ours, in whichever thread; without one it counts them."""
    count = [0]
    folder = str(Path(sender.__file__).parent)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(folder) and not frame.f_code.co_filename.endswith("/disk.py"):
            return None
        if event == "line":
            count[0] += 1
            if count[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    main(["--project", str(root)])
    sys.settrace(None)
    (root / "steps").write_text(str(count[0]))
