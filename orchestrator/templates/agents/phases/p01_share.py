"""Phase 1: who does what. Sharing it out beforehand means that no two agents can take the same task."""

from orchestrator import Context, ValidationFault, phase

from phases._work import AGENTS, tasks


@phase(1, needs=[], timeout="1m")
def share(ctx: Context) -> dict:
    """Share the tasks out among the agents."""
    listed = tasks(ctx)
    if len({task["id"] for task in listed}) != len(listed):
        raise ValidationFault("tasks.json: two tasks have the same id: each needs its own")
    shares = {str(number): listed[place :: len(AGENTS)] for place, number in enumerate(AGENTS)}
    return {"verdict": f"{len(listed)} tasks for {len(AGENTS)} agents", "shares": shares}
