"""orch logs: what an attempt printed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Annotated

import typer

from orchestrator import clock
from orchestrator.cli.frame import root_of, saying
from orchestrator.cli.options import NumberArgument, ProjectOption
from orchestrator.core.item import Item, item, phase_of
from orchestrator.core.names import epoch, seconds
from orchestrator.core.state import State
from orchestrator.errors import UsageError
from orchestrator.look import Look
from orchestrator.watch.archive import opened, parts

EXAMPLE = "Example: orch logs -8 -f --grep 'error|warn'"
LOOK_EVERY = 0.1
CHUNK = 1 << 16
REMEMBERED = 256


def command(
    number: Annotated[int, NumberArgument],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as long as the phase is in progress.")] = False,
    grep: Annotated[str | None, typer.Option("--grep", metavar="REGEX", help="Only lines that match.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Every attempt that printed since: 90m, 2h, or an ISO time."),
    ] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", metavar="A", help="Not the last attempt but A.")] = None,
    project: ProjectOption = None,
) -> None:
    """Show what phase N printed in its last attempt."""
    root = root_of(project)
    shown = Filter(grep)
    paths = _chosen(root, number, attempt, since)
    for path in paths[:-1] if follow else paths:
        for part in parts(path):
            shown.all_of(part)
    if follow and paths:
        _follow(root, number, paths[-1], shown)
    shown.end()


class Filter:
    """Bytes to standard output as they are, or those lines that match."""

    def __init__(self, grep: str | None) -> None:
        try:
            self._pattern = re.compile(grep.encode()) if grep else None
        except re.error as error:
            raise UsageError(f"--grep {grep}: {error}", "it is a regular expression; quote ( ) [ ] * with \\") from None
        self._rest = b""

    def all_of(self, path: Path) -> None:
        try:
            for data in opened(path):
                self.write(data)
        except FileNotFoundError:
            return  # never begun anew after it was rotated, or taken away meanwhile

    def write(self, data: bytes) -> None:
        if self._pattern is not None:
            *lines, self._rest = (self._rest + data).split(b"\n")
            data = b"".join(line + b"\n" for line in lines if self._pattern.search(line))
        with saying():
            sys.stdout.buffer.write(data)

    def end(self) -> None:
        with saying():
            if self._pattern is not None and self._pattern.search(self._rest):
                sys.stdout.buffer.write(self._rest)
            self._rest = b""
            sys.stdout.buffer.flush()


def _chosen(root: Path, number: int, attempt: int | None, since: str | None) -> list[Path]:
    """The logs to show, oldest first; a sentence if there are none."""
    folder = root / "system" / "logs" / "phases" / str(number)
    if isinstance(number, Item) and attempt is None and since is None and (elsewhere := _kept(root, number)):
        return [elsewhere]
    there = _attempts(folder)
    if not there:
        state = Look(root, reads_files=False).state
        if state.phases and phase_of(number) not in state.phases:
            raise UsageError(f"there is no phase {phase_of(number)}", "`orch status --all` lists them")
        items = state.phase(phase_of(number)).items
        if items is not None:
            raise _of_items(number, len(items), state)
        if isinstance(number, Item):
            whole = f"`orch logs {number.phase}` shows what the phase itself printed"
            raise UsageError(f"there is no {number}: phase {number.phase} has no items", whole)
        if state.phase(number).attempt:
            gone = "logs are removed when they are older than logs.max_age, or by somebody"
            raise UsageError(f"phase {number} has no log any more: {gone}", "`orch story N` shows what is remembered")
        raise UsageError(f"phase {number} has no log: it has not been started yet", "`orch status` shows where it is")
    if attempt is not None and attempt not in there:
        listed = ", ".join(map(str, there))
        raise UsageError(f"phase {number} has no log of attempt {attempt}", f"there are those of {listed}")
    if since is None:
        return [folder / f"{there[-1] if attempt is None else attempt}.log"]
    begin = _moment(since)
    return [path for one in there if _written_at(path := folder / f"{one}.log") >= begin]


def _attempts(folder: Path) -> list[int]:
    """Of which there is a log, or what was rotated out of one."""
    try:
        found = {_ATTEMPT.match(name) for name in os.listdir(folder)}
    except FileNotFoundError:
        return []
    return sorted({int(match[1]) for match in found if match is not None and (folder / match[0]).is_file()})


_ATTEMPT = re.compile(r"(\d+)\.log(?:\.\d+)?(?:\.gz)?$")


def _written_at(path: Path) -> float:
    return max((part.stat().st_mtime for part in parts(path) if part.exists()), default=0.0)


def _kept(root: Path, number: Item) -> Path | None:
    """An item that was kept has printed where it stood in the list when it was run."""
    item = Look(root, reads_files=False).state.phase(number)
    return root / item.log if item.log and not item.attempts and (root / item.log).is_file() else None


def _of_items(number: int, many: int, state: State) -> UsageError:
    """A phase that fans out has no log of its own; its items have."""
    if isinstance(number, Item) and number.index < many:
        return UsageError(f"item {number} has no log: it has not been started yet", "`orch status` shows how far it is")
    if not many:
        nothing = f"phase {phase_of(number)} has no items, and so no log"
        return UsageError(nothing, f"`orch story {phase_of(number)}` shows how it came to that")
    if isinstance(number, Item):
        has = f"phase {number.phase} has {many} {'item' if many == 1 else 'items'}"
        return UsageError(f"there is no {number}: {has}", "they count from 0")
    wrong = [one for one in sorted(state.items) if one.phase == number and state.phase(one).status == "failed"]
    example = wrong[0] if wrong else item(number, 0)
    why = "the first that failed" if wrong else "the first"
    return UsageError(f"phase {number} has a log for each of its {many} items", f"`orch logs '{example}'` shows {why}")


def _moment(text: str) -> float:
    try:
        return clock.now() - seconds(text)
    except ValueError:
        try:
            return epoch(text)
        except ValueError:
            raise UsageError(f"--since {text}: neither a duration nor a time", "write 90m, 2h or 2026-11-20") from None


def _follow(root: Path, number: int, path: Path, shown: Filter) -> None:
    """Until the phase is not in progress any more; over rotations, and into its next attempts."""
    for part in parts(path)[:-1]:
        shown.all_of(part)
    for data in _growing(root, number, path):
        shown.write(data)
        with saying():
            sys.stdout.buffer.flush()


def _growing(root: Path, number: int, path: Path) -> Iterator[bytes]:
    """Whoever rotates it may move it, cut it to nothing or remove it, and begin it anew later, or not."""
    file: Growing | None = None
    try:
        while True:
            is_live = Look(root, reads_files=False).state.phase(number).is_live
            file = file or Growing.opened(path)
            if file is not None:
                yield from file.rest()
            following = _next(path, file)
            if following is not None:
                if file is not None:
                    yield from file.rest()
                    file.close()
                path, file = following, None
            elif not is_live:
                return
            else:
                clock.pause(LOOK_EVERY)
    finally:
        if file is not None:
            file.close()


class Growing(FileIO):
    """A log as it is written to. Where it was cut, and has grown again, other bytes stand before the place."""

    _last = b""

    @classmethod
    def opened(cls, path: Path) -> Growing | None:
        try:
            return cls(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return None

    def rest(self) -> Iterator[bytes]:
        if os.pread(self.fileno(), len(self._last), self.tell() - len(self._last)) != self._last:
            self.seek(0)
            self._last = b""
        while data := self.read(CHUNK):
            self._last = (self._last + data)[-REMEMBERED:]
            yield data


def _next(path: Path, file: Growing | None) -> Path | None:
    """What to read after this file: the new one under its name, or the next attempt's."""
    try:
        named = os.stat(path)
        if file is None or (named.st_dev, named.st_ino) != ((had := os.fstat(file.fileno())).st_dev, had.st_ino):
            return path
    except FileNotFoundError:
        pass  # between two names just now, or taken away
    later = next((one for one in _attempts(path.parent) if one > int(path.stem)), None)
    return None if later is None else path.with_name(f"{later}.log")
