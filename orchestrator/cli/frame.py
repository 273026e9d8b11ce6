"""What all commands share: the project, negative numbers, completion, how mistakes and errors look, the exit code."""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from orchestrator import clock, disk, project, secret
from orchestrator.cli.completing import phases
from orchestrator.config import Settings, settings
from orchestrator.core.item import number_of
from orchestrator.core.names import iso, nearest
from orchestrator.errors import OrchError, OutputUnwritable, UsageError

ProjectOption = Annotated[
    Path | None, typer.Option("--project", metavar="DIR", help="The project's folder, if it is not this one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def number(text: str) -> int:
    try:
        return number_of(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no phase (it takes a whole number, or an item: 4[17])") from None


NumberArgument = typer.Argument(
    metavar="N", help="The phase, or 4[17], an item of it.", show_default=False, autocompletion=phases, parser=number
)
OnlyArgument = typer.Argument(
    metavar="N", help="Only this phase, or 4[17], an item.", show_default=False, autocompletion=phases, parser=number
)
_NEGATIVE = re.compile(r"-\d+(\[\d+\])?")
COMPLETING = "_ORCH_COMPLETE"
_N = ("N", "N,...")
_LAST = "orch.last_word"
_EXTRA = re.compile(r"extra argument\(s\) \((.+)\)$")
INTERRUPTED = 130
BROKEN = 70


class Offer(NamedTuple):
    """What completion shows of one word."""

    value: str
    help: str = ""
    type: str = "plain"


class Command(TyperCommand):
    """A negative number is an argument like any other: `orch logs -8`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_LAST] = args[-1] if args else ""
        try:
            return self._parsed(ctx, args)
        except TyperException as error:
            error.ctx = ctx  # type: ignore[attr-defined]  # not every kind says where it happened
            raise

    def _parsed(self, ctx: Any, args: list[str]) -> list[str]:
        taking = {name for param in self.params if not getattr(param, "is_flag", True) for name in param.opts}
        options: list[str] = []
        numbers: list[str] = []
        for index, word in enumerate(args):
            if word == "--":
                return list(super().parse_args(ctx, [*options, "--", *numbers, *args[index + 1 :]]))
            after_option = bool(options) and options[-1] in taking and index > 0 and args[index - 1] == options[-1]
            (numbers if _NEGATIVE.fullmatch(word) and not after_option else options).append(word)
        return list(super().parse_args(ctx, [*options, "--", *numbers] if numbers else options))

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What begins with a minus is an option, or the number of a phase."""
        numbers = [Offer(*offer) for offer in phases(ctx, incomplete)]
        if any(ctx.meta.get(_LAST) in param.opts and param.metavar in _N for param in self.params):
            return numbers
        takes = any(param.param_type_name == "argument" and param.metavar in _N for param in self.params)
        return [*super().shell_complete(ctx, incomplete), *(numbers if takes else ())]


class Group(TyperGroup):
    """Commands under one name: without one of them, the help; with none that exists, the nearest."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            sys.stderr.write(ctx.get_help() + "\n")
            raise typer.Exit(UsageError.exit_code)
        return list(super().parse_args(ctx, args))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args[0] in known or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = nearest(args[0], known)
        meant = f"did you mean `{ctx.command_path} {near}`? " if near else ""
        raise UsageError(f"there is no command {args[0]}", f"{meant}`{ctx.command_path} --help` lists them all")

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """What each is for, whole: it is wrapped, not cut."""
        with formatter.section("Commands"):
            shown = [name for name in self.list_commands(ctx) if not self.commands[name].hidden]
            formatter.write_dl([(name, self.commands[name].help or "") for name in shown])

    @staticmethod
    def items(listed: Mapping[str, str], incomplete: str) -> list[Any]:
        return [Offer(name, about) for name, about in listed.items() if name.startswith(incomplete)]


def root_of(option: Path | None) -> Path:
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise UsageError("the folder that you are in does not exist any more", "cd into one that does") from None
    return project.find(option, os.environ, here)


def settings_of(root: Path, flags: Mapping[str, object] | None = None) -> Settings:
    return settings(root, flags or {}, os.environ)


@contextmanager
def saying() -> Iterator[None]:
    """What stands behind standard output may be full, or broken: that is no fault of orch."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unsaid(error) from error


def show(text: str) -> None:
    """Data, on standard output."""
    with saying():
        sys.stdout.write(text + "\n")


def show_json(document: object) -> None:
    speaks = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    show(json.dumps(document, indent=2, default=str, ensure_ascii=not speaks))


def tell(text: str) -> None:
    """Words for people, on standard error."""
    sys.stderr.write(f"orch: {secret.hidden(text)}\n")


def guarded(call: Callable[[], object]) -> int:
    """Runs a command; whatever goes wrong becomes one clear message and the documented exit code."""
    code = _ended(call)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _hush()
    except OSError as error:
        code = code or _told(_unsaid(error))
        _hush()
    return code


def _ended(call: Callable[[], object]) -> int:
    try:
        call()
    except OrchError as error:
        return _told(error)
    except TyperException as error:
        return _told(_wrong_usage(error))
    except KeyboardInterrupt:
        tell("interrupted; nothing that was written is lost")
        return INTERRUPTED
    except BrokenPipeError:
        _hush()
    except PermissionError as error:
        remedy = "run it as the account that the project belongs to"
        return _told(UsageError(f"{error.filename}: {error.strerror}", remedy))
    except OSError as error:
        is_of_the_help = traceback.extract_tb(error.__traceback__)[-1].name == "echo"  # `show` does not say that
        return _told(_unsaid(error)) if is_of_the_help else _own_fault(error)
    except Exception as error:
        return _own_fault(error)
    return 0


def _hush() -> None:
    """Nothing more can be said, as nobody reads it or can keep it; Python must not try at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _unsaid(error: OSError) -> OutputUnwritable:
    return OutputUnwritable(
        f"standard output cannot be written: {error.strerror or error}",
        "make room where it goes, or send it elsewhere; only what would have been shown is missing",
    )


def _told(error: OrchError) -> int:
    tell(error.message)
    if error.remedy:
        sys.stderr.write(f"  {secret.hidden(error.remedy)}\n")
    return error.exit_code


def _wrong_usage(error: Any) -> UsageError:
    """What was typed wrong, and what was most likely meant."""
    ctx = getattr(error, "ctx", None)
    name = ctx.command_path if ctx else "orch"
    lists = f"`{name} --help` lists what it takes"
    if hasattr(error, "possibilities"):
        return UsageError(f"`{name}` has no option {error.option_name}", _meant(error, name) + lists)
    text = error.format_message().rstrip(".")
    if found := _EXTRA.search(text):
        return _too_much(name, found[1], ctx, lists)
    text = re.sub(r": Input should be a valid integer.*", " (it takes a whole number)", text)
    example = f"{ctx.command.epilog}; " if ctx and ctx.command.epilog else ""
    return UsageError(f"`{name}`: {text[:1].lower()}{text[1:]}", example + lists)


def _meant(error: Any, name: str) -> str:
    if error.possibilities:
        return f"did you mean {error.possibilities[0]}? "
    return "" if " " in name else "options of a command go after its name: `orch run --jobs 4`; "


def _too_much(name: str, words: str, ctx: Any, lists: str) -> UsageError:
    options = {option for param in ctx.command.params for option in param.opts}
    numbers = words.replace(",", " ").split()
    if "--only" in options and all(re.fullmatch(r"-?\d+", number) for number in numbers):
        return UsageError(f"`{name}` takes no numbers of phases like this", f"did you mean --only {','.join(numbers)}?")
    return UsageError(f"`{name}`: {words} is more than it takes", lists)


def _own_fault(error: Exception) -> int:
    """A fault of orch itself: the story is kept for a report, no traceback on the screen."""
    if COMPLETING in os.environ:  # somebody only pressed a key: their line is not written over
        return BROKEN
    story = secret.hidden("".join(traceback.format_exception(error)))
    tell(f"a fault of orch itself: {type(error).__name__}: {error}")
    try:
        folder = project.find(None, os.environ, Path.cwd()) / "system" / "logs"
        path = folder / f"fault_{iso(clock.now())[:19].replace(':', '')}.txt"
        path.touch(disk.PRIVATE_FILE)
        path.write_text(secret.hidden(f"{sys.argv}\n") + story)
        sys.stderr.write(f"  the story so far is in {path}: please report it; the state is as it was last written\n")
    except (OSError, OrchError):
        sys.stderr.write(story)
    return BROKEN
