"""The graph for Airflow: a DAG of Bash tasks, for `airflow dags test`. It is read from the folder named in $RUN."""

import datetime
import json
import os
import shlex

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with open(os.path.join(os.environ["RUN"], "graph.json")) as graph:
    TASKS = json.load(graph)

with DAG(
    "bench",
    start_date=datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    schedule=None,
    catchup=False,
    max_active_tasks=2,
):
    found = {}
    for name, needs, argv in TASKS:
        found[name] = BashOperator(task_id=name, bash_command=shlex.join(argv) + " ")
        for need in needs:
            found[need] >> found[name]
