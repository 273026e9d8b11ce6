"""All commands of `orch` by their names, as typer knows them."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command, get_group

from orchestrator.cli.frame import show_version
from orchestrator.cli.options import Command, Group, wrong_usage

# As the help shows them. Each is a file of this folder; only that of the command in use is loaded.
COMMANDS: dict[str, dict[str, str]] = {
    "Run": {
        "run": "Begin a run, or go on where the last one ended.",
        "recover": "Put in order what a crash left behind.",
        "fsck": "Check all that orch keeps, and repair it.",
    },
    "Look": {
        "status": "Where everything stands, now.",
        "plan": "What a run would do with each phase, and why.",
        "logs": "What phase N printed.",
        "story": "Every decision about phase N, and its cause.",
        "history": "How the last runs ended, and what each phase took.",
        "health": "Whether all is well, in points and in the exit code.",
    },
    "Act": {
        "cancel": "End the run, or phase N, and all that it started.",
        "retry": "Have phase N run again now, with fresh tries.",
        "approve": "Say yes to phase N, which waits for it.",
        "reject": "Say no: phase N counts as failed.",
        "pause": "Start nothing new; what runs goes on.",
        "resume": "Let a paused run go on.",
        "skip": "Count phase N as done.",
        "reset": "Have phases as if they had never run.",
        "checkpoint": "Keep how all stands now, and what was kept.",
        "rollback": "Have all as it was at a checkpoint.",
    },
    "Set up": {
        "init": "Begin a project from a template.",
        "cron": "Runs that begin by themselves.",
        "config": "The settings, and where each comes from.",
        "notify": "Who is told what, and what they have not heard.",
    },
}
ABOUT = "Runs numbered phases in the order their needs allow, under deadlines that really kill."
EXAMPLE = "Example: orch init nightly && cd nightly && orch run"


class Commands(Group):
    """Knows all commands by name, and loads one when it is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for listed in COMMANDS.values() for name in listed]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands and cmd_name in self.list_commands(ctx):
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for group, listed in COMMANDS.items():
            with formatter.section(group):
                formatter.write_dl([(name.ljust(width), about) for name, about in listed.items()])

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """From the list: whoever presses a key does not wait until every command is loaded."""
        listed = {name: about for group in COMMANDS.values() for name, about in group.items()}
        return self.items(listed, incomplete) or super().shell_complete(ctx, incomplete)


def _load(name: str) -> Any:
    module = import_module(f"orchestrator.cli.{name}")
    if isinstance(getattr(module, "app", None), typer.Typer):
        return get_group(module.app)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    alone.command(name, cls=Command, epilog=module.EXAMPLE)(module.command)
    return get_command(alone)


def called(words: list[str]) -> int:
    """The exit code of the command that these words are."""
    try:
        return int(application()(words, prog_name="orch", standalone_mode=False) or 0)
    except TyperException as error:
        raise wrong_usage(error) from error


def application() -> typer.Typer:
    app = typer.Typer(
        name="orch", cls=Commands, help=ABOUT, epilog=EXAMPLE, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(_root)
    return app


def _version(asked: bool) -> None:
    if asked:
        show_version()
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Runs numbered phases in the order their needs allow, under deadlines that really kill."""
