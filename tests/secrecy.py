"""A project with secrets of every kind, and a look at whether any of them is where it should not be."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

from orchestrator import disk
from tests import canary
from tests.driving import Project

SECRETS = {
    "plain": "c4n4ryXq7Lm2Vt9",
    "token": "p@ss w\"o'r\\d/+&<é>%",
    "key": "-----BEGIN KEY-----\nMIIEvQ8aZ0/x+Tq\n  ZZ9pl2\nab\n-----END KEY-----",
    "odd": "#!$&*()^~`",
}
SETTINGS = """
kill_grace = "0.3s"
jobs = 4
[retry.FAILED]
tries = 0
[secrets]
plain = { env = "PLAIN" }
token = { file = ".token" }
key = { command = "cat .key" }
odd = { env = "THE_ODD" }
"""
ENVIRON = {"PLAIN": SECRETS["plain"], "THE_ODD": SECRETS["odd"]}


def prepare(project: Project) -> None:
    project.settings(SETTINGS)
    for name in ("token", "key"):
        project.file(f".{name}", SECRETS[name] + "\n").chmod(0o600)
    project.file("canary.py", Path(canary.__file__).read_text())


def held(path: Path) -> bytes:
    """What a file holds; nothing, if it is gone by now."""
    try:
        data = disk.read(path)  # never of a pipe
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError):
        return b""


def leaks_below(folder: Path) -> list[str]:
    """In names and in what is in them; not in what a phase has in its own hands until it is over."""
    found = []
    for place, _, names in os.walk(folder):  # a folder that goes meanwhile is no fault
        for path in (Path(place) / name for name in names if not place.endswith("/work")):
            found += [f"the name of {path}: {leak}" for leak in canary.leaks(str(path).encode(), SECRETS)]
            found += [f"{path}: {leak}" for leak in canary.leaks(held(path), SECRETS)]
    return found
