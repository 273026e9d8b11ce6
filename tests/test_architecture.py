"""The arrows, the pure core, the single hands and the sizes: what the shape of the code promises, read from the code."""

from __future__ import annotations

import ast
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from orchestrator.core import events, phase, state, table

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "orchestrator"

# In the core, among the small hands of floor 2 and on the floor that joins them the order is that of reading: each may know those before it.
CORE = (
    "formats", "item", "value", "names", "causes", "outcome", "gate", "spec", "slot", "integration", "wire", "setting", "outward", "own", "quiet", "target", "graph", "escapes", "masking",
    "cachekey", "condition", "expression", "schedule", "crontab", "covering", "events", "due", "table", "phase", "carrying", "state", "observations", "actions", "stuck", "retry", "pools", "fanout", "plan",
    "preview", "priority", "agenda", "flaw", "checkpoint", "draft", "undoing", "fanning", "judging", "deciding", "asking", "ending", "starting",
    "decide", "reconcile", "story", "telling", "drawing", "eta", "health",
)  # fmt: skip
HANDS = (
    "ports", "clock", "disk", "files", "process", "project", "signals", "layers", "checked", "config", "secret", "author", "context", "phasefile",
    "inbox", "supervisor",
)  # fmt: skip
JOINTS = (
    "recovery",
    "look",
    "fitting",
    "beginning",
    "fsck",
    "keeper",
    "outgoing",
    "holding",
    "resting",
    "app",
    "rollback",
    "scheduling",
    "checkup",
)

# Imports go strictly downwards, and rooms on one floor are strangers.
FLOORS = {
    "errors": 0,
    "core": 1,
    **dict.fromkeys(HANDS, 2),
    **dict.fromkeys(("engine", "store", "load", "agent", "bridge", "cron", "services", "watch"), 3),
    **dict.fromkeys(JOINTS, 4),
    "cli": 5,
}

# What a pure module may use: nothing here reads a clock, rolls dice, or touches the world (of signal: the names).
PURE = frozenset(
    "__future__ ast base64 bisect collections cronsim datetime difflib enum errno functools graphlib hashlib heapq html itertools json math"
    " operator re signal string types typing urllib.parse".split()
)
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "__import__"})

IMPURE_SIGNAL = frozenset(name for name in dir(signal) if name.islower())

CLOCK, SPAWN, SYNC = "clock", "process", "disk"
NOW = frozenset({"now", "utcnow", "today"})
READING = frozenset(name for name in dir(time) if name.islower()) - {"tzset", "mktime", "strptime", "struct_time"}
SPAWNING = frozenset(
    "fork forkpty posix_spawn posix_spawnp system popen kill killpg pidfd_send_signal execl execle execlp execlpe execv"
    " execve execvp execvpe spawnl spawnle spawnlp spawnlpe spawnv spawnve spawnvp spawnvpe".split()
)
SYNCING = frozenset({"fsync", "fdatasync", "sync"})

MOST_LINES, MOST_FUNCTION_LINES = 400, 80
LONG_FILES: dict[str, int] = {}  # name -> its lines: an exception is named here, with its reason
LONG_FUNCTIONS: dict[str, int] = {}

HEAVY = ("pydantic", "typer", "rich", "tenacity", "psutil", "asyncio")
AVOIDABLE = ("dataclasses", "logging", "subprocess", "inspect")  # the lock's library needs them: store/ is let off


class Module(NamedTuple):
    name: str  # orchestrator.core.plan
    tree: ast.Module
    lines: int

    @property
    def room(self) -> str:
        """The part directly below the package; empty for the package's own face."""
        return self.name.partition(".")[2].partition(".")[0]

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]


class Import(NamedTuple):
    source: Module
    target: str
    line: int
    hidden: bool  # inside a function

    def __str__(self) -> str:
        return f"{self.source.name}:{self.line} imports {self.target}"


def parse(sources: dict[str, str]) -> list[Module]:
    return [Module(name, ast.parse(text), text.count("\n") + 1) for name, text in sorted(sources.items())]


@cache
def modules() -> list[Module]:
    templates = ROOT / PACKAGE / "templates"  # no part of orch: projects of its users, before they are theirs
    files = sorted(file for file in (ROOT / PACKAGE).rglob("*.py") if templates not in file.parents)
    return parse({_dotted(file): file.read_text("utf-8") for file in files})


def _dotted(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(among: list[Module]) -> Iterator[Import]:
    known = {module.name for module in among}
    for module in among:
        hidden = {
            inner
            for outer in ast.walk(module.tree)
            if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for inner in ast.walk(outer)
        }
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(module, alias.name, node.lineno, node in hidden)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module.name}:{node.lineno}: imports name their module in full"
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield Import(module, inner if inner in known else str(node.module), node.lineno, node in hidden)


def own_imports(among: list[Module]) -> list[Import]:
    return [found for found in imports(among) if found.target.split(".")[0] == PACKAGE]


def calls(module: Module, owners: frozenset[str], names: frozenset[str]) -> Iterator[str]:
    """Where `owner.name` is used, or `name` imported from an owner, whether it is called there or handed on."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in owners and node.attr in names:
                yield f"{module.name}:{node.lineno} uses {node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module in owners:
            yield from (
                f"{module.name}:{node.lineno} imports {node.module}.{alias.name}"
                for alias in node.names
                if alias.name in names
            )


# The checks: each says what is wrong, in words


def without_a_floor(among: list[Module]) -> list[str]:
    rooms = {module.room for module in among if module.room}
    files = {module.leaf for module in among if module.room == "core"} - {"core"}
    return [
        *(f"{room} stands on no floor: give it one in FLOORS" for room in sorted(rooms - FLOORS.keys())),
        *(f"core/{name}.py has no place in CORE" for name in sorted(files - set(CORE))),
    ]


def against_the_arrows(among: list[Module]) -> list[str]:
    return [str(found) for found in own_imports(among) if not _is_downwards(found)]


def _is_downwards(found: Import) -> bool:
    source, target = found.source.room, found.target.partition(".")[2].partition(".")[0]
    if not source or not target:
        return (
            not target or FLOORS.get(target, 0) <= 2
        )  # the face shows what authors use; and whoever asks it for the version
    if source == target == "core" and found.source.leaf != "core":
        return found.target == f"{PACKAGE}.core" or _is_earlier(
            found.target.rpartition(".")[2], found.source.leaf, CORE
        )
    if source == target:
        return True
    for order in (HANDS, JOINTS):
        if source in order and target in order:
            return _is_earlier(target, source, order)
    return FLOORS.get(target, 0) < FLOORS.get(source, 9)  # without a floor: said elsewhere


def _is_earlier(target: str, source: str, order: tuple[str, ...]) -> bool:
    return target in order and source in order and order.index(target) < order.index(source)


def hidden_imports(among: list[Module]) -> list[str]:
    return [f"{found}, hidden in a function" for found in own_imports(among) if found.hidden]


def circles(among: list[Module]) -> list[str]:
    arrows: dict[str, set[str]] = {module.name: set() for module in among}
    for found in own_imports(among):
        arrows[found.source.name].add(found.target)
    while ends := [name for name, targets in arrows.items() if not targets & arrows.keys()]:
        for name in ends:
            del arrows[name]
    return [f"{name} is part of a circle, or imports one: {sorted(arrows)}" for name in sorted(arrows)]


def impurities(among: list[Module]) -> list[str]:
    core = [module for module in among if module.room == "core"]
    found = [
        f"{item}, which is not pure"
        for item in imports(core)
        if not {item.target, item.target.split(".")[0]} & {*PURE, PACKAGE}
    ]
    for module in core:
        found += (
            f"{module.name}:{node.lineno} calls {node.func.id}()"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS
        )
        found += calls(module, frozenset({"signal"}), IMPURE_SIGNAL)
    return found


def clock_readers(among: list[Module]) -> list[str]:
    others = [module for module in among if module.room != CLOCK]
    return [
        *(use for module in others for use in calls(module, frozenset({"time"}), READING)),
        *(use for module in among for use in calls(module, frozenset({"datetime", "date"}), NOW)),
    ]


def spawners(among: list[Module]) -> list[str]:
    libraries = {"subprocess", "multiprocessing", "pty"}
    others = [module for module in among if module.room != SPAWN]
    found = [str(item) for item in imports(others) if item.target.split(".")[0] in libraries]
    return found + [use for module in others for use in calls(module, frozenset({"os", "signal"}), SPAWNING)]


def syncers(among: list[Module]) -> list[str]:
    return [use for module in among if module.room != SYNC for use in calls(module, frozenset({"os"}), SYNCING)]


def without_docstring(among: list[Module]) -> list[str]:
    return [module.name for module in among if not ast.get_docstring(module.tree)]


def too_long(among: list[Module]) -> list[str]:
    found = [
        f"{module.name}: {module.lines} lines, more than {LONG_FILES.get(module.name, MOST_LINES)}"
        for module in among
        if module.lines > LONG_FILES.get(module.name, MOST_LINES)
    ]
    for module in among:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name, length = f"{module.name}.{node.name}", (node.end_lineno or 0) - node.lineno + 1
                if length > LONG_FUNCTIONS.get(name, MOST_FUNCTION_LINES):
                    found.append(f"{name}: {length} lines")
    return found


CHECKS: tuple[Callable[[list[Module]], list[str]], ...] = (
    without_a_floor, against_the_arrows, hidden_imports, circles, impurities, clock_readers, spawners, syncers,
    without_docstring, too_long,
)  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_code_keeps_its_shape(check: Callable[[list[Module]], list[str]]) -> None:
    assert "\n".join(check(modules())) == ""


D = '"""A module."""\n'


@pytest.mark.parametrize(
    ("check", "sources", "told"),
    [
        (without_a_floor, {"orchestrator.cellar": D}, "cellar stands on no floor"),
        (without_a_floor, {"orchestrator.core.luck": D}, "core/luck.py has no place"),
        (against_the_arrows, {"orchestrator.store.lock": D + "import orchestrator.load"}, "imports orchestrator.load"),
        (against_the_arrows, {"orchestrator.disk": D + "from orchestrator.store import lock"}, "disk:2 imports"),
        (
            against_the_arrows,
            {"orchestrator.clock": D + "from orchestrator import disk", "orchestrator.disk": D},
            "disk",
        ),
        (
            against_the_arrows,
            {"orchestrator.errors": D + "from orchestrator import core", "orchestrator.core": D},
            "core",
        ),
        (against_the_arrows, {"orchestrator.core.names": D + "from orchestrator.core.plan import Plan"}, "core.plan"),
        (against_the_arrows, {"orchestrator": D + "from orchestrator.cli import main"}, "orchestrator.cli"),
        (hidden_imports, {"orchestrator.app": D + "def f():\n    from orchestrator import engine\n"}, "hidden"),
        (
            circles,
            {
                "orchestrator.store.a": D + "from orchestrator.store.b import x",
                "orchestrator.store.b": D + "from orchestrator.store import a",
            },
            "store.a",
        ),
        (impurities, {"orchestrator.core.plan": D + "import os"}, "imports os, which is not pure"),
        (impurities, {"orchestrator.core.plan": D + "from random import random"}, "imports random"),
        (impurities, {"orchestrator.core.plan": D + "def f():\n    import logging\n"}, "imports logging"),
        (impurities, {"orchestrator.core.plan": D + "import signal\nsignal.alarm(1)"}, "uses signal.alarm"),
        (impurities, {"orchestrator.core.plan": D + "import urllib.request"}, "imports urllib.request"),
        (impurities, {"orchestrator.core.plan": D + "print(1)"}, "calls print()"),
        (clock_readers, {"orchestrator.app": D + "import time\ntime.monotonic_ns()"}, "uses time.monotonic_ns"),
        (clock_readers, {"orchestrator.app": D + "from time import sleep"}, "imports time.sleep"),
        (clock_readers, {"orchestrator.core.plan": D + "datetime.now()"}, "uses datetime.now"),
        (spawners, {"orchestrator.agent.loop": D + "import subprocess"}, "imports subprocess"),
        (spawners, {"orchestrator.agent.loop": D + "import os\nos.kill(1, 9)"}, "uses os.kill"),
        (spawners, {"orchestrator.agent.loop": D + "from os import fork"}, "imports os.fork"),
        (syncers, {"orchestrator.store.lock": D + "import os\nsync = os.fsync"}, "uses os.fsync"),
        (without_docstring, {"orchestrator.app": "x = 1"}, "orchestrator.app"),
        (too_long, {"orchestrator.app": D + "x = 1\n" * 400}, "402 lines"),
        (too_long, {"orchestrator.app": D + "def f():\n" + "    x = 1\n" * 80}, "orchestrator.app.f: 81 lines"),
    ],
)
def test_each_check_sees_what_it_is_for(
    check: Callable[[list[Module]], list[str]], sources: dict[str, str], told: str
) -> None:
    assert told in "\n".join(check(parse(sources)))


def test_what_is_allowed_is_not_reported() -> None:
    innocent = {
        "orchestrator": D + "from orchestrator.author import phase",
        "orchestrator.cli.run": D + "from orchestrator import __version__\ndef f():\n    import rich\n",
        "orchestrator.core.plan": D + "from orchestrator.core import names\nimport json",
        "orchestrator.core.names": D,
        "orchestrator.phasefile": D + "from orchestrator import author, clock",
        "orchestrator.author": D,
        "orchestrator.clock": D + "import time",
        "orchestrator.process": D + "import os\nos.kill(1, 9)",
        "orchestrator.disk": D + "import os\nos.fsync(1)",
        "orchestrator.store.lock": D
        + "from orchestrator.store import lines\nfrom orchestrator.errors import RunActive",
        "orchestrator.store.lines": D,
    }
    assert [told for check in CHECKS for told in check(parse(innocent))] == []


# Events: a class, a row, a branch, a golden line


def kinds() -> set[str]:
    """The events that are written down: neither a common part of several (private, or with subclasses)."""
    return {name for name, cls in events.Event.kinds.items() if not name.startswith("_") and not cls.__subclasses__()}


def test_every_event_about_a_phase_has_a_row_in_the_table_and_every_row_an_event() -> None:
    about_phases = {name for name in kinds() if issubclass(events.Event.kinds[name], events.PhaseEvent)}
    assert set(table.TABLE) == about_phases


def test_the_table_leads_only_to_places_that_exist() -> None:
    places = (set(table.STATUSES) - {table.IN_PROGRESS}) | table.STEPS
    used = {place for moves in table.TABLE.values() for pair in moves.items() for place in pair}
    assert used == places


def test_every_event_has_a_branch_in_the_fold() -> None:
    branches = {cls.__name__ for fold in (phase._PHASE_FOLD, state._RUN_FOLD) for cls in fold}
    assert branches == kinds()


def test_every_event_has_a_golden_line() -> None:
    """What a journal holds is a promise to the next release: a field that is renamed shows here."""
    lines = (ROOT / "tests/core/golden_events.jsonl").read_text("utf-8").splitlines()
    golden = [json.loads(line) for line in lines]
    assert {line["event"] for line in golden} == kinds()
    for line in golden:
        event = events.Event.from_dict(line)
        assert vars(event).keys() == set(event._fields)
        assert event.as_dict() == line


# What a start costs is counted in modules: seconds depend on who else is busy


def fast_modules() -> list[str]:
    fast = {"core", "agent", "store", "engine", "look", *HANDS}
    names = [module.name for module in modules() if module.room in fast and module.leaf != "__main__"]
    return [PACKAGE, *names]


@pytest.mark.parametrize("room", ["", "core", "agent", "store", "engine", "look", *HANDS])
def test_a_fast_start_imports_nothing_heavy(room: str) -> None:
    names = [name for name in fast_modules() if name.partition(".")[2].partition(".")[0] == room]
    if not names:
        pytest.skip(f"there is no {room} yet")
    assert loaded_by(names, HEAVY if room == "store" else HEAVY + AVOIDABLE) == []


def loaded_by(names: list[str], unwanted: tuple[str, ...]) -> list[str]:
    code = f"import sys, {', '.join(names)}\nprint(*[name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_count_of_modules_sees_a_heavy_one() -> None:
    assert loaded_by(["asyncio", "psutil"], HEAVY) == ["psutil", "asyncio"]
    assert "dataclasses" in loaded_by(["dataclasses"], AVOIDABLE)
