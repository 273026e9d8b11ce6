"""Phase 20: what the agents found, together. It begins when the last of them is done."""

import json

from orchestrator import Context, phase

from phases._work import AGENTS


@phase(20, needs=list(AGENTS), timeout="1m")
def gather(ctx: Context) -> dict:
    """Write answers.json."""
    answers = {key: text for number in AGENTS for key, text in ctx.result(number)["answers"].items()}
    part = ctx.path("answers.json.part")
    part.write_text(json.dumps(answers, indent=2) + "\n", "utf-8")
    part.replace(ctx.path("answers.json"))  # whole or not at all
    return {"verdict": f"{len(answers)} answers", "answers": answers}
