"""How a task is done. Files whose names begin with _ define no phases: the others import them."""

import json
import time
from typing import Any

from orchestrator import Context, NotFound, ValidationFault

AGENTS = {11: "agent-1", 12: "agent-2", 13: "agent-3"}


def tasks(ctx: Context) -> list[dict[str, Any]]:
    try:
        return json.loads(ctx.path("tasks.json").read_text("utf-8"))
    except ValueError as error:
        raise ValidationFault(f"tasks.json is not JSON: {error}") from error


def answer(ctx: Context, task: dict[str, Any]) -> str:
    """Here stands the model, the service or the program that you ask; this one only reads the file."""
    # subprocess.run(["your-agent", task["ask"]], ...) is fine: at the deadline whatever it started is ended, too.
    path = ctx.path(task["file"])
    if not path.exists():
        raise NotFound(f"task {task['id']}: {task['file']} does not exist: correct tasks.json, then `orch run`")
    lines = path.read_text("utf-8").splitlines()
    time.sleep(0.1)  # so that there is something to see
    return f"{len(lines)} lines, and it begins with: {lines[0][:60]}"
