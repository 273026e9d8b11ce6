"""Phase 30: a second pair of eyes. What agents say is checked before anybody relies on it."""

from orchestrator import Context, ValidationFault, phase

from phases._work import tasks


@phase(30, needs=[20], timeout="5m")
def review(ctx: Context) -> dict:
    """See that every task has an answer that says something."""
    answers = ctx.result(20)["answers"]
    for task in ctx.track(tasks(ctx)):
        if not answers.get(task["id"], "").strip():
            # Not retried: the same answers would be reviewed again. `orch run --new` asks the agents again.
            raise ValidationFault(f"task {task['id']} has no answer: see `orch logs 20`, then `orch run --new`")
    return {"verdict": f"{len(answers)} answers reviewed"}
