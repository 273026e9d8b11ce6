"""The whole way: several files, Python and TOML, good and bad, from phases/ to definitions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator.core.spec import Limits, RetryRule, Spec
from orchestrator.load import describing, load, peek

PYTHON = """
    from orchestrator import phase, Context

    @phase(-8, needs=[], timeout="10m")
    def host(ctx: Context):
        '''Look at the host.

        At length.
        '''

    for number in (3, 4):
        @phase(number, name=f"step {number}", retries=0)
        def step(ctx): ...
"""
TOML = """
    [[phase]]
    number = 2
    run = "make all"
    env = { LEVEL = "9" }
    limits = { memory = "500MB", cpu = "90s", open_files = 64 }

    [[phase]]
    number = 10
    name = "pack"
    title = "Pack it"
    run = ["tar", "cf", "x.tar", "x"]
    needs = [3, 2, 3]
    cwd = "data/.."
    heartbeat_timeout = 30
    isolation = "spawn"
    [phase.retry.TRANSIENT]
    tries = 7
    delay = "1s"
"""


def test_python_and_toml_together(loaded):
    found = loaded(
        {
            "phases/a.py": PYTHON,
            "phases/b.toml": TOML,
            "phases/_skipped.py": "1/0",
            "phases/.x.py": "1/0",
            "phases/README.md": "x",
        }
    )
    assert found.faults == () and found.broken == {}
    host, two, three, four, ten = found.specs
    assert host == Spec(-8, "host", "phases/a.py", 3, "Look at the host.", timeout=600.0, digest=host.digest)
    assert two == Spec(
        2,
        "phase-2",
        "phases/b.toml",
        1,
        run="make all",
        needs=(-8,),
        env={"LEVEL": "9"},
        limits=Limits(500_000_000, 90, 64),
        digest=two.digest,
    )
    assert (three.name, three.needs, three.retries, three.title) == ("step 3", (2,), 0, "")
    assert (four.needs, four.line) == ((3,), three.line)
    assert (ten.run, ten.needs, ten.cwd, ten.title, ten.line) == (
        ("tar", "cf", "x.tar", "x"),
        (3, 2),
        ".",
        "Pack it",
        7,
    )
    assert ten.retry == {"TRANSIENT": RetryRule(7, 1.0)} and ten.isolation == "spawn" and ten.heartbeat_timeout == 30
    assert list(found.files) == ["phases/a.py"] and found.files["phases/a.py"] == host.digest


def test_all_faults_of_all_files_at_once_each_with_its_place(faults):
    found = faults(
        {
            "phases/a.py": """
                from orchestrator import phase

                @phase(
                    1,
                    timeot="10m",
                    needs=[1, 22],
                    run="make",
                )
                def one(ctx): ...
            """,
            "phases/b.py": "def (:\n",
            "phases/c.toml": "[[phase]]\nnumber = 21\nrun = 'x'\n\n[[phase]]\nnumber = 1\nrun = 'y'\ntimeout = \"soon\"\n",
            "phases/d.toml": "[[phase]]\nnumber = = 3\n",
            "phases/e.py": b"x = '\xff'\n",
            "phases/f.py": "",
            "phases/g.py": "print('no phase here')\n",
        }
    )
    assert found == [
        "phases/a.py:5: phase 1: unknown key timeot: did you mean timeout?",
        "phases/a.py:6: phase 1 needs itself: take it out of its needs",
        "phases/a.py:6: phase 1 needs phase 22, which does not exist: the nearest is 21",
        "phases/a.py:7: phase 1: run belongs to phases in .toml files: call the command in the function",
        "phases/b.py:1: is not Python: invalid syntax: correct this line",
        "phases/c.toml:6: phase 1 is defined twice: phases/a.py:3 and phases/c.toml:5: give one of them another number",
        'phases/c.toml:8: phase 1: timeout: \'soon\' is not a duration: write seconds, or "90s", "10m", "2h", "1d"',
        "phases/d.toml:2: is not TOML: invalid value: correct this line",
        "phases/e.py:1: is not UTF-8: byte 0xff: save it as UTF-8",
        "phases/f.py: is empty: define a phase in it, or remove it",
        "phases/g.py: defines no phase: put @phase(3) over a function; begin the file's name with _ if others only import it",
    ]


def test_a_need_that_an_unreadable_file_seems_to_define_is_not_held_against_others(faults):
    found = faults(
        {
            "phases/a.py": "from orchestrator import phase\n@phase(2)\ndef f(:\n",
            "phases/b.toml": "[[phase]]\nnumber = 3\nrun = 'x'\nneeds = [2]\n",
        }
    )
    assert len(found) == 1 and found[0].startswith("phases/a.py:3: is not Python")


def test_a_syntax_error_in_a_file_that_phases_import_is_told_once_where_it_is(faults):
    phase = "from orchestrator import phase\nimport shared\n@phase({})\ndef f(ctx): ...\n"
    found = faults({"phases/a.py": phase.format(1), "phases/b.py": phase.format(2), "shared.py": "# 1\n# 2\nx = = 3\n"})
    assert found == ["shared.py:3: is not Python: invalid syntax: correct this line"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise KeyError('HOME2')", "its import raised KeyError: 'HOME2' (phases/p02_x.py:2): correct it, or move it into the phase's function"),
        ("import no_such_thing", "its import raised ModuleNotFoundError: No module named 'no_such_thing' (phases/p02_x.py:2): install what is missing, or correct the import"),
        ("raise SystemExit(3)", "its import raised SystemExit: 3 (phases/p02_x.py:2): correct it, or move it into the phase's function"),
        ("import os; os._exit(3)", "its import ended the process with exit status 3: take the exit out of the file's top level"),
        ("import os; os.kill(os.getpid(), 11)", "its import died by SIGSEGV: import its modules one by one to find the one that crashes"),
        ("import time; time.sleep(100)", "its import did not finish within 2.5s: move what waits into the phase's function, or raise load_timeout"),
        ("import os\nfor fd in range(3, 99):\n    try: os.close(fd)\n    except OSError: pass", None),
    ],
)  # fmt: skip
def test_an_import_that_fails_harms_only_its_own_file(loaded, body, said):
    found = loaded(
        {
            "phases/p01.py": "from orchestrator import phase\n@phase(1)\ndef a(ctx): ...\n",
            "phases/p02_x.py": f"from orchestrator import phase\n{body}\n@phase(2, needs=[1], timeout='1h')\ndef b(ctx):\n    'Do b.'\n",
            "phases/p03.py": "from orchestrator import phase\n@phase(3)\ndef c(ctx): ...\n",
        },
        load_timeout=2.5,
        cache=True,
    )
    one, two, three = found.specs
    assert found.faults == () and (one.broken, three.broken) == ("", "") and three.needs == (2,)
    assert (two.name, two.title, two.needs, two.timeout) == ("b", "Do b.", (1,), 3600)
    assert list(found.files) == ["phases/p01.py", "phases/p03.py"]
    assert found.broken == {"phases/p02_x.py": two.broken}
    if said is not None:
        assert two.broken == f"phases/p02_x.py: {said}"


def test_a_broken_file_whose_phases_cannot_be_told_is_a_fault(loaded):
    found = loaded({"phases/a.py": "from orchestrator import phase\nfor n in range(3):\n    phase(n)(print)\n1/0\n"})
    assert [fault.file for fault in found.faults] == ["phases/a.py"]
    assert "ZeroDivisionError" in str(found.faults[0]) and "phases/a.py" in found.broken


def test_threads_at_import_mean_spawn_for_that_file_only(loaded):
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
    phase = "from orchestrator import phase\n@phase({})\ndef f(ctx): ...\n"
    found = loaded(
        {"phases/a.py": phase.format(1), "phases/b.py": thread + phase.format(2), "phases/c.py": phase.format(3)}
    )
    assert [spec.isolation for spec in found.specs] == ["fork", "spawn", "fork"] and found.faults == ()


def test_phases_defined_outside_phases_are_refused_where_they_are(faults):
    found = faults(
        {
            "phases/a.py": "import stray\nfrom orchestrator import phase\n@phase(1)\ndef f(ctx): ...\n",
            "stray.py": "from orchestrator import phase\n@phase(9)\ndef g(ctx): ...\n",
        }
    )
    assert found == [
        "stray.py:2: only files in phases/ define phases: define it in a file in phases/, or in a function that such a file calls"
    ]


def test_what_imports_print_goes_nowhere(loaded, capfd):
    loud = "import os, sys\nprint('x' * 100000); print('y', file=sys.stderr); os.write(1, b'z')\n"
    found = loaded({"phases/a.py": loud + "from orchestrator import phase\n@phase(1)\ndef f(ctx): ...\n"})
    assert found.faults == () and capfd.readouterr() == ("", "")


def test_the_second_load_starts_nothing(project, monkeypatch):
    root = project({"phases/a.py": PYTHON, "phases/b.toml": TOML})
    cache = root / "system/cache"
    assert peek(root, cache) is None and not cache.exists()
    first = load(root, load_timeout=20, trust=False, cache=cache)
    monkeypatch.setattr(describing, "describe", None)
    assert load(root, load_timeout=20, trust=False, cache=cache) == first == peek(root, cache)
    (root / "phases/b.toml").write_text("[[phase]]\nnumber = 1\n")
    assert peek(root, cache) is None


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda root: (root / "shared.py").write_text("X = 3\n"), True),
        (lambda root: (root / "deep.py").write_text("Y = 3\n"), True),
        (lambda root: (root / "names.txt").write_text("one\ntwo\n"), True),
        (lambda root: (root / "in/b").write_text(""), True),
        (lambda root: (root / "other.py").write_text("X = 2\n"), False),
        (lambda root: os.utime(root / "shared.py", (1, 1)), False),
        (lambda root: (root / "log.txt").write_text("longer"), False),
    ],
)
def test_what_imports_looked_at_decides_how_long_the_cache_holds(project, change, again):
    root = project(
        {
            "phases/a.py": "import os, shared\nfrom orchestrator import phase\nopen('names.txt').read(); open('log.txt', 'a').write('x')\nfor n, _ in enumerate(os.listdir('in')):\n    phase(n)(lambda ctx: 1)\n",
            "shared.py": "import deep\n",
            "deep.py": "Y = 2\n",
            "names.txt": "one\n",
            "in/a": "",
        }
    )
    cache = root / "system/cache"
    first = load(root, load_timeout=20, trust=False, cache=cache)
    assert [spec.name for spec in first.specs] == ["phase-0"] and peek(root, cache) == first
    change(root)
    assert (peek(root, cache) is None) == again


def test_broken_definitions_are_not_cached(project):
    root = project(
        {
            "phases/a.py": "import os\nfrom orchestrator import phase\n@phase(1)\ndef f(ctx): ...\nif not os.path.exists('ok'): raise OSError\n"
        }
    )
    cache = root / "system/cache"
    assert load(root, load_timeout=20, trust=False, cache=cache).broken
    (root / "ok").touch()
    assert not load(root, load_timeout=20, trust=False, cache=cache).broken


def test_an_edit_of_the_same_size_in_the_same_second_is_seen(project):
    root = project(
        {
            "phases/a.py": "import shared\nfrom orchestrator import phase\nphase(shared.N)(print)\n",
            "shared.py": "N = 1\n",
        }
    )
    os.utime(root / "shared.py", (10**9, 10**9))
    before = load(root, load_timeout=20, trust=False, cache=root / "system/cache")
    (root / "shared.py").write_text("N = 2\n")
    os.utime(root / "shared.py", (10**9, 10**9))
    after = load(root, load_timeout=20, trust=False, cache=root / "system/cache")
    assert [spec.number for spec in (*before.specs, *after.specs)] == [1, 2]
    assert before.specs[0].digest != after.specs[0].digest and before.digest != after.digest
    assert not list(root.rglob("*.pyc"))


def test_ten_thousand_phases_of_one_file(project, monkeypatch):
    monkeypatch.setattr(describing, "describe", lambda root, files, load_timeout, environ: {})
    root = project({"phases/a.toml": "".join(f"[[phase]]\nnumber = {n}\nrun = 'true'\n" for n in range(10_000))})
    found = load(root, load_timeout=20, trust=False, cache=root / "system/cache")
    assert len(found.specs) == 10_000 and found.specs[9_999].needs == (9_998,)
    assert peek(root, root / "system/cache") == found


def test_ten_thousand_faults_of_one_file(faults):
    found = faults("".join(f"[[phase]]\nnumber = {n}\nrun = 'true'\ntimeout = 0\n" for n in range(10_000)))
    assert (
        len(found) == 10_000
        and found[-1] == 'phases/a.toml:40000: phase 9999: timeout: must be more than 0: timeout = "10m"'
    )


def test_no_folder(tmp_path: Path):
    found = load(tmp_path, load_timeout=5, trust=False, cache=None)
    assert [str(fault) for fault in found.faults] == [
        f"phases/: there is no folder phases/ in {tmp_path}: `orch init` makes one with a first phase"
    ]
