from __future__ import annotations

import subprocess
import sys

import pytest

import orchestrator
from orchestrator.author import MARK, collecting, phase


def test_outside_an_import_a_decorated_function_is_only_marked():
    @phase(3, timeout="1m")
    def index(ctx):
        return ctx + 1

    assert index(1) == 2 and getattr(index, MARK) == ({"number": 3, "timeout": "1m"},)


@pytest.mark.parametrize(
    ("args", "keys", "noted", "extra"),
    [
        ((3,), {}, {"number": 3}, ()),
        ((), {"number": 3, "name": "x"}, {"number": 3, "name": "x"}, ()),
        ((3, 4), {}, {"number": 3}, (4,)),
        ((3,), {"number": 4}, {"number": 4}, (3,)),
        ((), {}, {}, ()),
    ],
)
def test_what_was_written_is_noted_as_it_is(args, keys, noted, extra):
    registry = {}
    with collecting(registry):
        phase(*args, **keys)(print)
    ((entry,),) = registry.values()
    assert (entry.function, entry.keys, entry.extra) == (print, noted, extra)


def test_a_bare_decorator_is_noted_without_a_number():
    registry = {}
    with collecting(registry):

        @phase
        def index(ctx):
            return 7

    ((entry,),) = registry.values()
    assert entry.keys == {} and entry.function is index and index(None) == 7


def test_place_is_the_line_of_the_file_in_execution_also_through_calls_and_exec():
    source = "import helper\nfrom orchestrator.author import phase\n\n@phase(\n    1,\n)\ndef a(ctx): ...\n\nhelper.make(2)\nexec('phase(3)(print)')\n"
    helper = type(sys)("helper")
    exec(
        compile("from orchestrator.author import phase\ndef make(n):\n    phase(n)(print)\n", "/p/helper.py", "exec"),
        helper.__dict__,
    )
    registry = {}
    sys.modules["helper"] = helper
    try:
        with collecting(registry):
            exec(compile(source, "/p/phases/a.py", "exec"), {})
    finally:
        del sys.modules["helper"]
    assert {file: [(entry.keys["number"], entry.line) for entry in entries] for file, entries in registry.items()} == {
        "/p/phases/a.py": [(1, 4), (2, 9), (3, 10)]
    }


def test_registries_do_not_leak_into_each_other():
    outer, inner = {}, {}
    with collecting(outer):
        with pytest.raises(ZeroDivisionError), collecting(inner):
            phase(1)(print)
            raise ZeroDivisionError
        phase(2)(print)
    phase(3)(print)
    assert [entry.keys["number"] for entries in outer.values() for entry in entries] == [2]
    assert [entry.keys["number"] for entries in inner.values() for entry in entries] == [1]


def test_importing_the_package_costs_next_to_nothing_and_offers_its_names():
    program = "import sys; had = set(sys.modules); import orchestrator; print(*sorted(set(sys.modules) - had))"
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append('.'); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name.partition(".")[0] for name in loaded.stdout.split()} <= {
        "orchestrator",
        "importlib",
        "warnings",
        "_imp",
        "__future__",
    }
    assert [name for name in loaded.stdout.split() if name.startswith("orchestrator.")] == []
    assert orchestrator.phase is phase and "phase" in dir(orchestrator) and orchestrator.__version__ == "0.1.0"
    assert all(getattr(orchestrator, name) is not None for name in orchestrator.__all__)
    with pytest.raises(AttributeError, match="no attribute 'phases'"):
        orchestrator.phases  # noqa: B018
