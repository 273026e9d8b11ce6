"""What all commands share: the project, what is shown and told, how errors look, the exit code. No typer here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestrator import __version__, clock, disk, project, secret
from orchestrator.config import Settings, settings
from orchestrator.core.names import iso
from orchestrator.errors import OrchError, OutputUnwritable, UsageError

COMPLETING = "_ORCH_COMPLETE"
INTERRUPTED = 130
BROKEN = 70
UNREAD = 1  # whoever read what we say has gone


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


def show_version() -> None:
    show(f"orch {__version__}")


def show_json(document: object) -> None:
    speaks = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    show(json.dumps(document, indent=2, default=str, ensure_ascii=not speaks))


def tell(text: str) -> None:
    """Words for people, on standard error."""
    sys.stderr.write(f"orch: {secret.hidden(text)}\n")


def guarded(call: Callable[[], int]) -> int:
    """Runs a command, which returns its exit code; whatever goes wrong becomes one clear message and its code."""
    code = _ended(call)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _hush()
    except OSError as error:
        code = code or _told(_unsaid(error))
        _hush()
    return code


def _ended(call: Callable[[], int]) -> int:
    try:
        return call()
    except OrchError as error:
        return _told(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _hush()
        return UNREAD
    except PermissionError as error:
        remedy = "run it as the account that the project belongs to"
        return _told(UsageError(f"{error.filename}: {error.strerror}", remedy))
    except OSError as error:
        return _told(_unsaid(error)) if _is_of_the_help(error) else _own_fault(error)
    except Exception as error:
        return _own_fault(error)


def _is_of_the_help(error: OSError) -> bool:
    """What `show` says is known to be ours; this is typer's."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and at.tb_frame.f_code.co_name == "echo"


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


def _own_fault(error: Exception) -> int:
    """A fault of orch itself: the story is kept for a report, no traceback on the screen."""
    if COMPLETING in os.environ:  # somebody only pressed a key: their line is not written over
        return BROKEN
    import traceback

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
