"""system/asks: what people want of a run, from any shell. Written durably, claimed by rename, always answered.

`<id>.json` is an ask that nobody has taken; `<id>.taken` one that the holder of the lock is about to answer;
`<id>.answer` says how it was answered. A named pipe, `bell`, wakes a holder that sleeps; who finds no bell is polled.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator import clock, disk, process
from orchestrator.core import formats
from orchestrator.core.item import number_of
from orchestrator.core.names import Identity, iso
from orchestrator.core.observations import Asked
from orchestrator.disk import unwritable
from orchestrator.errors import StateDamaged

_ASKED, _TAKEN = ".json", ".taken"
POLL = 0.2  # seconds between looks at the folder; the bell makes it sooner
ANSWERS_KEPT = 100
UNREAD_FOR = 60.0  # seconds that whoever asked has to read the answer, however many there are


class Asks:
    """The folder as the holder of the lock sees it."""

    def __init__(self, system: Path) -> None:
        self._folder = system / "asks"
        try:
            disk.make_folder(self._folder)
        except OSError as error:
            raise unwritable(error, self._folder) from error
        self._remove_drafts()
        self.notices = self._dismiss()
        self._stamp = -1
        self.bell = self._hang_bell()

    def take(self) -> Iterator[Asked]:
        """Claim what has been asked since the last look; also what an earlier holder claimed and did not answer."""
        self._silence()
        stamp = os.stat(self._folder).st_mtime_ns
        if stamp == self._stamp:
            return
        # A folder that changed just now may change again within the same tick of its clock.
        self._stamp = stamp if clock.now() - stamp / 1e9 > 0.1 else -1
        for path in sorted(self._folder.iterdir()):
            if path.suffix == _ASKED and not path.name.startswith("."):
                taken = path.with_suffix(_TAKEN)
                try:
                    path.rename(taken)
                except FileNotFoundError:
                    continue  # withdrawn
                path = taken
            if path.suffix == _TAKEN:
                if path.with_suffix(".answer").exists():
                    path.unlink(missing_ok=True)  # whoever answered it was cut off before this
                    continue
                ask = _read(path)
                if ask is not None:
                    yield ask

    def answer(self, ask: str, *, accepted: bool, text: str) -> None:
        document = json.dumps({"accepted": accepted, "text": text}).encode()
        try:
            disk.replace(self._folder / f"{ask}.answer", document, durable=False)
        except OSError as error:
            raise unwritable(error, self._folder) from error
        (self._folder / f"{ask}.taken").unlink(missing_ok=True)
        self._tidy()

    def close(self) -> None:
        if self.bell is not None:
            os.close(self.bell)

    def _hang_bell(self) -> int | None:
        path = self._folder / "bell"
        try:
            if not path.exists():
                os.mkfifo(path, disk.PRIVATE_FILE)
            # For reading and writing: it then never reports "closed", and opening it waits for nobody.
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None  # a file system without named pipes: the folder is looked at anyway

    def _silence(self) -> None:
        if self.bell is not None:
            try:
                os.read(self.bell, 4096)
            except BlockingIOError:
                return

    def _dismiss(self) -> list[str]:
        """What they asked who are gone, while nobody listened: it would surprise a run that begins much later."""
        told = list[str]()
        for path in sorted(self._folder.iterdir()):
            if path.suffix in (_ASKED, _TAKEN) and not path.name.startswith(".") and _is_deserted(path):
                ask = parse(path)
                if ask is not None and path.suffix == _ASKED:  # else it may have been heard, and done
                    told.append(f"dropped, as nobody had heard it and whoever asked is gone: {ask.told()}")
                path.unlink(missing_ok=True)
        return told

    def _remove_drafts(self) -> None:
        """What a killed holder had not renamed; of those who ask, what nobody can be writing any more."""
        for draft in self._folder.glob(".*.new"):
            try:
                if ".answer." in draft.name or clock.now() - draft.stat().st_mtime > UNREAD_FOR:
                    draft.unlink()
            except FileNotFoundError:
                continue  # renamed by now

    def _tidy(self) -> None:
        answers = [*self._folder.glob("*.answer")]
        if len(answers) > ANSWERS_KEPT:
            written = sorted((path.stat().st_mtime, path) for path in answers)
            for at, path in written[:-ANSWERS_KEPT]:
                if clock.now() - at > UNREAD_FOR:
                    path.unlink(missing_ok=True)


class Petition:
    """One ask, as whoever asks it sees it."""

    def __init__(self, system: Path, ask: Asked, now: float) -> None:
        self._folder = system / "asks"
        self.ask = ask
        document = json.dumps({
            "version": formats.VERSION, **ask.as_dict(), "at": iso(now), "asker": process.myself().as_dict(),
        }).encode()  # fmt: skip
        try:
            disk.make_folder(self._folder)
            disk.replace(self._path("json"), document, durable=True)
        except OSError as error:
            raise unwritable(error, self._folder) from error
        self._ring()

    def answer(self) -> tuple[bool, str] | None:
        try:
            found = json.loads(disk.read(self._path("answer")))
            return bool(found["accepted"]), str(found["text"])
        except (OSError, *formats.MALFORMED):
            return None  # not there yet, or nothing that orch wrote: who asked gives up in time, and says so

    def withdraw(self) -> bool:
        """By the same rename that claims it: true if nobody had claimed it, and nobody will."""
        try:
            self._path("json").rename(self._path("withdrawn"))
        except OSError:
            return False
        self._path("withdrawn").unlink()
        return True

    def _path(self, suffix: str) -> Path:
        return self._folder / f"{self.ask.ask}.{suffix}"

    def _ring(self) -> None:
        try:
            path = self._folder / "bell"
            if stat.S_ISFIFO(path.stat().st_mode):
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.write(fd, b".")
                os.close(fd)
        except OSError:
            return  # nobody listens at the bell: the folder is looked at anyway


def _read(path: Path) -> Asked | None:
    """An ask that cannot be read was not written by orch: it is set aside, not answered."""
    ask = parse(path)
    if ask is None:
        path.rename(path.with_suffix(".unreadable"))
    return ask


def _is_deserted(path: Path) -> bool:
    """Whether nobody waits for the answer: provably, else it is given."""
    try:
        asker = Identity.from_dict(json.loads(disk.read(path))["asker"])
    except (OSError, *formats.MALFORMED):
        return False
    return process.is_alive(asker) == process.DEAD


def parse(path: Path) -> Asked | None:
    try:
        data: dict[str, Any] = json.loads(disk.read(path))
        version = data.get("version", formats.OLDEST)
        if formats.is_newer(version):  # answered by name, not set aside: somebody waits for it
            told = f"of format {version} ({data.get('verb')}); this run knows format {formats.VERSION}"
            return Asked(path.stem, told, str(data.get("by")), None)
        data = formats.today(formats.ASK, data, version, path.name)
        number = data.get("number")
        if data["ask"] != path.stem:  # its answer would be laid where nobody looks
            raise ValueError(f"it calls itself {data['ask']}")
        number = None if number is None else number_of(number)
        why, options = data.get("why", ""), data.get("options", [])
        if type(why) is not str or type(options) is not list or not all(type(one) is str for one in options):
            raise ValueError(f"why and options cannot be {why!r} and {options!r}")
        return Asked(path.stem, str(data["verb"]), str(data["by"]), number, why, tuple(options))
    except (OSError, StateDamaged, *formats.MALFORMED):
        return None
