"""orch with a watcher that never returns once phase 1 is completed: a loop that hangs, as a bug would make it."""

from __future__ import annotations

import sys
import time
from typing import Any

from orchestrator.cli import main
from orchestrator.core.events import PhaseCompleted
from orchestrator.watch.plain import PlainLines

tell = PlainLines.tell


def hang(self: PlainLines, batch: Any, decision: Any, *rest: Any) -> None:
    tell(self, batch, decision, *rest)
    if any(isinstance(event, PhaseCompleted) and event.number == 1 for event in decision.events):
        sys.stderr.write("hangs now\n")
        sys.stderr.flush()
        while True:
            time.sleep(1000)


if __name__ == "__main__":
    PlainLines.tell = hang  # type: ignore[method-assign]
    main()
