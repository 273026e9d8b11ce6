"""The graph for DBOS with SQLite: steps of one workflow, two at a time; it knows no edges, so layer after layer."""

import asyncio
import json
import subprocess

from dbos import DBOS, SetWorkflowID

DBOS(
    config={
        "name": "bench", "system_database_url": "sqlite:///dbos.sqlite", "log_level": "WARNING",
        "application_version": "1", "executor_id": "local",
    }
)  # fmt: skip


@DBOS.step()
async def step(argv):
    await asyncio.to_thread(subprocess.run, argv, check=True)


@DBOS.workflow()
async def everything(layers):
    for layer in layers:
        for at in range(0, len(layer), 2):
            await asyncio.gather(*(step(argv) for argv in layer[at : at + 2]))


def in_layers(tasks):
    depth, layers = {}, []
    for name, needs, argv in tasks:
        depth[name] = 1 + max((depth[need] for need in needs), default=-1)
        layers += [[]] * (depth[name] == len(layers))
        layers[depth[name]] = [*layers[depth[name]], argv]
    return layers


if __name__ == "__main__":
    with open("graph.json") as graph:
        found = in_layers(json.load(graph))
    DBOS.launch()
    with SetWorkflowID("run-1"):
        asyncio.run(everything(found))
    DBOS.destroy()
