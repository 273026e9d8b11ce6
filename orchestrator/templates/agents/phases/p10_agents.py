"""Phases 11 to 13: the agents. They need only phase 1, so they work at the same time (at most `jobs` of them)."""

from orchestrator import Context, phase

from phases._work import AGENTS, answer


def define(number: int, name: str) -> None:
    # heartbeat_timeout: an agent that says nothing for so long is taken to hang. It is ended, with all that it started,
    # long before `timeout`, and tried again as `retry` says. ctx.track says something after each task.
    @phase(
        number,
        name=name,
        needs=[1],
        timeout="10m",
        heartbeat_timeout="1m",
        retry={"TIMEOUT": {"tries": 2, "delay": "5s"}, "TRANSIENT": {"tries": 5, "delay": "10s"}},
    )
    def agent(ctx: Context) -> dict:
        """Do my share of the tasks."""
        mine = ctx.result(1)["shares"][str(ctx.phase)]
        return {"answers": {task["id"]: answer(ctx, task) for task in ctx.track(mine)}}


for number, name in AGENTS.items():
    define(number, name)
