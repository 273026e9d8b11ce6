"""What all commands share: the project, negative numbers, completion, how mistakes and errors look, the exit code."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Never

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from orchestrator import clock, project
from orchestrator.cli.completing import phases
from orchestrator.config import Settings, settings
from orchestrator.core.names import iso, nearest
from orchestrator.errors import OrchError, UsageError

ProjectOption = Annotated[
    Path | None, typer.Option("--project", metavar="DIR", help="The project's folder, if it is not this one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
NumberArgument = typer.Argument(metavar="N", help="The phase.", show_default=False, autocompletion=phases)
_NEGATIVE = re.compile(r"-\d+(\[\d+\])?")
_EXTRA = re.compile(r"extra arguments? \((?P<words>.+)\)|extra argument\(s\) \((?P<more>.+)\)")
INTERRUPTED = 130
BROKEN = 70


class Command(TyperCommand):
    """A negative number is an argument like any other: `orch logs -8`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        taking = {name for param in self.params if not getattr(param, "is_flag", True) for name in param.opts}
        options: list[str] = []
        numbers: list[str] = []
        for index, word in enumerate(args):
            if word == "--":
                return list(super().parse_args(ctx, [*options, "--", *numbers, *args[index + 1 :]]))
            after_option = bool(options) and options[-1] in taking and index > 0 and args[index - 1] == options[-1]
            (numbers if _NEGATIVE.fullmatch(word) and not after_option else options).append(word)
        return list(super().parse_args(ctx, [*options, "--", *numbers] if numbers else options))


def root_of(option: Path | None) -> Path:
    return project.find(option, os.environ, Path.cwd())


def settings_of(root: Path, flags: Mapping[str, object] | None = None) -> Settings:
    return settings(root, flags or {}, os.environ)


def show(text: str) -> None:
    """Data, on standard output."""
    sys.stdout.write(text + "\n")


def show_json(document: object) -> None:
    show(json.dumps(document, indent=2, default=str, ensure_ascii=False))


def tell(text: str) -> None:
    """Words for people, on standard error."""
    sys.stderr.write(f"orch: {text}\n")


def guarded(call: Callable[[], object]) -> int:
    """Runs a command; whatever goes wrong becomes one clear message and the documented exit code."""
    try:
        call()
        sys.stdout.flush()
    except OrchError as error:
        tell(error.message)
        if error.remedy:
            sys.stderr.write(f"  {error.remedy}\n")
        return error.exit_code
    except KeyboardInterrupt:
        tell("interrupted; nothing that was written is lost")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has gone: nothing more can be said, and Python must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        return _own_fault(error)
    return 0


def _own_fault(error: Exception) -> int:
    """A fault of orch itself: the story is kept for a report, no traceback on the screen."""
    story = "".join(traceback.format_exception(error))
    tell(f"a fault of orch itself: {type(error).__name__}: {error}")
    try:
        folder = project.find(None, os.environ, Path.cwd()) / "system" / "logs"
        path = folder / f"fault_{iso(clock.now())[:19].replace(':', '')}.txt"
        path.write_text(f"{sys.argv}\n{story}")
        sys.stderr.write(f"  the story so far is in {path}: please report it; the state is as it was last written\n")
    except (OSError, OrchError):
        sys.stderr.write(story)
    return BROKEN
