"""The process that imports phase files: what it leaves behind, and how it is told from the files' own faults."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from orchestrator import process
from orchestrator.errors import InternalFault
from orchestrator.load.describing import describe

PHASE = "from orchestrator import phase\n@phase({})\ndef f(ctx): ...\n"
CHILDREN = """
import os, time
from pathlib import Path
def child(name, away):
    if os.fork() == 0:
        if away:
            os.setsid()
            if os.fork():
                time.sleep(0.1 if away == "late" else 0)
                os._exit(0)
            if away == "late" and os.fork():
                time.sleep(300)
        Path(name + ".new").write_text(str(os.getpid()))
        os.rename(name + ".new", name)
        time.sleep(300)
        os._exit(0)
child("near", "")
child("far", "soon")
child("deep", "late")
while not all(Path(name).exists() for name in ("near", "far", "deep")):
    time.sleep(0.01)
"""


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("ending", ["", "time.sleep(300)\n", "os._exit(1)\n", "os.kill(os.getpid(), 9)\n"])
def test_no_process_that_an_import_started_is_left(project, ending):
    root = project({"phases/a.py": CHILDREN + ending + PHASE.format(1)})
    answer = describe(root, ["phases/a.py"], 3 if "sleep" in ending else 30)["phases/a.py"]
    assert ("broken" in answer) == bool(ending)
    pids = [int((root / name).read_text()) for name in ("near", "far", "deep")]
    deadline = time.monotonic() + 10
    while not all(map(is_gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert all(map(is_gone, pids))


def test_a_fork_that_goes_on_importing_does_not_speak_for_the_file(project):
    fork = "import os, time\nnumber = 1 if os.fork() else 11\ntime.sleep(0.7 if number == 1 else 0)\n"
    root = project({"phases/a.py": fork + PHASE.format("number"), "phases/b.py": PHASE.format(2)})
    found = describe(root, ["phases/a.py", "phases/b.py"], 30)
    assert [found[file]["phases"][0]["keys"] for file in found] == [{"number": 1}, {"number": 2}]


def test_a_child_that_holds_the_connection_does_not_hide_a_crash(project):
    root = project(
        {
            "phases/a.py": "import os, time\nif os.fork() == 0:\n    time.sleep(60)\nos._exit(9)\n",
            "phases/b.py": PHASE.format(2),
        }
    )
    before = time.monotonic()
    found = describe(root, ["phases/a.py", "phases/b.py"], 30)
    assert "exit status 9" in found["phases/a.py"]["broken"] and "imported" in found["phases/b.py"]
    assert time.monotonic() - before < 20


def test_every_file_has_a_deadline_of_its_own(project):
    root = project({f"phases/{name}.py": f"import time; time.sleep(1)\n{PHASE.format(1)}" for name in "abc"})
    assert all("imported" in answer for answer in describe(root, [f"phases/{name}.py" for name in "abc"], 2.9).values())


def test_a_short_deadline_leaves_python_time_to_start(project):
    root = project({"phases/a.py": "import time; time.sleep(60)\n"})
    found = describe(root, ["phases/a.py"], 0.01)
    assert "did not finish within 0.01s" in found["phases/a.py"]["broken"]


def test_a_thousand_files(project):
    files = [f"phases/p{number:04}.py" for number in range(1000)]
    root = project({file: PHASE.format(number) for number, file in enumerate(files)})
    found = describe(root, files, 30)
    assert [answer["phases"][0]["keys"]["number"] for answer in found.values()] == list(range(1000))


def test_a_python_that_does_not_start_is_our_fault_not_the_files(project, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InternalFault, match="could not start"):
        describe(project({"phases/a.py": PHASE.format(1)}), ["phases/a.py"], 30)


def test_no_descriptor_and_no_child_is_left_here(project):
    root = project({"phases/a.py": PHASE.format(1), "phases/b.py": "import os; os.abort()\n"})
    before, children = sorted(os.listdir("/proc/self/fd")), _children()
    describe(root, ["phases/a.py", "phases/b.py"], 30)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert _children() == children


def _children() -> set[int]:
    return {entry.pid for entry in process.scan().values() if entry.parent == os.getpid()}
