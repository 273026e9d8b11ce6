"""What the documents say of the code is held against the code: keys, settings, codes, messages, commands, the diagram."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from orchestrator import errors
from orchestrator.cli.commands import COMMANDS, application
from orchestrator.cli.init import TEMPLATES
from orchestrator.core import events
from orchestrator.core.causes import EXIT_STATUSES
from orchestrator.core.health import EXIT_CODES
from orchestrator.core.outward import TELLABLE, TOLD, Target
from orchestrator.core.setting import BY_NAME, SETTINGS
from orchestrator.core.table import STATUSES, diagram
from orchestrator.core.target import FIELDS
from orchestrator.load.checks import _READ
from tests.docs.reading import DOCUMENTS, ROOT, blocks, inline, prose, sections

PHASES, USAGE, ARCHITECTURE, README = "docs/phases.md", "docs/usage.md", "docs/architecture.md", "README.md"
OPERATIONS = "docs/operations.md"


def rows(document: str, head: str) -> list[list[str]]:
    """The cells of the table that begins with this heading, without the backticks."""
    lines = prose(document).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"| {head} |"))
    found = []
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return found


def first_cells(document: str, head: str) -> list[str]:
    return [row[0].strip().strip("`") for row in rows(document, head)]


# Keys, settings, codes, statuses, templates


def test_every_key_has_a_section_with_an_example_that_uses_it() -> None:
    documented = {name.strip("`"): listed for name, listed in sections(PHASES).items() if name.startswith("`")}
    assert set(documented) == set(_READ)
    for key, listed in documented.items():
        assert any(re.search(rf"\b{key}\b|@phase\(\d", block.text) for block in listed if block.name), key


def test_the_events_that_are_told_to_another_program_are_those_of_the_journal() -> None:
    listed = rows(USAGE, "event")
    assert len(listed) > 5
    for names, _, told in listed:
        for field in re.findall(r"`(\w+)`", told.partition(" (")[0]):
            assert any(field in getattr(events, name)._fields for name in re.findall(r"`(\w+)`", names)), field


def test_every_setting_is_in_the_table_with_its_default() -> None:
    told = {row[0].strip().strip("`"): row[1] for row in rows(USAGE, "setting")}
    plain = [setting for setting in SETTINGS if not setting.name.startswith("retry.")]
    assert set(told) - {
        name for name in told if name.startswith(("retry.", "pools.", "params.", "notify.", "secrets."))
    } == {setting.name for setting in plain}
    for setting in plain:
        if setting.default is not None:
            assert told[setting.name] == BY_NAME[setting.name].written(setting.default)


def test_what_is_told_and_what_a_target_takes_are_in_their_tables() -> None:
    told = {kind: row[2] for row in rows(USAGE, "kind") for kind in re.findall(r"`(\w+)`", row[0])}
    assert told == {kind: "told" if kind in TOLD else "not told" for kind in TELLABLE}
    keys = {key for cell in first_cells(USAGE, "key of a target") for key in re.findall(r"\w+", cell)}
    assert keys == set(Target._fields)
    fields = next(row[1] for row in rows(USAGE, "key of a target") if row[0] == "`template`")
    assert re.findall(r"{(\w+)}", fields) == list(FIELDS)


def test_the_exit_codes_are_those_of_the_errors() -> None:
    told = {int(code) for cell in first_cells(USAGE, "code") for code in cell.split(",")}
    raised = {cls.exit_code for cls in _below(errors.OrchError)}
    assert told == raised | {0, 1, 3, 130, 143} | {*EXIT_CODES.values()}


def _below(cls: type[errors.OrchError]) -> list[type[errors.OrchError]]:
    return [cls, *(found for each in cls.__subclasses__() for found in _below(each))]


def test_the_statuses_are_those_of_the_table() -> None:
    assert set(first_cells(USAGE, "status")) == set(STATUSES)


def test_every_template_is_named() -> None:
    for document in (README, USAGE):
        assert set(TEMPLATES) <= set(inline(document)), document


def test_the_errors_to_raise_are_those_that_exist_with_their_codes() -> None:
    told = {}
    for row in rows(PHASES, "raise"):
        names = re.findall(r"`(\w+)`", row[0])
        codes = re.findall(r"[A-Z_]{4,}", row[1])
        told.update(zip(names, codes, strict=True))
        for code in codes:
            assert (row[2] == "never") == (errors.CODES[code].retry is None), code
    assert told == {cls.__name__: cls.code for cls in errors.PhaseError.__subclasses__() if cls.code != "INTERRUPTED"}


def test_the_classes_are_told_as_they_are() -> None:
    """How often and how late each is tried again, and which exit statuses stand for it."""
    told = {row[0].strip("`"): row for row in rows(PHASES, "class")}
    assert list(told) == list(errors.CODES)
    for name, code in errors.CODES.items():
        statuses = [str(status) for status, meaning in EXIT_STATUSES.items() if meaning.code == name]
        assert told[name][1] == code.meaning
        assert told[name][2] == _when(code), name
        assert re.findall(r"\b\d+\b", told[name][3]) == statuses, name


def _when(code: errors.Code) -> str:
    rule = code.retry
    if rule is None:
        return "never"
    minutes = [f"{rule.delay * rule.factor**again / 60:g}" for again in range(rule.tries)]
    if not minutes:
        return "where `retries` or `retry` says so"
    if not rule.delay:
        return f"{rule.tries} in a row, at once, which costs no try"
    return f"once, after {minutes[0]} min" if len(minutes) == 1 else f"after {', '.join(minutes)} min"


def test_the_printed_diagram_is_the_table() -> None:
    printed = [block.text for block in blocks(ARCHITECTURE) if block.language == "mermaid"]
    assert printed == [diagram() + "\n"], "python -c 'from orchestrator.core.table import diagram; print(diagram())'"


# Commands


def commands() -> list[tuple[str, str]]:
    """Every command that a document names between backticks; `N` and the like stand for what one would type."""
    named = [(document, text) for document in DOCUMENTS for text in inline(document) if re.match(r"orch [a-z-]", text)]
    return sorted(set(named))


@pytest.mark.parametrize(("document", "text"), commands(), ids=lambda text: text)
def test_every_command_that_is_named_can_be_typed(document: str, text: str) -> None:
    words = [_typed(word) for word in shlex.split(text)[1:]]
    command: Any = get_command(application())
    with command.make_context("orch", [], resilient_parsing=True) as context:
        if words[0].startswith("--"):
            assert words[0] in {option for param in command.get_params(context) for option in param.opts}
            return
        inner = command.get_command(context, words.pop(0))
        assert inner is not None, "there is no such command"
        if hasattr(inner, "get_command") and words:
            inner = inner.get_command(context, words.pop(0))
        needed = sum(param.required for param in inner.get_params(context))
        given = [word for word in words if re.match(r"[^-]|-\d", word)]
        inner.make_context("it", words if len(given) >= needed else [*words, "3"], parent=context).close()


def _typed(word: str) -> str:
    return {"N": "3", "[N]": "3", "DIR": "folder", "[DIR]": "folder"}.get(word, word)


def test_the_readme_lists_every_command() -> None:
    told = {cell.split()[1].strip("`") for cell in first_cells(README, "command")}
    assert told == {name for listed in COMMANDS.values() for name in listed}


def test_every_option_in_the_readme_exists() -> None:
    for row in rows(README, "command"):
        name = row[0].split()[1].strip("`")
        told = set(re.findall(r"(?<!\w)--?[a-z][a-z-]*", row[1]))
        assert told <= options_of(name), name


def options_of(name: str) -> set[str]:
    command: Any = get_command(application())
    context = typer.Context(command)
    return {option for param in command.get_command(context, name).params for option in param.opts}


def test_make_has_what_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", (ROOT / README).read_text("utf-8"), re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target


# Messages


@cache
def said() -> list[str]:
    """Every text in the code; what is filled in is one odd character."""
    found = []
    for path in sorted((ROOT / "orchestrator").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values))
    return found


def is_said(message: str) -> bool:
    parts = [re.escape(part) for part in message.split("…")]
    pattern = re.compile(".*".join(parts), re.S)
    return any(pattern.search(text) for text in said())


@pytest.mark.parametrize("message", first_cells(OPERATIONS, "message"))
def test_every_message_that_is_explained_exists(message: str) -> None:
    assert is_said(message)


def test_a_message_that_nobody_says_is_noticed() -> None:
    assert not is_said("another walk is active (…)")
    assert not is_said("phase … seeds phase …, which does not exist")


# Files


def test_every_link_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)", (ROOT / document).read_text("utf-8")):
            assert target.startswith("https://") or (ROOT / document).parent.joinpath(target).exists(), target


def test_the_picture_was_made_of_a_real_run() -> None:
    picture = Path(ROOT / "docs/run.svg").read_text("utf-8").replace("&#160;", " ")
    assert ">orch run<" in picture
    assert "completed" in picture
    assert "http" not in picture.replace("http://www.w3.org/", "").replace("https://www.textualize.io", "")
