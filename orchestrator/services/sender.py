"""The sender: a process of its own that sends what waits in the outbox, and leaves when nothing is left.

Each target has a thread, so that one that hangs holds up no other; its messages go in their order. A message is taken
out only after the target has said yes: killed before that, the next sender sends it again, under the same id.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential, wait_random

from orchestrator import clock, disk
from orchestrator.config import Settings, settings, to_tell_by
from orchestrator.core.names import iso
from orchestrator.core.outward import Target
from orchestrator.errors import OrchError, SettingsError
from orchestrator.services.outbox import KEPT, Letter, Outbox, is_ping, names, take_turn
from orchestrator.services.sending import quiet_until, send
from orchestrator.services.webhook import Never, NotNow

LOOK_EVERY = 0.5
WALL_EVERY = 60.0  # a clock on the wall may be set
PATIENCE = 6 * 3600.0  # of nothing but failure
FAR = 86400.0  # what is not due for so long is left to another sender
FIRST, LONGEST = 1.0, 300.0  # seconds between two tries
MOST_LOG = 1024 * 1024
_SETTINGS = ("orch.toml", "pyproject.toml")


class Leaving(Exception):
    """This sender is to end, or to begin anew with other settings."""


class Fares:
    """sender.json: how it goes with each target, for whoever looks."""

    def __init__(self, system: Path) -> None:
        self._path, self._lock = system / "outbox" / "sender.json", Lock()
        self._fares: dict[str, dict[str, Any]] = {}

    def say(self, target: str, **fare: Any) -> None:
        with self._lock:
            if self._fares.get(target, {}) == fare:
                return
            self._fares[target] = fare
            told = {"at": iso(clock.now()), "pid": os.getpid(), "targets": self._fares}
            try:
                disk.replace(self._path, json.dumps(told).encode() + b"\n", durable=False)
            except OSError:
                return  # for whoever looks; what waits can be seen without it


class Carrier(Thread):
    """Carries to one target, one message after the other."""

    def __init__(self, name: str, target: Target, sender: Sender) -> None:
        super().__init__(name=name, daemon=True)
        self._target, self._sender, self._outbox = target, sender, sender.outbox
        self._since = clock.ticking()  # the last yes, or the beginning
        self._tries, self._path = 0, Path()
        self.gave_up = False

    def run(self) -> None:
        try:
            while (letter := self._next()) is not None:
                self._carry(letter)
        except Leaving:
            return
        except Exception as error:  # a disk that takes nothing, or a fault of ours: the others go on
            self._sender.note(f"{self.name}: given up for now: {type(error).__name__}: {error}")
            self.gave_up = True

    def _next(self) -> Letter | None:
        letter = self._outbox.first(self.name)
        while letter is not None and is_ping(letter) and (later := self._newer(letter)) is not None:
            self._outbox.done(letter)  # a switch needs to know only how it stands now
            letter = later
        if letter is None or letter.due - clock.now() > FAR:
            return None
        return letter

    def _newer(self, letter: Letter) -> Letter | None:
        return next((one for one in self._outbox.letters(self.name) if one.path.name > letter.path.name), None)

    def _carry(self, letter: Letter) -> None:
        self._tries, self._path = 0, letter.path
        try:
            again = retry_if_exception_type(NotNow)
            trying = Retrying(sleep=self._rest, wait=_between, stop=self._is_enough, retry=again, reraise=True)
            answer = trying(self._once, letter)
        except Never as fault:
            self._sender.note(f"{self.name}: {letter.message.id} is refused: {fault}")
            self._outbox.refuse(letter, str(fault))
            self._sender.fares.say(self.name)  # nothing is known of those that wait
            return
        except NotNow as fault:
            self._sender.note(f"{self.name}: nothing but failure for too long, given up for now: {fault}")
            self.gave_up = True
            raise Leaving from None
        if answer:
            self._outbox.done(letter)
            self._since = clock.ticking()
            self._sender.note(f"{self.name}: {letter.message.id}: {answer}")
            self._sender.fares.say(self.name)

    def _once(self, letter: Letter) -> str:
        """The answer; empty if it need not be sent any more, or not yet."""
        if not self._await(letter) or not letter.path.exists() or (is_ping(letter) and self._newer(letter) is not None):
            return ""
        if clock.now() - letter.since > KEPT:
            raise Never(f"it could not be delivered for {KEPT / 86400:.0f} days")
        self._tries += 1
        try:
            return send(self._target, self._sender.settings, self._sender.root, letter)
        except NotNow as fault:
            if self._tries == 1:
                self._sender.note(f"{self.name}: {letter.message.id}: {fault}; it is tried again")
            self._sender.fares.say(self.name, error=str(fault), tries=self._tries)
            raise

    def _await(self, letter: Letter) -> bool:
        """Until it is due, and nobody is asleep. False: another came meanwhile, and goes first."""
        while (now := clock.now()) < letter.due:
            if (first := self._outbox.first(self.name)) is None or first.path != letter.path:
                return False
            self._pause(min(letter.due - now, LOOK_EVERY))
            self._since = clock.ticking()
        while (until := quiet_until(self._target, now := clock.now())) is not None:
            if not letter.path.exists():  # dropped: nobody waits for the morning
                return False
            self._sender.fares.say(self.name, held_until=iso(until))
            self._rest(min(until - now, WALL_EVERY))
            self._since = clock.ticking()
        return True

    def _rest(self, seconds: float) -> None:
        """Until it is worth another try; what somebody drops meanwhile is waited for no more."""
        until = clock.ticking() + seconds
        while (left := until - clock.ticking()) > 0 and self._path.exists():
            self._pause(min(left, LOOK_EVERY))

    def _pause(self, seconds: float) -> None:
        if self._sender.leaving.wait(max(0.01, seconds)):
            raise Leaving

    def _is_enough(self, state: RetryCallState) -> bool:
        return clock.ticking() - self._since > self._sender.patience


_growing = wait_exponential(multiplier=FIRST, max=LONGEST) + wait_random(0, FIRST)


def _between(state: RetryCallState) -> float:
    """Ever longer; but never sooner than the target asks for."""
    fault = state.outcome.exception() if state.outcome else None
    asked = fault.after if isinstance(fault, NotNow) else 0.0
    return max(asked, _growing(state))


class Sender:
    def __init__(self, root: Path, note: Callable[[str], None], patience: float = PATIENCE) -> None:
        self.root, self.note, self.patience = root, note, patience
        self.outbox, self.fares = Outbox(root), Fares(root / "system")
        self.leaving = Event()
        self.settings = self._read()

    def _read(self) -> Settings:
        try:
            return settings(self.root, {}, os.environ)
        except SettingsError:
            if (left := to_tell_by(self.root)) is None:
                raise
            return left

    def run(self) -> set[str]:
        """Until nothing is left that could be sent now; returns what it knew of when it looked last."""
        carriers = dict[str, Carrier]()
        stamp = _stamp(self.root)
        while True:
            busy = {name for name, one in carriers.items() if one.is_alive()}  # what comes as one leaves is seen after
            seen = waiting(self.outbox)
            for name, target in self.settings.notify.items():
                gave_up = name in carriers and carriers[name].gave_up
                if name not in busy and not gave_up and self._has_work(name):
                    carriers[name] = Carrier(name, target, self)
                    carriers[name].start()
                    busy.add(name)
            if not busy:
                return seen
            clock.pause(LOOK_EVERY if not self._is_short(carriers) else 0.02)
            if _stamp(self.root) != stamp:
                self._begin_anew(carriers)
                stamp, carriers = _stamp(self.root), {}

    def _is_short(self, carriers: dict[str, Carrier]) -> bool:
        """Most of the time there is a message or two, and they are gone in a moment."""
        return all(one._tries <= 1 for one in carriers.values() if one.is_alive()) and not self.leaving.is_set()

    def _begin_anew(self, carriers: dict[str, Carrier]) -> None:
        """With other settings: an address that was put right is used at once."""
        self.leaving.set()
        for carrier in carriers.values():
            carrier.join()
        self.leaving.clear()
        try:
            self.settings = self._read()
        except SettingsError as error:
            self.note(f"the settings as they were are used on: {error.message.splitlines()[0]}")

    def _has_work(self, name: str) -> bool:
        return bool(names(self.outbox.folder / "waiting" / name)) and self._is_near(name)

    def _is_near(self, name: str) -> bool:
        letter = self.outbox.first(name)
        return letter is not None and letter.due - clock.now() <= FAR


def _stamp(root: Path) -> tuple[object, ...]:
    def of(name: str) -> object:
        try:
            found = os.stat(root / name)
            return found.st_mtime_ns, found.st_ino, found.st_size
        except OSError:
            return None

    return tuple(map(of, _SETTINGS))


def main(arguments: list[str]) -> int:
    """The whole life of a sender. Whoever finds another at work leaves; whoever leaves looks once more."""
    root = Path(arguments[arguments.index("--project") + 1])
    outbox = Outbox(root)
    while (turn := take_turn(outbox.folder)) is not None:
        try:
            disk.remove_drafts(outbox.folder, clock.now() - 60)
            sender = Sender(root, _note)
            seen = sender.run()
        except OrchError as error:
            _note(f"nothing can be sent: {error.message}")
            return error.exit_code
        finally:
            os.close(turn)
        if not waiting(outbox) - seen:  # what came while we were about to leave
            break
    return 0


def waiting(outbox: Outbox) -> set[str]:
    """Two targets may have a message of the same name."""
    return {f"{target}/{name}" for target in outbox.targets() for name in names(outbox.folder / "waiting" / target)}


def _note(text: str) -> None:
    sys.stderr.write(f"{iso(clock.now())} {os.getpid()} {text}\n")
    sys.stderr.flush()
    try:
        if os.fstat(2).st_size > MOST_LOG:
            os.ftruncate(2, 0)  # it is open for appending: what is said next is its first line
    except OSError:
        return
