"""The graph for Dask: two worker processes with one thread each, a submit per task."""

import json
import subprocess


def call(argv, *needs):
    subprocess.run(argv, check=True)


if __name__ == "__main__":
    from dask.distributed import Client, LocalCluster

    with open("graph.json") as graph:
        tasks = json.load(graph)
    alone = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**alone) as cluster, Client(cluster) as client:
        found = {}
        for name, needs, argv in tasks:
            found[name] = client.submit(call, argv, *(found[need] for need in needs), key=name, pure=False)
        client.gather(list(found.values()))
