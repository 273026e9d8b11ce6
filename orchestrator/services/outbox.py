"""system/outbox/: what is to be told outside, a file each, until the target has said yes; and who sends it.

`waiting/<target>/<when>-<id>.json` in the order of their names, `later-…` not before their time; `refused/` what a
target does not want, with the reason; `sender.json` how the sender fares. None of them holds an address: it may be a
secret.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator import clock, disk, process
from orchestrator.core.formats import MALFORMED
from orchestrator.core.names import epoch, iso
from orchestrator.core.outward import MISSED
from orchestrator.core.telling import DROPPED, PINGS, Message, ident
from orchestrator.core.value import Value

MOST = 1000  # messages that wait for one target
AT_ONCE = 100  # of the oldest are given up where there are more
KEPT = 7 * 86400.0  # seconds that a message waits, and then nobody needs it any more
MOST_REFUSED = 100
MOST_REMEMBERED = 200  # of what is told once, whoever notices it
LATER = "later-"
_SENDER = str(Path(__file__).with_name("__main__.py"))
_NOT_ITS_OWN = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


class Letter(NamedTuple):
    """A message as it lies there."""

    target: str
    path: Path
    message: Message
    project: str = ""
    host: str = ""
    reason: str = ""  # of one that was refused

    @property
    def due(self) -> float:
        """Not before then, in seconds since 1970; 0: at once."""
        return epoch(self.message.after) if self.path.name.startswith(LATER) else 0.0

    @property
    def since(self) -> float:
        """From when on it can be told."""
        return epoch(self.message.after or self.message.at)


class Undelivered(Value):
    """What is to be told and was not heard yet; a listing, no more."""

    waiting: int = 0
    oldest_seconds: float = 0.0
    refused: int = 0
    last_error: str = ""  # with one that waits
    last_refusal: str = ""
    held: int = 0  # until quiet hours end: nothing is wrong with these
    stray: tuple[tuple[str, int], ...] = ()  # for targets that are not in the settings any more, how many

    def as_document(self) -> dict[str, Any]:
        nothing = {name: getattr(self, name) or None for name in ("last_error", "last_refusal")}
        return {**self.__dict__, **nothing, "stray": dict(self.stray)}

    @property
    def told_of_stray(self) -> str:
        """Empty if there is none."""
        many, names = sum(many for _, many in self.stray), ", ".join(name for name, _ in self.stray)
        message, target = "message" if many == 1 else "messages", "target" if len(self.stray) == 1 else "targets"
        return f"{many} {message} for {names}, no {target} of the settings any more" if many else ""


class Outbox:
    def __init__(
        self, root: Path, complain: Callable[[str], None] = lambda text: None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:  # fmt: skip
        """`environ`: of a sender that is started here."""
        self._root, self._complain, self._environ = root, complain, environ
        self.folder = root / "system" / "outbox"
        self._waiting, self._refused = self.folder / "waiting", self.folder / "refused"
        self._senders: list[int] = []

    # ---- putting in

    def put(self, target: str, message: Message) -> None:
        if message.event == MISSED:  # noticed by two who know nothing of each other
            self._once(target, message)
        else:
            self._put(target, message)

    def _once(self, target: str, message: Message) -> None:
        told = self.folder / "once"
        disk.make_folder(told)
        if (told / f"{target}.{message.id}").exists():
            return
        self._put(target, message)
        disk.replace(told / f"{target}.{message.id}", b"", durable=True)
        with suppress(FileNotFoundError):  # another tidies at the same time
            for name in _oldest(told)[:-MOST_REMEMBERED]:
                disk.remove(told / name)

    def _put(self, target: str, message: Message) -> None:
        folder = self._waiting / target
        disk.make_folder(folder)
        there = names(folder)
        if any(name.endswith(f"-{message.id}.json") for name in there):
            return
        if len(there) >= MOST:
            self._give_up_oldest(target, there)
        now = int(clock.now() * 1000)
        last = max((int(name.partition("-")[0]) for name in there if not name.startswith(LATER)), default=0)
        when = int(epoch(message.after) * 1000) if message.after else max(now, last + 1)  # a clock may be set back
        name = f"{LATER if message.after else ''}{when:014d}-{message.id}.json"
        self._write(folder / name, message)

    def _write(self, path: Path, message: Message) -> None:
        host = process.host().partition("/")[0]
        document = {"message": message.as_dict(), "project": self._root.name, "host": host}
        disk.replace(path, json.dumps(document).encode() + b"\n", durable=True)

    def _give_up_oldest(self, target: str, there: list[str]) -> None:
        """Who could not be told for so long is told how much they missed, in one message, before all others."""
        oldest = [name for name in there if not name.startswith(LATER)][:AT_ONCE]
        letters = [letter for name in oldest if (letter := read(target, self._waiting / target / name)) is not None]
        many = sum(letter.message.dropped or 1 for letter in letters) + len(oldest) - len(letters)
        now = clock.now()
        told = Message(
            ident(DROPPED, f"{now:.3f}"), DROPPED, f"{many} earlier messages could not be delivered, and are given up",
            iso(now), dropped=many,
        )  # fmt: skip
        if oldest:
            self._write(self._waiting / target / f"{oldest[-1].partition('-')[0]}-{told.id}.json", told)
        for name in oldest:
            disk.remove(self._waiting / target / name)

    def withdraw(self, ident: str) -> None:
        for target in self.targets():
            for name in names(self._waiting / target):
                if name.endswith(f"-{ident}.json"):
                    with suppress(OSError):  # then it is told, which harms nobody
                        disk.remove(self._waiting / target / name)

    # ---- looking

    def targets(self) -> list[str]:
        """For whom something waits, or did."""
        return _names(self._waiting)

    def letters(self, target: str) -> Iterator[Letter]:
        """What waits for it, in the order in which it is to be told; those that are not due yet come last."""
        for name in names(self._waiting / target):
            letter = read(target, self._waiting / target / name)
            if letter is not None:
                yield letter

    def first(self, target: str) -> Letter | None:
        """What is to be told next; what cannot be read is put aside. A file that is gone by now was withdrawn."""
        for name in names(self._waiting / target):
            path = self._waiting / target / name
            letter = read(target, path)
            if letter is not None:
                return letter
            if path.exists():
                self.refuse(Letter(target, path, Message(path.stem, "unreadable", "", iso(clock.now()))), "unreadable")
        return None

    def waits(self) -> bool:
        return any(names(self._waiting / target) for target in self.targets())

    def refused(self) -> list[Letter]:
        found = (read(name.partition(".")[0], self._refused / name) for name in _names(self._refused))
        return [letter for letter in found if letter is not None]

    # ---- taking out

    def done(self, letter: Letter) -> None:
        """The target has said yes."""
        disk.remove(letter.path)

    def refuse(self, letter: Letter, reason: str) -> None:
        """Put aside, with the reason; the next may go on."""
        disk.make_folder(self._refused)
        document = {
            "message": letter.message.as_dict(), "project": letter.project, "host": letter.host, "reason": reason,
        }  # fmt: skip
        path = self._refused / f"{letter.target}.{letter.path.name.removeprefix(LATER)}"
        disk.replace(path, json.dumps(document).encode() + b"\n", durable=True)
        disk.remove(letter.path)
        for name in _names(self._refused)[:-MOST_REFUSED]:
            disk.remove(self._refused / name)

    def expire_strays(self, targets: Collection[str]) -> None:
        """What no sender looks at: those that it was for are not told anything any more."""
        for target in self.targets():
            for letter in [] if target in targets else [*self.letters(target)]:
                if clock.now() - letter.since > KEPT:
                    self.refuse(letter, f"there has been no target {target} for {KEPT / 86400:.0f} days")

    def drop(self, ident: str | None) -> int:
        """A person does not want it told any more; None: all. How many that were."""
        found = [letter for target in self.targets() for letter in self.letters(target)] + self.refused()
        gone = [letter for letter in found if ident is None or letter.message.id == ident]
        for letter in gone:
            disk.remove(letter.path)
        return len(gone)

    # ---- who sends it

    def wake(self) -> None:
        """A sender for what waits, unless there is one: whoever leaves looks once more after it gave up the lock."""
        self._senders = [pid for pid in self._senders if not _is_over(pid)]
        lock = take_turn(self.folder)
        if lock is None:
            return
        os.close(lock)
        logs = self._root / "system" / "logs"
        argv = [sys.executable, "-P", _SENDER, "--project", str(self._root)]
        environ = {name: value for name, value in self._environ.items() if name not in _NOT_ITS_OWN}
        try:
            disk.make_folder(logs)
            log = logs / "notify.log"
            self._senders.append(process.spawn_detached(argv, keep_fds=(), env=environ, cwd=str(self._root), log=log))
        except OSError as error:
            self._complain(f"notify: no sender could be started: {error.strerror}; what waits is sent by the next run")

    def settle(self, seconds: float, targets: Collection[str]) -> None:
        """Until all that can be sent now is sent, but no longer than that."""
        until = clock.ticking() + seconds
        while clock.ticking() < until and undelivered(self.folder.parent, targets).waiting:
            clock.pause(0.05)


def read(target: str, path: Path) -> Letter | None:
    """None: it is not there any more, or it cannot be read."""
    try:
        data = json.loads(disk.read(path))
        message = Message.from_dict(data["message"])
        epoch(message.at)
        if message.after:
            epoch(message.after)
        return Letter(target, path, message, str(data["project"]), str(data["host"]), str(data.get("reason", "")))
    except (OSError, *MALFORMED):
        return None


def names(folder: Path) -> list[str]:
    """Of the messages in it, in their order."""
    return [name for name in _names(folder) if name.removeprefix(LATER)[:14].isdigit()]


def _oldest(folder: Path) -> list[str]:
    found = [(entry.stat().st_mtime, entry.name) for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return [name for _, name in sorted(found)]


def _names(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def take_turn(folder: Path) -> int | None:
    """The descriptor that holds the turn to send, as long as it is open; None: somebody else has it."""
    try:
        disk.make_folder(folder)
        fd = os.open(folder / "sender.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, disk.PRIVATE_FILE)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def undelivered(system: Path, targets: Collection[str] | None = None) -> Undelivered:
    """A listing, and what the sender says of itself: no lock, and nothing is read that grows. Without `targets`, those
    of the settings, none is stray."""
    outbox, now = Outbox(system.parent), clock.now()
    told = fares(system)
    waiting, held, oldest, errors, stray = 0, 0, now, list[str](), list[tuple[str, int]]()
    for target in outbox.targets():
        there = names(system / "outbox" / "waiting" / target)
        if targets is not None and target not in targets:
            stray += [(target, len(there))] if there else []
            continue
        there = [name for name in there if not _is_later(name, now)]
        fare = told.get(target, {})
        if fare.get("held_until") and epoch(fare["held_until"]) > now:
            held += len(there)
            continue
        waiting += len(there)
        oldest = min([oldest, *(_when(name) for name in there)])
        if there and fare.get("error"):
            errors.append(f"{target}: {fare['error']}")
    refused = len(_names(system / "outbox" / "refused"))
    last = max(outbox.refused() if refused else [], key=lambda letter: letter.path.name.partition(".")[2], default=None)
    refusal = f"{last.target}: {last.reason}" if last else ""
    age = round(max(0.0, now - oldest), 3)
    return Undelivered(waiting, age, refused, "; ".join(errors), refusal, held, tuple(stray))


def fares(system: Path) -> dict[str, dict[str, Any]]:
    """How the sender fares with each target, as it last said."""
    try:
        found: dict[str, dict[str, Any]] = json.loads(disk.read(system / "outbox" / "sender.json"))["targets"]
        for fare in found.values():
            epoch(fare.get("held_until") or iso(0))
        return found
    except (OSError, *MALFORMED):
        return {}


def _when(name: str) -> float:
    return int(name.removeprefix(LATER)[:14]) / 1000


def _is_later(name: str, now: float) -> bool:
    return name.startswith(LATER) and _when(name) > now


def _is_over(pid: int) -> bool:
    """Reaped, if it is: it is our child until we end."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def is_ping(letter: Letter) -> bool:
    return letter.message.event in PINGS
