"""Imports happen in processes of their own, as they do in earnest: each test writes a project and asks one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator import phasefile

ASK = """
import json, sys
from pathlib import Path
from orchestrator.phasefile import import_phases
for file in sys.argv[2:]:
    try:
        found = import_phases(Path(sys.argv[1]), file)
    except BaseException as error:
        print(json.dumps({"raised": repr(error)}))
        continue
    values = {number: function(None) for number, function in found.functions.items()}
    print(json.dumps({
        "values": values, "files": found.project_files, "digest": found.digest, "threads": found.threads,
        "raw": [[entry.keys.get("number"), entry.line] for entry in found.raw],
    }))
"""
PHASE = "from orchestrator import phase\n{}\n@phase({})\ndef f(ctx): return {}\n"
Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Writes the files, imports those named (default: all phase files, sorted), one process for all."""

    def run(files: dict[str, str], *asked: str, at: str = "project") -> list[dict[str, Any]]:
        root = tmp_path / at
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        names = asked or sorted(name for name in files if name.startswith("phases/"))
        argv = [sys.executable, "-P", "-c", ASK, str(root), *names]
        environ = {**os.environ, "PYTHONPATH": os.getcwd()}
        done = subprocess.run(argv, capture_output=True, text=True, env=environ, cwd=root, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def test_functions_by_number_as_they_were_registered(ask):
    (found,) = ask(
        {
            "phases/a.py": "from orchestrator import phase\nfor n in (1, -8, 1):\n    phase(number=n)(lambda ctx, n=n: n * 10)\n"
        }
    )
    assert found["values"] == {"1": 10, "-8": -80}
    assert found["raw"] == [[1, 3], [-8, 3], [1, 3]] and not found["threads"] and found["files"] == []


def test_whole_numbers_of_any_kind_but_not_true(ask):
    (found,) = ask(
        {
            "phases/a.py": "from enum import IntEnum\nfrom orchestrator import phase\nclass N(IntEnum):\n    A = 4\nfor n in (N.A, True, '5', 2.0, None):\n    phase(n)(lambda ctx: 1)\n"
        }
    )
    assert list(found["values"]) == ["4"]


def test_two_files_that_import_the_same_module_both_name_it(ask):
    files = {
        "phases/a.py": PHASE.format("import shared", 1, "shared.X"),
        "phases/b.py": PHASE.format("import shared", 2, "shared.X"),
        "phases/c.py": PHASE.format("import json", 3, "1"),
        "shared.py": "import pack.deep\nX = pack.deep.Y\n",
        "pack/__init__.py": "",
        "pack/deep.py": "Y = 5\n",
        "other.py": "",
    }
    a, b, c = ask(files)
    assert a["values"] == {"1": 5} and b["values"] == {"2": 5}
    assert a["files"] == b["files"] == ["pack/__init__.py", "pack/deep.py", "shared.py"] and c["files"] == []


@pytest.mark.parametrize(
    ("statement", "files"),
    [
        ("import pack.deep", ["pack/__init__.py", "pack/deep.py"]),
        ("from pack import deep", ["pack/__init__.py", "pack/deep.py"]),
        ("from pack import *", ["pack/__init__.py", "pack/deep.py"]),
        ("from pack import NAME", ["pack/__init__.py"]),
        ("from space.inner import Z", ["space/inner.py"]),
        ("from . import b", ["phases/b.py"]),
        ("from .b import f as g", ["phases/b.py"]),
        ("from phases import b", ["phases/b.py"]),
        ("import importlib; importlib.import_module('pack.deep')", ["pack/__init__.py", "pack/deep.py"]),
        ("import lazy; lazy.now()", ["lazy.py", "pack/__init__.py", "pack/deep.py"]),
        ("import lazy", ["lazy.py"]),
        ("__import__('pack.deep', globals=globals(), level=0)", ["pack/__init__.py", "pack/deep.py"]),
        ("import ring1", ["ring1.py", "ring2.py"]),
        ("import json, os.path", []),
        ("import venved", []),
    ],
)
def test_every_way_to_import_is_seen_whoever_loaded_the_module_first(ask, statement, files):
    project = {
        "phases/a.py": PHASE.format(statement, 1, 1),
        "phases/b.py": PHASE.format("", 2, 2),
        "phases/z.py": PHASE.format("import lazy, ring1, pack.deep, space.inner; lazy.now()", 3, 3),
        "pack/__init__.py": "__all__ = ['deep']\nNAME = 1\n",
        "pack/deep.py": "",
        "space/inner.py": "Z = 1\n",
        "lazy.py": "def now():\n    from pack import deep\n    return deep\n",
        "ring1.py": "import ring2\n",
        "ring2.py": "import ring1\n",
        ".venv/lib/venved.py": "",
    }
    if "venved" in statement:
        project["phases/a.py"] = PHASE.format("import sys; sys.path.append('.venv/lib'); import venved", 1, 1)
    first = ask(project, "phases/a.py", "phases/b.py", "phases/z.py")
    last = ask(project, "phases/z.py", "phases/b.py", "phases/a.py")
    assert first[0]["files"] == last[2]["files"] == files
    assert [found["digest"] for found in first] == [found["digest"] for found in reversed(last)]


def test_a_phase_belongs_to_the_file_that_holds_it_also_when_another_imports_that(ask):
    a, b = ask(
        {"phases/a.py": PHASE.format("from .b import f as g", 1, "g(ctx) + 1"), "phases/b.py": PHASE.format("", 2, 2)}
    )
    assert a["values"] == {"1": 3} and b["values"] == {"2": 2}


def test_a_file_that_another_one_imported_is_not_executed_again(ask):
    count = "import builtins\nbuiltins.count = getattr(builtins, 'count', 0) + 1"
    _, b = ask(
        {"phases/a.py": PHASE.format("from . import b", 1, 1), "phases/b.py": PHASE.format(count, 2, "builtins.count")}
    )
    assert b["values"] == {"2": 1}


def test_the_digest_follows_names_and_bytes_of_what_was_imported_and_nothing_else(ask):
    files = {"phases/a.py": PHASE.format("import shared", 1, "shared.X"), "shared.py": "X = 1\n", "other.py": ""}
    (before,) = ask(files)
    assert ask({**files, "other.py": "X = 2\n"}) == [before]
    assert ask(files, at="elsewhere/deeper") == [before]
    (after,) = ask({**files, "shared.py": "X = 2\n"})
    assert after["digest"] != before["digest"] and after["values"] == {"1": 2}
    (moved,) = ask({"phases/b.py": files["phases/a.py"]})
    assert moved["digest"] != after["digest"] and moved["values"] == {"1": 2}


def test_stale_bytecode_is_not_believed_and_none_is_written(ask, tmp_path):
    files = {"phases/a.py": PHASE.format("import shared", 1, "shared.X"), "shared.py": "X = 1\n"}
    root = tmp_path / "project"
    ask(files)
    assert not list(root.rglob("*.pyc"))
    os.utime(root / "shared.py", (10**9, 10**9))
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(root)], check=True)
    (root / "shared.py").write_text("X = 2\n")
    os.utime(root / "shared.py", (10**9, 10**9))
    argv = [sys.executable, "-P", "-c", ASK, str(root), "phases/a.py"]
    done = subprocess.run(
        argv, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=True
    )
    assert json.loads(done.stdout)["values"] == {"1": 2}


def test_a_failed_import_comes_through_and_can_be_tried_again(ask):
    files = {
        "phases/a.py": "import builtins\nfrom orchestrator import phase\nphase(1)(lambda ctx: 1)\nif not hasattr(builtins, 'second'):\n    builtins.second = True\n    raise KeyError('x')\n",
        "phases/b.py": PHASE.format("", 2, 2),
    }
    first, second, other = ask(files, "phases/a.py", "phases/a.py", "phases/b.py")
    assert first == {"raised": "KeyError('x')"} and second["raw"] == [[1, 3]] and other["values"] == {"2": 2}


def test_threads_are_noticed_but_not_those_that_ended(ask):
    ended = "import threading\nt = threading.Thread(target=lambda: 0)\nt.start(); t.join()"
    alive = "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    first, second = ask({"phases/a.py": PHASE.format(ended, 1, 1), "phases/b.py": PHASE.format(alive, 2, 2)})
    assert (first["threads"], second["threads"]) == (False, True)


def test_a_thread_that_is_just_going_counts_for_nothing(monkeypatch):
    tasks = iter([["1", "2"], ["1", "2"], ["1"]])
    monkeypatch.setattr(os, "listdir", lambda path: next(tasks))
    assert not phasefile._threads()


def test_the_root_is_importable_first_and_odd_file_names_are_fine(ask):
    files = {"phases/p-01.x.py": PHASE.format("import this", 1, "this.OURS"), "this.py": "OURS = 'not the Zen'\n"}
    first, second = ask({**files, "phases/über.py": PHASE.format("import sys", 2, "__name__")})
    assert first["values"] == {"1": "not the Zen"} and second["values"] == {"2": "phases.über"}


def test_orch_itself_and_the_environment_are_no_project_files(tmp_path):
    """Where orch is the project (its own repository), its modules are the tool all the same."""
    here = os.getcwd()
    argv = [
        sys.executable,
        "-P",
        "-c",
        "from pathlib import Path; from orchestrator.phasefile import _project; p = _project(Path('.')); import sys; print([p.owns(x) for x in sys.argv[1:]])",
    ]
    files = [
        f"{here}/orchestrator/errors.py",
        f"{here}/system/x.py",
        f"{here}/.venv/lib/x.py",
        f"{here}/a/site-packages/x.py",
        f"{here}/x.py",
        "/usr/x.py",
        here,
    ]
    done = subprocess.run(
        [*argv, *files], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": here}, cwd=here, check=True
    )
    assert done.stdout.strip() == "[False, False, False, False, True, False, False]"
