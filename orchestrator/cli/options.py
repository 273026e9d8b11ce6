"""What commands declare to typer: common options, negative numbers, completion, and how a mistake of typing looks."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from orchestrator.cli.completing import phases
from orchestrator.core.item import number_of
from orchestrator.core.names import nearest
from orchestrator.errors import UsageError

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
_N = ("N", "N,...")
_LAST = "orch.last_word"
_EXTRA = re.compile(r"extra argument\(s\) \((.+)\)$")


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


def wrong_usage(error: Any) -> UsageError:
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
