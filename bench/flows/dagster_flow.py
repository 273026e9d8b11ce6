"""The graph for Dagster: one op per task, its executor that runs all in one process, one after the other."""

import json
import subprocess

from dagster import (
    Definitions,
    DependencyDefinition,
    GraphDefinition,
    In,
    MultiDependencyDefinition,
    Nothing,
    OpDefinition,
    Out,
    Output,
    in_process_executor,
)

with open("graph.json") as graph:
    TASKS = json.load(graph)


def op(name, argv):
    def body(context, inputs):
        subprocess.run(argv, check=True)
        yield Output(None, "result")

    return OpDefinition(name=name, compute_fn=body, ins={"after": In(Nothing)}, outs={"result": Out(Nothing)})


edges = {
    name: {"after": MultiDependencyDefinition([DependencyDefinition(need) for need in needs])} if needs else {}
    for name, needs, _ in TASKS
}
everything = GraphDefinition(name="g", node_defs=[op(name, argv) for name, _, argv in TASKS], dependencies=edges)
defs = Definitions(jobs=[everything.to_job(name="everything", executor_def=in_process_executor)])
