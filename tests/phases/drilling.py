"""What the tests of the drills share: a drill must say what it saw, and leave nobody behind, also where it goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator import process

PARTS = ("verdict", "figures", "warnings")


def broken(result: dict[str, Any]) -> dict[str, str]:
    """What was not kept, and what that means."""
    return {check["expected"]: check["grave"] for check in result["checks"] if not check["kept"]}


def found(result: dict[str, Any], expected: str) -> str:
    return next(check["found"] for check in result["checks"] if check["expected"].startswith(expected))


def left_in(project: Path) -> list[str]:
    named = [process.describe(pid, 1000) for pid in process.scan() if pid != os.getpid()]
    return [name for name in named if str(project) in name]


def sleeper(folder: Path) -> subprocess.Popen[bytes]:
    """Somebody who has no business to be there."""
    code = "import time; time.sleep(1000)"
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", code], cwd=folder, start_new_session=True)
