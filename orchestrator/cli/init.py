"""orch init: a project to begin with, that runs at once; each template is a lesson of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.frame import show
from orchestrator.core.names import nearest
from orchestrator.errors import UsageError

EXAMPLE = "Example: orch init nightly --template shell && cd nightly && orch run"

TEMPLATES = {
    "shell": "a nightly job of commands: fetch, check, pack",
    "python": "phases as functions, with progress, results and errors",
    "agents": "several agents in parallel on a list of tasks, and a review",
    "qualify": "whether this machine is fit for unattended runs",
}
SHIPPED = Path(__file__).resolve().parents[1] / "templates"
CHECKOUT = Path(__file__).resolve().parents[2] / "phases"
MOST_LISTED = 8
IGNORED = "/system/*\n__pycache__/\n"


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where; this folder if left out.")] = Path("."),
    template: Annotated[
        str,
        typer.Option(
            "--template",
            "-t",
            metavar="NAME",
            help=f"{', '.join(TEMPLATES)}.",
            autocompletion=lambda: [*TEMPLATES.items()],
        ),
    ] = "shell",
) -> None:
    """Make a project that runs at once, and is written to be read and changed."""
    files = files_of(template)
    if (folder / "phases").exists():
        raise UsageError(f"{folder / 'phases'} exists already", "add a file to it; `orch plan` shows what would run")
    try:
        kept = [name for name, data in files.items() if not _write(folder / name, data)]
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}", "choose a folder that can be written") from error
    made = [name for name in files if name not in kept]
    show(f"made {folder.absolute().name}/, {TEMPLATES[template]}: {_listed(made)}")
    if kept:
        show(f"kept as they were: {', '.join(kept)}")
    here = "" if folder == Path(".") else f"cd {folder}; "
    show(f"next: {here}orch plan; orch run; orch status")


def files_of(template: str) -> dict[str, bytes]:
    """Every file of a template, by its path in the project."""
    if template not in TEMPLATES:
        near = nearest(template, list(TEMPLATES))
        meant = f"did you mean {near}? " if near else ""
        raise UsageError(f"there is no template {template}", f"{meant}there are {', '.join(TEMPLATES)}")
    files = _below(SHIPPED / template)
    if template == "qualify" and not any(name.startswith("phases/") for name in files):
        # A checkout keeps them where it runs them; the build puts them into the wheel.
        files |= {f"phases/{name}": data for name, data in _below(CHECKOUT).items()}
    return {**files, ".gitignore": IGNORED.encode()}


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= MOST_LISTED else f"{len(names)} files"


def _below(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def _write(path: Path, data: bytes) -> bool:
    """Whatever the umask: files that others may write are refused as phases. False: it was there before."""
    if path.exists():
        return False
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o755)
    path.write_bytes(data)
    path.chmod(0o644)
    return True
