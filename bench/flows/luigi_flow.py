"""The graph for Luigi with its local scheduler: what is done has a file."""

import json
import subprocess

import luigi

with open("graph.json") as graph:
    TASKS = {name: (needs, argv) for name, needs, argv in json.load(graph)}


class One(luigi.Task):
    name = luigi.Parameter()

    def requires(self):
        return [One(name=need) for need in TASKS[self.name][0]]

    def output(self):
        return luigi.LocalTarget(self.name)

    def run(self):
        subprocess.run(TASKS[self.name][1], check=True)
        with self.output().open("w") as target:
            target.write("")


class All(luigi.WrapperTask):
    def requires(self):
        return [One(name=name) for name in TASKS]
