"""Everything in the documents that can be done is done, in the order in which it stands there."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.reading import DOCUMENTS, Block, sections, typed
from tests.driving import ORCH, PACKAGE, Ended, Project

pytestmark = pytest.mark.timeout(180)  # a section is a handful of commands, one after the other
CASES = [(document, name) for document in DOCUMENTS for name in sections(document)]
_PLAIN = re.compile(r"orch [\w ./=:,'\"-]+(#.*)?")


@pytest.fixture
def shim(tmp_path: Path) -> Path:
    """A folder with `orch` in it, as an installation has one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "orch").write_text(f'#!/bin/sh\nPYTHONPATH={PACKAGE} exec {shlex.join(ORCH)} "$@"\n')
    (folder / "orch").chmod(0o755)
    return folder


@pytest.mark.parametrize(("document", "section"), CASES, ids=[f"{document}: {name}" for document, name in CASES])
def test_what_the_document_shows_happens(
    document: str, section: str, projects: Callable[[str], Project], shim: Path
) -> None:
    project = projects("project")
    (project.root / "phases").rmdir()
    (project.root / "orch.toml").unlink()
    follow(sections(document)[section], project, shim)


def follow(listed: list[Block], project: Project, shim: Path) -> None:
    where = project.root
    for block in listed:
        if block.name:
            path = where / block.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        if block.language != "console":
            continue
        for step in typed(block):
            if _PLAIN.fullmatch(step.line):  # nothing for a shell to do: forked, which costs a tenth
                words = shlex.split(step.line, comments=True)[1:]
                ended = project.orch(*words, cwd=where, env={"PATH": f"{shim}:{os.environ['PATH']}"})
            else:
                ended = project.shell(
                    f"PATH={shim}:$PATH; cd {where} && {step.line}\nend=$?; pwd >{shim}/where; exit $end"
                )
                where = Path((shim / "where").read_text().strip())
            assert ended.code == step.code, f"{step.line}: {ended}"
            assert_said(step.said, ended)


def assert_said(said: list[str], ended: Ended) -> None:
    """In this order, between whatever else; times, durations and ids are those of the day."""
    heard = [plain(line) for line in ended.text.splitlines()]
    at = 0
    for line in said:
        assert plain(line) in heard[at:], f"{line!r} is not said:\n{ended.text}"
        at = heard.index(plain(line), at) + 1


_MASKS = (
    (r"\b(phase_-?\d+)_\d{8}_\d{6}", r"\1_TIME"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\d{8}T\d{6}-[0-9a-f]{4}", "RUN"),
    (r"\b\d\d:\d\d:\d\d\b", "CLOCK"),
    (r"\bpid \d+ on .*?,", "pid N on HOST,"),
    (r"\bpid \d+", "pid N"),
    (r"\b\d+\.\d\ds\b", "0.00s"),
    (r"\b(again )?in (\d+s|\dm \d\ds)\b", "in a while"),
)


def plain(line: str) -> str:
    for pattern, word in _MASKS:
        line = re.sub(pattern, word, line)
    return line.rstrip()
