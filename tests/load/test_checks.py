"""Every key, right and wrong, through TOML and through the decorator alike."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.spec import Limits, RetryRule
from orchestrator.load.checks import check
from orchestrator.load.definitions import Written


def faults_of(keys, file="phases/a.toml"):
    found = []
    checked = check(Written(file, 1, keys, "f"), lambda written, key, message, hint: found.append((key, message, hint)))
    return checked, found


def spec_of(**keys):
    checked, found = faults_of({"number": 3, "run": "x", **keys})
    assert found == [] and checked is not None
    return checked.spec


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("number", -8, -8),
        ("name", "x" * 80, "x" * 80),
        ("name", "größer als: ja", "größer als: ja"),
        ("title", "", ""),
        ("needs", [2, -1, 2], (2, -1)),
        ("needs", [], ()),
        ("timeout", "1.5m", 90.0),
        ("heartbeat_timeout", 0.5, 0.5),
        ("retries", 0, 0),
        ("retry", {}, {}),
        ("retry", {"TIMEOUT": {"tries": 2}}, {"TIMEOUT": RetryRule(2, 60.0, 2.0, 3600.0, 0.1)}),
        ("retry", {"RESOURCE": {"delay": "1s", "cap": "1m", "factor": 1, "jitter": 0}}, {"RESOURCE": RetryRule(3, 1.0, 1.0, 60.0, 0.0)}),
        ("env", {"A": "", "lower_case": "x=y"}, {"A": "", "lower_case": "x=y"}),
        ("cwd", "a/../b/", "b"),
        ("cwd", "", "."),
        ("cwd", "/var/tmp", "/var/tmp"),
        ("cwd", "..x", "..x"),
        ("limits", {"memory": "1.5GB", "cpu": "2m"}, Limits(1_500_000_000, 120)),
        ("limits", {"memory": "512 MiB", "cpu": 0.2, "open_files": 9}, Limits(512 * 2**20, 1, 9)),
        ("limits", {"memory": 2_000_000}, Limits(2_000_000)),
        ("isolation", "spawn", "spawn"),
        ("inputs", ["data/*.csv", "./a//b/", "data/*.csv", "x/../y", "**/*.py"], ("data/*.csv", "a/b", "y", "**/*.py")),
        ("outputs", [], ()),
        ("outputs", ("out/",), ("out",)),
        ("params", {"year": 2024, "wide": True, "share": 0.5, "of": ["a", "b"], "at": "$year"}, {"year": 2024, "wide": True, "share": 0.5, "of": ["a", "b"], "at": "$year"}),
        ("cache", True, True),
        ("checkpoint", True, True),
        ("on_critical", "rollback", "rollback"),
        ("when", " params.year > 2023 ", "params.year > 2023"),
        ("run", "a\nb", "a\nb"),
        ("run", ["a", ""], ("a", "")),
    ],
)  # fmt: skip
def test_right_values(key, value, kept):
    assert getattr(spec_of(**{key: value}), key) == kept


@pytest.mark.parametrize(
    ("key", "value", "message", "hint"),
    [
        ("number", "3", "number: '3' is not a whole number", "number = 3"),
        ("number", True, "number: True is not a whole number", "number = 3"),
        ("number", 3.0, "number: 3.0 is not a whole number", "number = 3"),
        ("number", 10**9, "number: 1000000000 is not a whole number of at most nine digits", "number = 3"),
        ("needs", [16**9999], "needs: a number too long to show is not the number of a phase", "needs = [1, 2]"),
        ("name", 5, "name: 5 is not text", 'name = "..."'),
        ("name", "a\nb", "name: 'a\\nb' holds characters that cannot be printed", "write one plain line"),
        ("name", "a\x1b[31m", "name: 'a\\x1b[31m' holds characters that cannot be printed", "write one plain line"),
        ("name", "x" * 81, "name: 81 characters", "write 1 to 80"),
        ("name", "", "name: 0 characters", "write 1 to 80"),
        ("name", " ", "name: 1 characters", "write 1 to 80"),
        ("title", [], "title: [] is not text", 'title = "..."'),
        ("needs", 2, "needs: 2 is not a list", "needs = [2]"),
        ("needs", "1,2", "needs: '1,2' is not a list of numbers", "needs = [1, 2], or [] for nothing"),
        ("needs", ["a"], "needs: 'a' is not the number of a phase", "needs = [1, 2]"),
        ("needs", [True], "needs: True is not the number of a phase", "needs = [1, 2]"),
        ("timeout", "10 min", "timeout: '10 min' is not a duration", 'write seconds, or "90s", "10m", "2h", "1d"'),
        ("timeout", -5, "timeout: -5 is no length of time for this", "write one between 0 and ten years"),
        ("timeout", float("inf"), "timeout: inf is no length of time for this", "write one between 0 and ten years"),
        ("timeout", 10**400, f"timeout: 1{'0' * 76}... is no length of time for this", "write one between 0 and ten years"),
        ("timeout", "0s", "timeout: must be more than 0", 'timeout = "10m"'),
        ("timeout", {"": "<object>"}, "timeout: <object> is not a duration", 'write seconds, or "90s", "10m", "2h", "1d"'),
        ("heartbeat_timeout", False, "heartbeat_timeout: False is not a duration", 'write seconds, or "90s", "10m", "2h", "1d"'),
        ("retries", -1, "retries: -1 is not a whole number from 0 up", "retries = 3"),
        ("retries", True, "retries: True is not a whole number from 0 up", "retries = 3"),
        ("retry", 3, "retry: 3 is not a table of rules by class", "retry = { TRANSIENT = { tries = 5 } }"),
        ("retry", {"transiant": {}}, "retry: no class transiant", "did you mean TRANSIENT?"),
        ("retry", {"XYZ": {}}, "retry: no class XYZ", "classes are CONFIGURATION, VALIDATION, NOT_FOUND, PERMISSION, CONFLICT, TIMEOUT, TRANSIENT, RESOURCE, INTERRUPTED, INTERNAL, DEPENDENCY, FAILED, REJECTED"),
        ("retry", {"PERMISSION": {"tries": 1}}, "retry: PERMISSION is never retried: it is not allowed to do that, and another try changes nothing", "remove it"),
        ("retry", {"FAILED": 3}, "retry: FAILED: 3 is not a table", "retry = { FAILED = { tries = 5 } }"),
        ("retry", {"FAILED": {"trys": 3}}, "retry: FAILED: unknown key trys", "did you mean tries?"),
        ("retry", {"FAILED": {"tries": "3"}}, "retry: FAILED: tries: '3' is not a whole number from 0 up", "tries = 3"),
        ("retry", {"FAILED": {"delay": "x"}}, "retry: FAILED: delay: 'x' is not a duration", 'write seconds, or "90s", "10m", "2h", "1d"'),
        ("retry", {"FAILED": {"factor": 0.5}}, "retry: FAILED: factor: 0.5 is not a number from 1 to 100", "factor = 1"),
        ("retry", {"FAILED": {"jitter": float("nan")}}, "retry: FAILED: jitter: nan is not a number from 0 to 1", "jitter = 0"),
        ("env", "A=1", "env: 'A=1' is not a table", 'env = { LEVEL = "9" }'),
        ("env", {"LEVEL": 9}, "env: LEVEL: 9 is not text", 'LEVEL = "9"'),
        ("env", {"LEVEL": True}, "env: LEVEL: True is not text", 'LEVEL = "..."'),
        ("env", {"A=B": "x"}, "env: 'A=B' is not the name of a variable", 'env = { LEVEL = "9" }'),
        ("env", {"A": "x\0"}, "env: A: a NUL byte cannot be in the environment", "remove it"),
        ("cwd", 3, "cwd: 3 is not a path", 'cwd = "data"'),
        ("cwd", "a/../../b", "cwd: a/../../b leads out of the project", "write an absolute path if that is meant"),
        ("limits", "500MB", "limits: '500MB' is not a table", 'limits = { memory = "500MB", cpu = "5m", open_files = 256 }'),
        ("limits", {"mem": 1}, "limits: unknown key mem", "did you mean memory?"),
        ("limits", {"memory": "lots"}, "limits: memory: 'lots' is not a size", 'memory = "500MB", or bytes'),
        ("limits", {"memory": "5XB"}, "limits: memory: '5XB' is not a size", 'memory = "500MB", or bytes'),
        ("limits", {"memory": 500}, "limits: memory: 500 bytes is too little for any process to start", 'memory = "500MB"'),
        ("limits", {"memory": "9" * 400}, f"limits: memory: '{'9' * 76}... is more than any machine has", 'memory = "500MB"'),
        ("limits", {"memory": 1.5}, "limits: memory: 1.5 is not a size", 'memory = "500MB", or bytes'),
        ("limits", {"cpu": 0}, "limits: cpu: must be more than 0", 'cpu = "5m"'),
        ("limits", {"open_files": 1.5}, "limits: open_files: 1.5 is not a whole number above 0", "open_files = 256"),
        ("isolation", "thread", "isolation: 'thread' is neither fork nor spawn", 'isolation = "spawn"'),
        ("isolation", {"fork": 1}, "isolation: {'fork': 1} is neither fork nor spawn", 'isolation = "spawn"'),
        ("inputs", "data/*.csv", "inputs: 'data/*.csv' is not a list", 'inputs = ["data/*.csv"]'),
        ("inputs", 3, "inputs: 3 is not a list of patterns", 'inputs = ["data/*.csv"]'),
        ("inputs", [3], "inputs: 3 is not a pattern of files", 'inputs = ["data/*.csv"]'),
        ("inputs", [" "], "inputs: ' ' is not a pattern of files", 'inputs = ["data/*.csv"]'),
        ("inputs", ["a\nb"], "inputs: 'a\\nb' holds characters that cannot be printed", 'inputs = ["data/*.csv"]'),
        ("outputs", ["/tmp/x"], "outputs: '/tmp/x' leads out of the project", 'outputs = ["data/*.csv"]'),
        ("outputs", ["a/../../x"], "outputs: 'a/../../x' leads out of the project", 'outputs = ["data/*.csv"]'),
        ("outputs", ["*/../x"], "outputs: '*/../x' goes back up behind a wildcard", 'outputs = ["data/*.csv"]'),
        ("outputs", ["./system/x"], "outputs: './system/x' leads into system/, which is orch's own", 'outputs = ["data/*.csv"]'),
        ("inputs", ["a/.."], "inputs: 'a/..' is the whole project, orch's own files with it", 'inputs = ["data/*.csv"]'),
        ("params", [1], "params: [1] is not a table of values", "params = { year = 2024 }"),
        ("params", {"a-b": 1}, "params: 'a-b' is not the name of a parameter", "letters, digits and _, no digit first"),
        ("params", {"a": 1, "A": 2}, "params: a and A would be one variable, ORCH_PARAM_A", "rename one of them"),
        ("params", {"a": float("nan")}, "params: a: nan is not text, a number, true or false, or a list of these", 'a = "..."'),
        ("params", {"a": {"b": 1}}, "params: a: {'b': 1} is not text, a number, true or false, or a list of these", "write its values as parameters of their own"),
        ("params", {"a": [[1]]}, "params: a: [[1]] is not text, a number, true or false, or a list of these", 'a = "..."'),
        ("checkpoint", "yes", "checkpoint: 'yes' is neither true nor false", "checkpoint = true"),
        ("on_critical", "undo", "on_critical: 'undo' is not known", 'on_critical = "rollback"'),
        ("when", True, "when: True is not a condition", "when = 'params.year >= 2024'"),
        ("when", "x > 1", "when: 'x > 1' holds 'x': known are params.name, result(N), values, comparisons, in, and, or, not", "when = 'params.year >= 2024'"),
        ("cache", 1, "cache: 1 is neither true nor false", "cache = false"),
        ("run", "", "run: is empty", 'run = "make all"'),
        ("run", [], "run: is empty", 'run = "make all"'),
        ("run", ["a", 1], "run: ['a', 1] is neither a command nor a list of words", 'run = "make all", or ["make", "all"]'),
        ("run", "a\0b", "run: a NUL byte cannot be in a command", "remove it"),
        ("tiemout", 1, "unknown key tiemout", "did you mean timeout?"),
    ],
)  # fmt: skip
def test_wrong_values(key, value, message, hint):
    checked, found = faults_of({"number": 3, "run": "x", key: value})
    label = "" if key == "number" else "phase 3: "
    assert found == [(key, label + message, hint)]
    assert (checked is None) == (key == "number")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=9)
    | st.just("1" * 999),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=5) | st.sampled_from(["TIMEOUT", "tries", "delay", "memory", "cpu"]), inner, max_size=3
        )
    ),
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "number",
                "name",
                "title",
                "needs",
                "timeout",
                "heartbeat_timeout",
                "retries",
                "retry",
                "env",
                "cwd",
                "limits",
                "isolation",
                "inputs",
                "outputs",
                "params",
                "cache",
                "when",
                "run",
            ]
        ),
        ANYTHING,
    ),
    st.booleans(),
)
def test_whatever_is_written_is_refused_or_taken_and_never_raises(keys, is_command):
    checked, found = faults_of(keys, "phases/a.toml" if is_command else "phases/a.py")
    if checked is not None and not found:
        json.dumps(checked.spec.as_dict())
    assert checked is not None or any(key in ("number", "") for key, _, _ in found)


@pytest.mark.parametrize(
    ("keys", "cached"),
    [
        ({}, None), ({"inputs": []}, None), ({"inputs": ["a"]}, True), ({"outputs": ["a"]}, True),
        ({"inputs": ["a"], "cache": False}, False), ({"cache": False}, False), ({"cache": True}, True),
    ],
)  # fmt: skip
def test_a_phase_with_declared_files_is_compared_unless_it_says_otherwise(keys, cached):
    assert spec_of(**keys).cache is cached


def test_whoever_goes_back_has_something_to_go_back_to():
    assert spec_of(on_critical="rollback").checkpoint is True and spec_of().checkpoint is False
    _, found = faults_of({"number": 3, "run": "x", "on_critical": "rollback", "checkpoint": False})
    assert [message for _, message, _ in found] == ["phase 3: on_critical goes back to a checkpoint"]


def test_every_wrong_value_of_a_phase_is_told_at_once():
    _, found = faults_of({"number": 3, "timeout": "x", "env": {"A": 1, "B": 2}, "needs": ["a", "b"]})
    assert [key for key, _, _ in found] == ["timeout", "env", "env", "needs", "needs", ""]
    assert found[-1] == ("", "phase 3: nothing to run", 'write run = "command", or a list')


def test_no_number():
    assert faults_of({"run": "x"}) == (None, [("", "a phase without a number", "write number = 3")])
    assert faults_of({}, "phases/a.py") == (None, [("", "a phase without a number", "write @phase(3)")])


def test_left_out_needs_are_told_apart_from_none_at_all():
    assert [faults_of({"number": 3, "run": "x", **more})[0].needs_left_out for more in ({}, {"needs": []}, {"needs": None})] == [True, False, True]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "name", "title"),
    [
        (Written("phases/a.py", 1, {"number": 3}, "index", "Build\x07 it"), "index", "Build it"),
        (Written("phases/a.py", 1, {"number": 3, "name": "x", "title": "T"}, "index", "Build it"), "x", "T"),
        (Written("phases/a.py", 1, {"number": 3, "name": None}, "<lambda>"), "phase-3", ""),
        (Written("phases/a.toml", 1, {"number": -3, "run": "x"}), "phase--3", ""),
        (Written("phases/a.py", 1, {"number": 3}, "f" * 99), "f" * 80, ""),
    ],
)
def test_default_names(written, name, title):
    checked = check(written, lambda *fault: pytest.fail(str(fault)))
    assert checked is not None and (checked.spec.name, checked.spec.title) == (name, title)


def test_threads_at_import_overrule_fork():
    checked = check(
        Written("phases/a.py", 1, {"number": 3, "isolation": "fork"}, threads=True),
        lambda *fault: pytest.fail(str(fault)),
    )
    assert checked is not None and checked.spec.isolation == "spawn"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("@phase(1)\nasync def f(ctx): ...", "phase 1: f is an async function, which a call does not run: use asyncio.run in a plain one"),
        ("@phase(1)\ndef f(ctx): yield", "phase 1: f is a generator, which a call does not run: take the yield out"),
        ("@phase(1)\ndef f(): ...", "phase 1: f is called with one argument, the context: write def f(ctx)"),
        ("@phase(1)\ndef f(ctx, more): ...", "phase 1: f is called with one argument, the context: write def f(ctx)"),
        ("@phase\ndef f(ctx): ...", "a phase without a number: write @phase(3)"),
        ("@phase(1, 2)\ndef f(ctx): ...", "phase 1: @phase takes one positional argument, its number; 2 is one more"),
        ("phase(1)(5)", "phase 1: @phase stands over 5, which cannot be called"),
        ("@phase(1, timeout=object)\ndef f(ctx): ...", "phase 1: timeout: <class 'object'> is not a duration: write seconds, or \"90s\", \"10m\", \"2h\", \"1d\""),
        ("import datetime\n@phase(1, timeout=datetime.timedelta(0))\ndef f(ctx): ...", 'phase 1: timeout: must be more than 0: timeout = "10m"'),
        ("@phase(1, env={1: 'a'}, needs=[f for f in ('x',)])\ndef f(ctx): ...", "phase 1: needs: 'x' is not the number of a phase: needs = [1, 2]"),
        ("@phase('1')\ndef f(ctx): ...", "number: '1' is not a whole number: number = 3"),
    ],
)  # fmt: skip
def test_the_decorator_is_judged_alike(faults, body, message):
    found = faults({"phases/a.py": f"from orchestrator import phase\n{body}\n"})
    assert len(found) == 1 and found[0].split(": ", 1)[1] == message


@pytest.mark.parametrize("body", ["@phase(1)\ndef f(ctx, more=1): ...", "@phase(1)\ndef f(*a): ...", "phase(1)(print)", "import functools\nphase(1)(functools.partial(print, 1))", "class C:\n    def __call__(self, ctx): ...\nphase(1)(C())", "class C:\n    def m(self, ctx): ...\nphase(1)(C().m)", "import datetime\nphase(1, timeout=datetime.timedelta(minutes=5), needs=set(), env={})(print)", "from pathlib import Path\nphase(1, cwd=Path('data'), needs=range(0))(print)"])  # fmt: skip
def test_whatever_can_be_called_with_a_context_is_a_phase(faults, body):
    assert faults({"phases/a.py": f"from orchestrator import phase\n{body}\n"}) == []
