"""Bad input of every kind: never a traceback, the documented exit code, a sentence that names what is wrong and where."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import string
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import app, config, process
from orchestrator.bridge import survey
from orchestrator.cli import history, showing
from orchestrator.cli.commands import COMMANDS
from orchestrator.cli.main import main
from orchestrator.core.names import iso
from orchestrator.core.setting import SETTINGS
from orchestrator.core.state import State
from orchestrator.errors import RunActive, SettingsError, StateDamaged
from orchestrator.load import load
from orchestrator.load.checks import _READ
from orchestrator.look import Look
from orchestrator.store import asks, heartbeat, lock
from orchestrator.store.lines import encode
from orchestrator.store.reading import read_lines, read_state
from tests.core.given import NOW, completed, failed, intended, run_started
from tests.driving import Ended, Project, seeded, times
from tests.store.given import commit_all, decision, opening, store_of

SLOW = 20.0  # seconds: ten times what is promised, on a machine that is busy with others
HEAVY = 400 * 2**20  # bytes that reading one file may add; 200 MB are promised
EXITS = {0, 1, 2, 3, 4, 5, 6, 74, 75}


def used_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---- phase files


ONE = '[[phase]]\nnumber = 1\nrun = "true"\n'
MANY = "".join(f'[[phase]]\nnumber = {number}\nneeds = [{number - 1}]\nrun = "x"\n' for number in range(2, 10_001))
PHASES: dict[str, str | bytes] = {
    "empty": "",
    "only a comment": "# nothing\n",
    "only a mark": b"\xef\xbb\xbf",
    "utf-16": ONE.encode("utf-16"),
    "utf-32": ONE.encode("utf-32"),
    "latin": b'[[phase]]\nnumber = 1\ntitle = "\xe9"\nrun = "x"\n',
    "half a character": b'[[phase]]\nnumber = 1\ntitle = "\xe2\x82"\nrun = "x"\n',
    "surrogate": b'[[phase]]\nnumber = 1\ntitle = "\xed\xa0\x80"\nrun = "x"\n',
    "surrogate, escaped": '[[phase]]\nnumber = 1\ntitle = "\\ud800"\nrun = "x"\n',
    "nul": b'[[phase]]\nnumber = 1\nrun = "x\0"\n',
    "nul, escaped": '[[phase]]\nnumber = 1\nrun = "x\\u0000"\n',
    "control characters": b'[[phase]]\nnumber = 1\nrun = "\x01\x02"\n',
    "old newlines": ONE.replace("\n", "\r"),
    "no end": '[[phase]]\nnumber = 1\nrun = "x',
    "no end of a long text": '[[phase]]\nnumber = 1\nrun = """x',
    "a table without its end": "[[phase]\nnumber = 1\n",
    "a table of another kind": "[phase]\nnumber = 1\n",
    "a list that is none": "phase = 3\n",
    "a list of numbers": "phase = [1, 2]\n",
    "a list of lists": "phase = [[{number = 1}]]\n",
    "deep lists": "phase = " + "[" * 5000 + "]" * 5000 + "\n",
    "deep tables": "phase = " + "{a=" * 3000 + "1" + "}" * 3000 + "\n",
    "deep names": "[[phase]]\n" + ".".join("a" * 3000) + " = 1\n",
    "deep env": ONE + "env = " + "{a=" * 500 + "1" + "}" * 500 + "\n",
    "a number of ten thousand digits": f"[[phase]]\nnumber = {'9' * 10_000}\nrun = 'x'\n",
    "a number beyond all": f"[[phase]]\nnumber = {2**70}\nrun = 'x'\n",
    "a number below all": f"[[phase]]\nnumber = -{2**70}\nrun = 'x'\n",
    "a fraction": "[[phase]]\nnumber = 1.0\nrun = 'x'\n",
    "infinity": "[[phase]]\nnumber = inf\nrun = 'x'\n",
    "no number": "[[phase]]\nnumber = nan\nrun = 'x'\n",
    "yes": "[[phase]]\nnumber = true\nrun = 'x'\n",
    "a day": "[[phase]]\nnumber = 2026-01-01\nrun = 'x'\n",
    "a word": "[[phase]]\nnumber = 'one'\nrun = 'x'\n",
    "number missing": "[[phase]]\nrun = 'x'\n",
    "run missing": "[[phase]]\nnumber = 1\n",
    "run empty": "[[phase]]\nnumber = 1\nrun = ''\n",
    "run an empty list": "[[phase]]\nnumber = 1\nrun = []\n",
    "run a list of numbers": "[[phase]]\nnumber = 1\nrun = [1]\n",
    "run a table": "[[phase]]\nnumber = 1\nrun = {a = 1}\n",
    "the same key twice": "[[phase]]\nnumber = 1\nnumber = 2\nrun = 'x'\n",
    "the same number twice": ONE + ONE,
    "needs itself": ONE + "needs = [1]\n",
    "needs what is not there": ONE + "needs = [7]\n",
    "needs a word": ONE + "needs = ['one']\n",
    "needs a number, not a list": ONE + "needs = 1\n",
    "needs beyond all": ONE + f"needs = [{2**70}]\n",
    "a circle": ONE + "needs = [2]\n[[phase]]\nnumber = 2\nneeds = [1]\nrun = 'x'\n",
    "a circle of ten thousand": ONE + "needs = [10000]\n" + MANY,
    "an unknown key": ONE + "colour = 'red'\n",
    "a key nearly right": ONE + "timout = '1m'\n",
    "a key in another alphabet": ONE + '"\u0442imeout" = 1\n',
    "an empty key": ONE + '"" = 1\n',
    "a key with a newline": ONE + '"a\\nb" = 1\n',
    "a very long key": ONE + "k" * 100_000 + " = 1\n",
    "a very long title": ONE + f"title = '{'t' * 10_000_000}'\n",
    "ten megabytes of comments": ONE + "# nothing at all\n" * 600_000,
    "ten megabytes of blanks": ONE + " " * 10_000_000,
    "ten megabytes of quotes": ONE + '"' * 1_000_000,
    "a list of a million": ONE + "needs = [" + "2," * 300_000 + "]\n",
    "a timeout below zero": ONE + "timeout = -1\n",
    "a timeout without end": ONE + "timeout = inf\n",
    "a timeout that is none": ONE + "timeout = nan\n",
    "a timeout in parsecs": ONE + "timeout = '3pc'\n",
    "a timeout of a million digits": ONE + f"timeout = '{'9' * 100_000}s'\n",
    "retries of half": ONE + "retries = 0.5\n",
    "retries beyond all": ONE + f"retries = {10**30}\n",
    "retry of an unknown class": ONE + "[phase.retry.LUCK]\ntries = 1\n",
    "retry a number": ONE + "retry = 3\n",
    "an absolute folder": ONE + "cwd = '/'\n",
    "a folder outside": ONE + "cwd = '../..'\n",
    "a folder with a nul": ONE + "cwd = 'a\\u0000'\n",
    "env of numbers": ONE + "env = {A = 1}\n",
    "env with =": ONE + "env = {'A=B' = '1'}\n",
    "env with a nul": ONE + "env = {A = 'x\\u0000'}\n",
    "limits unknown": ONE + "limits = {colour = 1}\n",
    "limits below zero": ONE + "limits = {memory = -1}\n",
    "inputs outside": ONE + "inputs = ['/etc/*']\n",
    "inputs nul": ONE + "inputs = ['\\u0000']\n",
    "inputs a wild pattern": ONE + "inputs = ['" + "**/" * 2000 + "']\n",
    "outputs twice": ONE + "outputs = ['a', 'a']\n",
    "isolation unknown": ONE + "isolation = 'space'\n",
    "settings in it": "jobs = 3\n" + ONE,
    "ten thousand phases": ONE + MANY,
}
FINE = {"ten megabytes of comments", "ten megabytes of blanks", "ten thousand phases", "old newlines"}


@pytest.mark.parametrize("name", PHASES)
def test_a_phase_file_that_is_wrong_is_told_with_file_and_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / "phases").mkdir(mode=0o755)
    data = PHASES[name]
    (tmp_path / "phases" / "a.toml").write_bytes(data if isinstance(data, bytes) else data.encode())
    (tmp_path / "phases" / "a.toml").chmod(0o644)
    before, began = used_memory(), time.monotonic()
    found = load(tmp_path, load_timeout=5, trust=False, cache=None)
    assert time.monotonic() - began < SLOW
    assert used_memory() - before < HEAVY
    for fault in found.faults:
        told = str(fault)
        assert told.startswith("phases/"), told
        assert len(told.encode()) < 5000, "nobody reads that much"
        assert told.isprintable(), told[:200]


# Some of what is generated comes from hypothesis, which makes small what fails; the rest from dice, which are quick.
VALUE = st.recursive(
    st.one_of(
        st.booleans().map(lambda one: str(one).lower()), st.integers(-(10**20), 10**20).map(str),
        st.floats().map(lambda one: repr(one)), st.text(max_size=8).map(json.dumps),
        st.sampled_from(["'1m'", "'2x'", "1979-05-27", "07:32:00", "''", "'**/*'", "'../x'", "[1]", "'TRANSIENT'"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]"),
        st.dictionaries(st.sampled_from(["a", "memory", "cpu", "tries", "TRANSIENT", "b c"]), inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{json.dumps(key)} = {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=4,
)  # fmt: skip
KEY = st.one_of(st.sampled_from(sorted(_READ)), st.sampled_from(["run", "number", "timout", "é"]).map(json.dumps))
TABLE = st.tuples(
    st.sampled_from(["[[phase]]", "[[phase]]", "[[phase]]", "[phase]", "[[phases]]", ""]),
    st.lists(st.tuples(KEY, VALUE), max_size=5),
).map(lambda one: "\n".join([one[0], *(f"{key} = {value}" for key, value in one[1])]))
SOUND = st.integers(-5, 12).map(lambda number: f"[[phase]]\nnumber = {number}\nrun = 'x'\nneeds = [{number - 3}]")
FILE = st.lists(st.one_of(TABLE, SOUND, st.text(max_size=20)), min_size=1, max_size=4).map("\n".join)


@pytest.mark.timeout(600)
@settings(max_examples=times(150, 10_000), database=None)
@given(text=FILE)
def test_any_phase_file_gives_definitions_or_faults(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    _loads(_root(tmp_path_factory), text)


def diced(chance: random.Random, keys: list[str], head: list[str]) -> str:
    """Lines as somebody might have written them who has not read the manual."""
    lines = []
    for _ in range(chance.randint(1, 5)):
        if chance.random() < 0.3:
            lines.append(chance.choice(head))
        else:
            key = chance.choice(keys) if chance.random() < 0.9 else chance.choice(["timout", '"é"', "", "a.b", "phase"])
            sign = ":" if chance.random() < 0.03 else "="
            lines.append(f"{key} {sign} {_value(chance, 0)}{' # why' if chance.random() < 0.1 else ''}")
    return "\n".join(lines)


def _value(chance: random.Random, depth: int) -> str:
    how = chance.random()
    if how < 0.12 and depth < 3:
        return "[" + ", ".join(_value(chance, depth + 1) for _ in range(chance.randint(0, 3))) + "]"
    if how < 0.24 and depth < 3:
        keys = ["a", "memory", "cpu", "tries", "TRANSIENT", '"b c"']
        return "{" + ", ".join(f"{chance.choice(keys)} = {_value(chance, depth + 1)}" for _ in range(2)) + "}"
    if how < 0.5:
        return chance.choice(
            ["1", "0", "-3", "2", "1_0", "0x1f", "1e3", "-0.5", "inf", "nan", str(10**30), "007", "+7"]
        )
    if how < 0.55:
        return chance.choice(['"\x7f"', "\x01", "é", '"""', "[", "{", "x", "'", "1 2"])
    return chance.choice([
        "true", "false", "'1m'", "'2x'", "''", '"\\u0000"', "'x'", "'../x'", "'/etc'", "1979-05-27", "07:32:00", "'**/*'",
        "'1 h'", "'-1s'", "'TRANSIENT'", "'fork'", '"""a\nb"""', '"\\n\\t"',
    ])  # fmt: skip


@pytest.mark.timeout(600)
def test_what_dice_write_gives_definitions_or_faults(tmp_path_factory: pytest.TempPathFactory) -> None:
    chance, root, many = seeded(), _root(tmp_path_factory), times(700, 70_000)
    keys = [*sorted(_READ), "run", "number", "number", "run"]
    head = ["[[phase]]", "[[phase]]", "[phase]", "[[phase]", "[phase.env]", "[phase.retry.TRANSIENT]", "", "# x"]
    fine = 0
    for _ in range(many):
        text = diced(chance, keys, head)
        fine += _loads(root, f"[[phase]]\nnumber = 1\nrun = 'x'\n{text}" if chance.random() < 0.6 else text)
    print(f"files {many}, {fine} of them without fault")
    assert 0 < fine < many / 2


def _loads(root: Path, text: str) -> bool:
    """Whether it does without a fault."""
    data = text.encode("utf-8", "surrogatepass")
    (root / "phases" / "a.toml").write_bytes(data)
    (root / "phases" / "a.toml").chmod(0o644)
    found = load(root, load_timeout=5, trust=False, cache=None)
    assert found.faults or found.specs
    for fault in found.faults:
        assert str(fault).startswith("phases/") and str(fault).isprintable(), str(fault)
    return not found.faults


def _root(factory: pytest.TempPathFactory) -> Path:
    root = factory.getbasetemp() / f"bad-input-{os.getpid()}"
    (root / "phases").mkdir(parents=True, exist_ok=True)
    return root


# ---- settings

SETTING = st.one_of(
    st.sampled_from([setting.name for setting in SETTINGS]),
    st.text(string.ascii_letters + "._-", min_size=1, max_size=12),
)
SETTINGS_FILE = st.lists(
    st.one_of(
        st.tuples(SETTING, VALUE).map(lambda pair: f"{pair[0]} = {pair[1]}"),
        st.sampled_from(["[retry]", "[logs]", "[retry.TRANSIENT]", "[[logs]]", "retry = 1", "logs.keep = 2"]),
        st.text(max_size=12),
    ),
    max_size=5,
).map("\n".join)


@pytest.mark.timeout(600)
@settings(max_examples=times(60, 5_000), database=None)
@given(text=SETTINGS_FILE, name=st.sampled_from(["orch.toml", "pyproject.toml"]))
def test_any_settings_file_holds_or_is_told_with_its_place(
    tmp_path_factory: pytest.TempPathFactory, text: str, name: str
) -> None:
    root = _root(tmp_path_factory)
    body = text if name == "orch.toml" else f"[tool.orch]\n{text}"
    (root / name).write_bytes(body.encode("utf-8", "surrogatepass"))
    try:
        _settles(lambda: config.settings(root, {}, {}), name)
    finally:
        (root / name).unlink()


@pytest.mark.timeout(600)
def test_settings_that_dice_write_hold_or_are_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    chance, root, many = seeded(), _root(tmp_path_factory), times(400, 12_000)
    keys = [setting.name for setting in SETTINGS]
    head = ["[retry]", "[logs]", "[retry.TRANSIENT]", "[[logs]]", "", "# x"]
    for _ in range(many):
        (root / "orch.toml").write_bytes(diced(chance, keys, head).encode("utf-8", "surrogatepass"))
        _settles(lambda: config.settings(root, {}, {}), "orch.toml")
    (root / "orch.toml").unlink()
    print(f"files {many}")


@settings(max_examples=times(60, 3000), database=None)
@given(setting=st.sampled_from([one.name for one in SETTINGS if "." not in one.name]), value=st.text(max_size=12))
def test_any_variable_holds_or_is_told_by_name(
    tmp_path_factory: pytest.TempPathFactory, setting: str, value: str
) -> None:
    name = f"ORCH_{setting.upper()}"
    _settles(lambda: config.settings(_root(tmp_path_factory), {}, {name: value}), name)


def _settles(settle: Callable[[], object], name: str) -> None:
    try:
        settle()
    except SettingsError as error:
        assert error.exit_code == 2 and name in error.message, error.message
        assert all(line.isprintable() for line in error.message.split("\n")), error.message


def test_settings_that_are_no_file_are_told(tmp_path: Path) -> None:
    for make in (lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        path = tmp_path / "orch.toml"
        make(path)
        with pytest.raises(SettingsError, match=r"orch.toml: it cannot be read: a .* stands where a file should"):
            config.settings(tmp_path, {}, {})
        path.rmdir() if path.is_dir() else path.unlink()


# ---- documents on disk: valid JSON of another shape, with a right checksum too

STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**30), 0.5, 1e308, float("inf"), float("nan"), "", "x", "1",
    "\ud800", "\0", "a" * 10_000, [], [1], [[]], {}, {"a": 1}, {"": {}}, [None], "9999-12-31T23:59:59Z", "0001-01-01",
    "2026-11-20T01:02:03Z", "in_progress", "completed", "running", "../../etc", {"code": "NONE", "message": 3},
)  # fmt: skip


def strange(document: Any, chance: random.Random) -> Any:
    """The same with something else at one place, anywhere in it; or a key taken away, added, or renamed."""
    if not isinstance(document, (dict, list)) or not document or chance.random() < 0.08:
        return chance.choice(STRANGE)
    changed = dict(document) if isinstance(document, dict) else list(document)
    key = chance.choice(list(changed)) if isinstance(changed, dict) else chance.randrange(len(changed))
    how = chance.random()
    if isinstance(changed, dict) and how < 0.1:
        del changed[key]
    elif isinstance(changed, dict) and how < 0.2:
        changed[chance.choice(["x", "", "1", "-0", "1e3", "number", "status"])] = chance.choice(STRANGE)
    else:
        changed[key] = strange(changed[key], chance)
    return changed


def sealed(document: Any) -> bytes:
    """As state.json is, with a checksum that fits."""
    if not isinstance(document, dict):
        document = {"version": 1, "x": document}
    document.pop("check", None)
    body = json.dumps(document, separators=(",", ":")).encode()[:-1]
    return body + b',"check":"%08x"}\n' % zlib.crc32(body)


@pytest.fixture
def told(tmp_path: Path) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    """A project with a history: its root, state.json as a document, and the lines of its journal."""
    (tmp_path / "phases").mkdir()
    system = tmp_path / "system"
    store = store_of(system)
    commit_all(store, [opening(3), decision(intended(1)), decision(completed(1), intended(2)), decision(failed(2))])
    commit_all(store, [decision(intended(3)), decision(run_started())])
    store.close()
    (system / "agents" / "a1" / "outcomes").mkdir(parents=True)
    (system / "logs").mkdir()
    lines = (system / "journal" / "000000000001.jsonl").read_text().splitlines()
    return tmp_path, json.loads((system / "state.json").read_text()), [json.loads(line) for line in lines]


def shown(root: Path, seen: Counter[str]) -> None:
    """All that readers do with what they read: a sentence with exit code 4, or no trouble at all."""
    try:
        look = Look(root, reads_files=False)
        json.dumps(showing.document(look), default=str)
        showing.status_lines(look, everything=True)
        rows = history.rows_of(look.state)
        history.lines(look.state, rows, history.ASCII, None, everything=True)
        seen["shown"] += 1
    except StateDamaged as error:
        assert error.exit_code == 4 and error.remedy
        assert "json" in error.message, error.message
        seen["refused"] += 1


DOCUMENTS = times(2500, 100_000)


@pytest.mark.timeout(600)
def test_a_state_of_another_shape_is_never_taken_as_one(
    told: tuple[Path, dict[str, Any], list[dict[str, Any]]],
) -> None:
    root, document, _ = told
    chance, seen, path = seeded(), Counter[str](), root / "system" / "state.json"
    for number in range(DOCUMENTS // 5):
        changed = strange(document, chance)
        path.write_bytes(sealed(changed))
        if number % 2:  # with nothing to prove otherwise
            (root / "system" / "journal" / "000000000001.jsonl").touch()
        shown(root, seen)
    print(f"documents {DOCUMENTS // 5}, {dict(seen)}")
    assert seen["shown"] and seen["refused"]


@pytest.mark.timeout(600)
def test_a_line_of_another_shape_is_never_followed(told: tuple[Path, dict[str, Any], list[dict[str, Any]]]) -> None:
    root, _, lines = told
    chance, seen, path = seeded(), Counter[str](), root / "system" / "journal" / "000000000001.jsonl"
    (root / "system" / "state.json").unlink()
    for _ in range(DOCUMENTS // 5):
        at, chain, data = chance.randrange(len(lines)), 0, b""
        for number, line in enumerate(lines):
            body = {key: value for key, value in line.items() if key != "sum"}
            body = strange(body, chance) if number == at else body
            raw, chain = encode(body if isinstance(body, dict) else {"v": body}, chain)
            data += raw
        path.write_bytes(data)
        shown(root, seen)
        try:
            read_lines(root / "system")
        except StateDamaged:
            seen["lines refused"] += 1
    print(f"lines {DOCUMENTS // 5}, {dict(seen)}")
    assert seen["shown"] and seen["refused"] and seen["lines refused"]


SMALL: dict[str, Any] = {
    "logs/heartbeat.json": {
        "state": "running", "pid": 10, "ticks": 2, "boot": "b", "host": "h", "run": "r", "at": iso(NOW),
        "heartbeat_seconds": 2, "doing": [], "eta_seconds": {"low": 1.0, "likely": 2.0, "high": 3.0},
    },
    "state.lock": {
        "identity": {"pid": 10, "ticks": 2, "boot": "b", "host": "h"}, "purpose": "run", "since": iso(NOW),
        "command": "orch run",
    },
    "asks/a1.json": {"version": 1, "ask": "a1", "verb": "retry", "number": 3, "by": "me", "at": iso(NOW)},
    "agents/a1/identity.json": {"agent": "a1", "pid": 10, "ticks": 2, "boot": "b", "host": "h", "version": 1},
    "agents/a1/outcomes/2.1.json": {
        "version": 1, "attempt": "r1/2.1",
        "outcome": {"kind": "exited", "exit_status": 1, "duration_seconds": 2.0, "log": "x", "tail": ["y"],
                    "failure": {"code": "FAILED", "message": "no"}, "result": {"a": 1}},
    },
}  # fmt: skip


@pytest.mark.timeout(600)
def test_the_small_documents_of_another_shape_are_as_if_they_were_not_there(
    told: tuple[Path, dict[str, Any], list[dict[str, Any]]],
) -> None:
    root, _, _ = told
    system, chance, seen = root / "system", seeded(), Counter[str]()
    (system / "asks").mkdir()
    here = process.myself()
    for number in range(DOCUMENTS * 3 // 5):
        name, document = chance.choice(list(SMALL.items()))
        if number % 2:  # of this machine: more is done with it
            text = json.dumps(document).replace('"b"', json.dumps(here.boot)).replace('"h"', json.dumps(here.host))
            document = json.loads(text)
        (system / name).write_text(json.dumps(strange(document, chance)))
        seen[name] += 1
        pulse, holder = heartbeat.read(system, NOW), lock.holder(system)
        if holder is not None:
            assert str(holder)
            process.is_alive(holder.identity)
        seen["pulse"] += pulse is not None
        seen["ask"] += (ask := asks.parse(system / "asks/a1.json")) is not None and bool(ask.verb)
        try:
            survey.survey(system, State().agents)
        except StateDamaged as error:
            assert "is of format" in error.message and "2.1.json" in error.message
            seen["refused"] += 1
        if number % 6 == 0:
            try:
                shown(root, seen)
            except StateDamaged:
                seen["refused"] += 1
        (system / name).write_text(json.dumps(document))
    print(f"documents {DOCUMENTS * 3 // 5}, {dict(seen)}")
    assert seen["refused"] and seen["pulse"] and seen["ask"] and all(seen[name] for name in SMALL)


BYTES = (
    b"", b"\0", b"null", b"[]", b"{}", b"3", b'"x"', b"{", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"1" * 50_000,
    b"NaN", b"\xef\xbb\xbf{}", b" " * 1_000_000, b'{"version": 99}',
)  # fmt: skip


@pytest.mark.parametrize("data", BYTES, ids=lambda data: repr(data[:12]))
def test_bytes_that_are_no_document_are_told_apart(
    told: tuple[Path, dict[str, Any], list[dict[str, Any]]], data: bytes
) -> None:
    root, _, _ = told
    (root / "system" / "asks").mkdir()
    seen = Counter[str]()
    for name in SMALL:
        (root / "system" / name).write_bytes(data)
        if name.endswith("2.1.json") and b"99" in data:
            with pytest.raises(StateDamaged, match=r"2\.1\.json is of format 99"):
                Look(root, reads_files=False)
            (root / "system" / name).unlink()
        elif name.startswith("asks") and b"99" not in data:
            assert asks.parse(root / "system" / name) is None
        shown(root, seen)
    for name in ("state.json", "journal/000000000001.jsonl"):
        (root / "system" / name).write_bytes(data)
        shown(root, seen)
    assert sum(seen.values()) == len(SMALL) + 2
    if b"99" not in data:
        with pytest.raises(StateDamaged):
            read_state(root / "system")


# ---- command line and environment

WORDS = (
    *(name for listed in COMMANDS.values() for name in listed), "--json", "--project", "--jobs", "--only", "--from",
    "--to", "--new", "--force", "--dry-run", "--no-wait", "--phase", "--attempt", "--since", "--grep", "--graph", "-f",
    "--help", "--version", "--all", "--watch", "--", "-", "--=", "-8", "-0", "0", "1", "99999999999999999999", "1e9", "1,2,",
    ",", "1-2", "--5", "nan", "٣", "é", "\udcff", "a\tb", "$(x)", "../..", "/", "/dev/null", "/nowhere", "(", "[", "*",
    "\n", " ", "", "x" * 5000, "text", "show", "check", "--template", "--takeover", "--repair", "--quiet", "--set", "a=b",
)  # fmt: skip
VARIABLES = {
    "ORCH_JOBS": ("0", "-1", "x", "1e3", "9" * 50, "٣", " 4 ", "\x7f"),
    "ORCH_TIMEOUT": ("-1s", "nan", "1y", "1" * 5000),
    "ORCH_PROJECT": ("", "/nowhere", "/dev/null", "x\ny", "/", "." * 5000, "\udcff"),
    "ORCH_PHASE": ("", "x"),
    "ORCH_TRUST": ("perhaps", "true"),
    "HOME": ("", "/nowhere"),
    "COLUMNS": ("0", "-3", "x", "1" * 30),
    "TERM": ("", "dumb", "x" * 300),
    "NO_COLOR": ("", "1"),
}
HAND_MADE = (
    "", "--help", "-h", "nonsense", "stat", "status extra", "status --nonsense", "status --json=3", "status --all --all",
    "status --watch --json", "status --project", "status --project /nowhere", "status --project /dev/null",
    "--project . status", "logs", "logs x", "logs 99", "logs --", "logs -- -8", "logs 1 2", "logs 1 --grep (", "logs 1 --grep [",
    "logs 1 --since never", "logs 1 --since 9999999999999d", "logs 1 --since -1s", "logs 1 --since 9999-99-99",
    "logs 1 --attempt 0", "logs 1 --attempt -1", "logs 1 --attempt x", "logs 99999999999999999999999999", "logs -0", "logs 1e3",
    "logs 1[2]", "story", "story x", "story 99", "story -99", "story 1 1", "history --phase", "history --phase x",
    "history --phase 99", "history --all --json", "history extra", "plan --graph", "plan --graph nonsense", "plan --graph text x",
    "plan --json --graph dot", "run --jobs", "run --jobs 0", "run --jobs -1", "run --jobs x", "run --jobs 1e3",
    "run --jobs 99999999999999999999", "run --only", "run --only x", "run --only ,", "run --only 1,,2", "run --only 99",
    "run --only 1 --from 1", "run --from x", "run --from 5 --to 1", "run --from 99", "run --to", "run 1", "run 1 2",
    "run --nonsense", "run --quiet --json", "run --with-needs 3", "cancel x", "cancel 1 2", "retry", "retry x", "retry 1 2",
    "recover 1", "recover --json x", "fsck x", "fsck --repair x", "fsck --jsn", "config", "config x", "config show x",
    "config check --json x", "init", "init --template nonsense x", "init /dev/null/x", "init a b", "--version --json",
    "--version x", "--show-completion nonsense", "-x", "--", "-- status", "-8",
)  # fmt: skip


@pytest.fixture
def speak(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[list[str], dict[str, str]], Ended]:
    """The way in, in this process; nothing is ever started, and nothing written but by `orch fsck --repair`."""
    project.commands({"number": 1, "name": "one", "run": "true", "needs": []}, {"number": -8, "name": "x", "run": "x"})

    def nothing(*_: object, **__: object) -> None:
        raise RunActive("a test: nothing is started", "")

    for name in ("run", "recover", "ask_in_turn"):
        monkeypatch.setattr(app, name, nothing)
    monkeypatch.setattr("orchestrator.cli.init.command", nothing, raising=False)
    before = dict(os.environ)

    def call(words: list[str], environ: dict[str, str]) -> Ended:
        os.chdir(project.root)
        os.environ.clear()
        os.environ.update({**before, **{name: value for name, value in environ.items() if "\0" not in value}})
        sys.argv = ["orch", *words]
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), *capfd.readouterr())

    monkeypatch.chdir(project.root)
    monkeypatch.setattr(sys, "argv", ["orch"])
    yield call
    os.environ.clear()
    os.environ.update(before)


def held(ended: Ended, words: list[str], environ: dict[str, str]) -> None:
    assert ended.code in EXITS, (words, environ, ended)
    assert "Traceback" not in ended.text and "a fault of orch" not in ended.text, (words, environ, ended)
    assert ended.code == 0 or ended.text.strip(), (words, environ)


@pytest.mark.timeout(120)
def test_every_mistake_at_the_command_line_is_answered(
    speak: Callable[[list[str], dict[str, str]], Ended],
) -> None:
    codes = Counter[int]()
    for line in HAND_MADE:
        ended = speak(line.split(), {})
        held(ended, line.split(), {})
        codes[ended.code] += 1
    print(f"lines {len(HAND_MADE)}, exit codes {dict(codes)}")
    assert codes[2] > 50 and codes[0] > 3


LINES = times(500, 20_000)


@pytest.mark.timeout(120 + LINES // 20)
def test_any_words_and_any_environment_are_answered(speak: Callable[[list[str], dict[str, str]], Ended]) -> None:
    chance, codes = seeded(), Counter[int]()
    for _ in range(LINES):
        words = [chance.choice(WORDS) for _ in range(chance.randint(0, 5))]
        if {"init", "--watch", "-f", "--follow", "-w"} & set(words):
            continue  # these write, or wait for somebody: they have tests of their own
        chosen = chance.sample(sorted(VARIABLES), chance.choice((0, 0, 1, 2)))
        environ = {name: chance.choice(VARIABLES[name]) for name in chosen}
        ended = speak(words, environ)
        held(ended, words, environ)
        codes[ended.code] += 1
    print(f"lines {sum(codes.values())}, exit codes {dict(codes)}")
    assert codes[2] and codes[0]


@pytest.mark.timeout(120)
def test_what_only_a_process_of_its_own_can_be_given(project: Project) -> None:
    """Arguments that are no text, no home, closed descriptors, another language, no memory to speak of."""
    project.commands({"number": 1, "name": "naïve ☃", "run": "true", "needs": []})
    for words in (["status", b"\xff"], ["logs", b"\xff\xfe"], ["--project", b"\xff", "status"], [b"\xff"]):
        ended = project.cold(*words)  # type: ignore[arg-type]
        held(ended, [repr(word) for word in words], {})
        assert ended.code == 2
    for environ in ({"HOME": ""}, {"LANG": "C", "LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "xx_YY"}):
        for words in (["plan"], ["status"]):
            ended = project.cold(*words, env=environ)
            held(ended, words, environ)
            assert ended.code == 0, (words, environ, ended)
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        ended = project.shell(f"$ORCH plan {closed}")
        held(Ended(ended.code, ended.out, ended.err or " "), [closed], {})
        assert ended.code == 0, (closed, ended)
    gone = project.root / "gone"
    gone.mkdir()
    ended = project.shell(f"cd gone && rmdir {gone} && $ORCH status")
    held(ended, ["status"], {})
    shutil.rmtree(gone, ignore_errors=True)
