"""Mutation: changes one thing at a time in the code that must not fail, and counts how often a test notices.

    python bench/mutation.py                       all of the store and of identity
    python bench/mutation.py orchestrator/store/lock.py --sample 40 --seed 7

Each mutant is tried in a copy of the checkout on a disk in memory, first by the tests opposite to its file, then by the
others of the room. What survives is listed: with its line, so that somebody can say why, or write the test.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
STORE = ("lines", "journal", "snapshot", "reading", "store", "lock", "taking", "asks", "heartbeat")
TARGETS = [f"orchestrator/store/{name}.py" for name in STORE] + [
    "orchestrator/process/alive.py",
    "orchestrator/core/reconcile.py",
]
MORE_TESTS = {
    "store": ["tests/store"],
    "process": ["tests/test_process_alive.py", "tests/test_process_identity.py", "tests/test_process.py"],
    "core": ["tests/core/test_reconcile.py", "tests/core/test_reconcile_unknown.py", "tests/core/test_model.py"],
}
SECONDS = 120  # a mutant that hangs is noticed, too
NOTICED, SURVIVED = "noticed", "SURVIVED"

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


class Mutant(NamedTuple):
    path: str
    line: int
    what: str
    source: str


def mutants(path: str) -> Iterator[Mutant]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    for index, node in enumerate(_places(tree)):
        for number, what in enumerate(_changes(node)):
            changed = copy.deepcopy(tree)
            twin = _places(changed)[index]
            _apply(twin, number)
            yield Mutant(path, getattr(node, "lineno", 0), what, ast.unparse(ast.fix_missing_locations(changed)))


def _places(tree: ast.AST) -> list[ast.AST]:
    """Where a change would be one of behaviour: annotations, slots and words for people are left as they are."""
    found, waiting = list[ast.AST](), deque([tree])
    while waiting:
        node = waiting.popleft()
        if not isinstance(node, ast.JoinedStr):
            found.append(node)
        waiting.extend(child for name, child in _children(node) if not _is_told(name, child))
    return found


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for name, value in ast.iter_fields(node):
        yield from ((name, child) for child in (value if isinstance(value, list) else [value]) if _is_node(child))


def _is_node(value: object) -> bool:
    return isinstance(value, ast.AST)


def _is_told(field: str, node: ast.AST) -> bool:
    """Annotations, `__slots__` and docstrings: to change them changes nothing that a test should know."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "__slots__" for target in node.targets)
    return field in ("annotation", "returns") or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _changes(node: ast.AST) -> list[str]:
    """What can be changed about it, in the order in which `_apply` knows it."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        return [f"{ast.unparse(node)}: {COMPARED[type(node.ops[0])].__name__}"]
    if isinstance(node, ast.BoolOp):
        return [f"{ast.unparse(node)}: {'or' if isinstance(node.op, ast.And) else 'and'}"]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return [f"{ast.unparse(node)}: without not"]
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        return [f"{node.value} -> {_other(node.value)}"]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        return [f"{ast.unparse(node)}: the other sign"]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return [f"{ast.unparse(node)}: left out"]
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
        return [f"if {ast.unparse(node.test)}: the other way round"]
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        return [f"{ast.unparse(node)}: None"]
    if isinstance(node, ast.Raise):
        return [f"{ast.unparse(node)[:60]}: left out"]
    if isinstance(node, ast.Continue):
        return ["continue: break"]
    return []


def _apply(node: ast.AST, number: int) -> None:
    if isinstance(node, ast.Compare):
        node.ops[0] = COMPARED[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.UnaryOp):
        _become(node, ast.Call(ast.Name("bool", ast.Load()), [node.operand], []))
    elif isinstance(node, ast.Constant):
        node.value = _other(node.value)  # type: ignore[arg-type]
    elif isinstance(node, ast.BinOp):
        node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
    elif isinstance(node, ast.Expr | ast.Raise):
        _become(node, ast.Pass())
    elif isinstance(node, ast.If):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Return):
        node.value = ast.Constant(None)
    elif isinstance(node, ast.Continue):
        _become(node, ast.Break())


def _become(node: ast.AST, other: ast.AST) -> None:
    ast.copy_location(other, node)
    node.__class__, node.__dict__ = other.__class__, other.__dict__


def _other(value: object) -> object:
    return not value if isinstance(value, bool) else value + 1  # type: ignore[operator]


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


# ---- trying them


class Bench:
    """A copy of the checkout of its own for each worker."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        ignored = shutil.ignore_patterns(".git", ".venv", "__pycache__", "system", ".hypothesis", ".*_cache")
        shutil.copytree(ROOT, folder, ignore=ignored)

    def verdict(self, mutant: Mutant) -> str:
        path = self.root / mutant.path
        kept = path.read_text("utf-8")
        path.write_text(mutant.source, "utf-8")
        try:
            return NOTICED if any(not self._passes(tests) for tests in tests_of(mutant.path)) else SURVIVED
        finally:
            path.write_text(kept, "utf-8")

    def _passes(self, tests: list[str]) -> bool:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.root)}
        try:
            done = subprocess.run(
                command, cwd=self.root, env=environ, capture_output=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def tests_of(path: str) -> list[list[str]]:
    room, name = Path(path).parent.name, Path(path).stem
    opposite = ROOT / "tests" / room / f"test_{name}.py"
    return [*([[str(opposite.relative_to(ROOT))]] if opposite.exists() else []), MORE_TESTS[room]]


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("files", nargs="*", default=[path for path in TARGETS if (ROOT / path).exists()])
    words.add_argument("--sample", type=int, default=0, help="so many, chosen at random; 0: all")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--workers", type=int, default=2)
    asked = words.parse_args()
    found = [mutant for path in asked.files for mutant in mutants(path)]
    chosen = random.Random(asked.seed).sample(found, asked.sample) if 0 < asked.sample < len(found) else found
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder, ThreadPoolExecutor(asked.workers) as pool:
        benches = [Bench(Path(folder) / str(number)) for number in range(asked.workers)]
        shares = [chosen[number :: asked.workers] for number in range(asked.workers)]
        tried = pool.map(_try_all, benches, shares)
        survived = sorted(mutant for left in tried for mutant in left)
    for mutant in survived:
        print(f"{mutant.path}:{mutant.line}: {mutant.what}")
    noticed = len(chosen) - len(survived)
    share = 100 * noticed / max(1, len(chosen))
    print(f"seed {asked.seed}: {noticed} of {len(chosen)} noticed ({share:.1f} %), of {len(found)} in all")


def _try_all(bench: Bench, share: list[Mutant]) -> list[Mutant]:
    return [mutant for mutant in share if bench.verdict(mutant) == SURVIVED]


if __name__ == "__main__":
    main()
