"""The graph for Prefect: a flow as a plain script, two threads; it starts a server of its own for the run."""

import json
import subprocess

from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner


@task
def one(argv):
    subprocess.run(argv, check=True)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def everything():
    with open("graph.json") as graph:
        tasks = json.load(graph)
    found = {}
    for name, needs, argv in tasks:
        found[name] = one.submit(argv, wait_for=[found[need] for need in needs])
    for future in found.values():
        future.result()


if __name__ == "__main__":
    everything()
