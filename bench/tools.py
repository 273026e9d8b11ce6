"""The tools that are compared: where each comes from, what it reads, and what is typed to run, repeat and show."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import inputs
from bench.graphs import Task

HERE = Path(__file__).resolve().parent
COLD, AGAIN, STATE, FIRE = MODES = ("cold", "again", "state", "fire")


class Tool(NamedTuple):
    """In its words `{bin}` is where its programs are, `{home}` a folder that lasts, `{run}` the one where it runs."""

    name: str
    words: Mapping[str, str]  # for each mode that it has
    packages: str = ""  # of PyPI, in an environment of its own; empty: nothing to install
    write: Callable[[Sequence[Task], Path], None] = inputs.graph
    environ: Mapping[str, str] = {}
    once: str = ""  # before its first run
    most: int = 10_000  # tasks: with more it takes minutes
    is_quick: bool = False  # measured by `make bench`, too

    @property
    def key(self) -> str:
        return self.name.lower()

    def argv(self, mode: str, places: Mapping[str, str]) -> list[str]:
        return [word.format_map(places) for word in self.words[mode].split()]

    def environment(self, places: Mapping[str, str]) -> dict[str, str]:
        return {name: value.format_map(places) for name, value in self.environ.items()}


def _same(words: str, state: str = "") -> dict[str, str]:
    """The same command again finds nothing to do."""
    return {COLD: words, AGAIN: words} | ({STATE: state} if state else {})


_DOIT = "{bin}/doit -f {flows}/dodo.py --dir {run}"
_SNAKEMAKE = "{bin}/snakemake -s {flows}/Snakefile -d {run}"
_PREFECT = {
    "PREFECT_HOME": "{home}/prefect-home",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "100",
}
_AIRFLOW = {
    "AIRFLOW_HOME": "{home}/airflow-home", "AIRFLOW__CORE__DAGS_FOLDER": "{flows}/airflow",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING", "RUN": "{run}",
}  # fmt: skip

ORCH = Tool(
    "orch", _same("{bin}/orch run --quiet --jobs 2", "{bin}/orch status") | {FIRE: "{bin}/orch cron fire nightly"},
    write=inputs.orch, is_quick=True,
)  # fmt: skip
FLOOR = Tool("floor", _same(f"{sys.executable} -I -S {HERE / 'floor.py'} graph.json"), is_quick=True)
RIVALS = (
    Tool("make", _same("make -s -j2 all", "make -s -n all"), write=inputs.make, is_quick=True),
    Tool("ninja", _same("{bin}/ninja -j2 --quiet", "{bin}/ninja -n --quiet"), "ninja", inputs.ninja, is_quick=True),
    Tool(
        "doit", _same(f"{_DOIT} -n {{workers}}", "{bin}/doit list -s -f {flows}/dodo.py --dir {run}"),
        "doit", is_quick=True,
    ),
    Tool(
        "Luigi",
        _same(
            "{bin}/luigi --module luigi_flow All --local-scheduler --workers {slots} --log-level WARNING",
            "{bin}/luigi-deps-tree --module luigi_flow All",
        ),
        "luigi", environ={"PYTHONPATH": "{flows}"}, most=1000, is_quick=True,
    ),
    Tool("go-task", _same("{bin}/task -s -C 2", "{bin}/task --list-all --json"), "go-task-bin", inputs.gotask),
    Tool("Dask", {COLD: "{bin}/python {flows}/dask_flow.py"}, "dask[distributed]"),
    Tool(
        "DBOS", _same("{bin}/python {flows}/dbos_flow.py", "{bin}/dbos workflow list -s sqlite:///{run}/dbos.sqlite"),
        "dbos", most=1000,
    ),
    Tool("Snakemake", _same(f"{_SNAKEMAKE} -c{{slots}} -q all", f"{_SNAKEMAKE} --summary"), "snakemake", most=1000),
    Tool(
        "Dagster",
        {
            COLD: "{bin}/dagster job execute -f {flows}/dagster_flow.py -a defs -j everything",
            STATE: "{bin}/dagster run list",
        },
        "dagster dagster-webserver", environ={"DAGSTER_HOME": "{run}"}, most=1000,
    ),
    Tool(
        "Prefect", {COLD: "{bin}/python {flows}/prefect_flow.py", STATE: "{bin}/prefect flow-run ls"},
        "prefect fastapi<0.139", environ=_PREFECT, most=1000,
    ),
    Tool(
        "Airflow", {COLD: "{bin}/airflow dags test bench", STATE: "{bin}/airflow dags list-runs bench"},
        "apache-airflow", environ=_AIRFLOW, once="{bin}/airflow db migrate", most=40,
    ),
)  # fmt: skip


def places(programs: Path | None, home: Path, run: Path, slots: int) -> dict[str, str]:
    """`workers`: doit counts only those beside itself."""
    return {
        "bin": str(programs), "home": str(home), "run": str(run), "flows": str(HERE / "flows"), "slots": str(slots),
        "workers": str(slots if slots > 1 else 0),
    }  # fmt: skip


def programs_of(tool: Tool, home: Path) -> Path:
    return home / tool.key.replace("-", "") / "bin"


def is_there(tool: Tool, programs: Path) -> bool:
    return shutil.which(tool.argv(COLD, places(programs, programs, programs, 1))[0]) is not None
