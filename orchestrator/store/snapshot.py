"""state.json: the fold, written whole and atomically. Each phase's bytes are kept: only what moved is encoded."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from orchestrator import disk
from orchestrator.core import formats
from orchestrator.core.item import Item
from orchestrator.core.phase import phase_document
from orchestrator.core.state import State, from_document, run_document
from orchestrator.errors import StateDamaged
from orchestrator.store.lines import BadLine, dumped
from orchestrator.store.shape import check_state

_CHECK = b',"check":"'
_TAIL = len(_CHECK) + 8 + 3
_TOGETHER = 128  # phases
_PIECE = 16 * 1024  # smaller parts wait for the next


class Position(NamedTuple):
    """Up to where the journal is folded in: sequence number, chain, and where the next line begins."""

    seq: int = 0
    chain: int = 0
    segment: int = 1
    offset: int = 0


class Encoder:
    """Turns the state into bytes; remembers each phase's, so that the cost is that of what changed."""

    def __init__(self) -> None:
        self.size = 0  # of what was encoded last
        self._phases: dict[int, bytes] = {}  # and items
        self._order: list[int] = []  # items are sorted behind phases
        self._stale: set[int] | None = None  # None: all

    def moved(self, number: int) -> None:
        if self._stale is not None:
            self._stale.add(number)

    def forget(self) -> None:
        self._stale = None

    def encode(self, state: State, position: Position) -> bytes:
        return b"".join(self.pieces(state, position))

    def pieces(self, state: State, position: Position) -> Iterator[bytes]:
        """The same for who writes it down: where there are many phases the whole is nowhere in memory."""
        check, size, waiting = 0, 0, list[bytes]()
        for part in self._parts(state, position):
            check, size = zlib.crc32(part, check), size + len(part)
            waiting.append(part)
            if len(part) >= _PIECE:
                yield b"".join(waiting)
                waiting.clear()
        waiting.append(_CHECK + b'%08x"}\n' % check)
        self.size = size + len(waiting[-1])
        yield b"".join(waiting)

    def _parts(self, state: State, position: Position) -> Iterator[bytes]:
        self._catch_up(state)
        head = dumped({"version": formats.VERSION, **position._asdict(), **run_document(state)})
        yield head[:-1] + b',"phases":{'
        many = len(state.phases)
        yield from self._joined(0, many)
        if state.items:
            yield b'\n},"items":{'
            yield from self._joined(many, len(self._order))
        yield b"\n}"

    def _catch_up(self, state: State) -> None:
        if self._stale is None:
            self._phases = {}
        for number in self._stale if self._stale is not None else (*state.phases, *state.items):
            self._phases[number] = _phase(number, state)
        self._stale = set()
        if len(self._order) != len(self._phases):  # none goes but with all
            self._order = sorted(self._phases)

    def _joined(self, first: int, end: int) -> Iterator[bytes]:
        for at in range(first, end, _TOGETHER):
            block = b",".join(map(self._phases.__getitem__, self._order[at : min(at + _TOGETHER, end)]))
            yield block if at == first else b"," + block


def _phase(number: int, state: State) -> bytes:
    """A phase with every field; an item, of which there may be many, with those that say something."""
    phase = state.phase(number)
    document = phase.as_dict() if isinstance(number, Item) else phase_document(phase)
    return b'\n"%s":%s' % (str(number).encode(), dumped(document))


def decode(data: bytes, name: str = "state.json", where: str = "") -> tuple[State, Position]:
    """BadLine if the bytes are not a whole snapshot; StateDamaged if it is of a newer format."""
    body, tail = data[:-_TAIL], data[-_TAIL:]
    if tail != _CHECK + b'%08x"}\n' % zlib.crc32(body):
        raise _explained(data, name, where)
    document = json.loads(data)
    document = formats.today(formats.STATE, document, document.get("version"), name, where)
    check_state(document)
    position = Position(*(document[name] for name in Position._fields))
    return from_document(document), position


def _explained(data: bytes, name: str, where: str) -> BadLine | StateDamaged:
    """A newer format may be sealed otherwise: it is named, not called damaged."""
    try:
        document = json.loads(data)
    except ValueError as error:
        place = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        place = f" (byte {error.pos})" if isinstance(error, json.JSONDecodeError) else place
        return BadLine(f"it is not whole JSON{place}")
    except RecursionError:
        return BadLine("it is not whole JSON")
    if isinstance(document, dict) and formats.is_newer(document.get("version")):
        return formats.refusal(document["version"], name, where)
    return BadLine("its checksum does not fit")


def load(path: Path) -> tuple[State, Position] | BadLine | None:
    """What the file holds; None if there is none; BadLine (returned) if it cannot be trusted."""
    try:
        return decode(disk.read(path), path.name, str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise
    except BadLine as error:
        return error
    except OSError as error:
        return BadLine(f"it cannot be read: {error.strerror}")
    except formats.MALFORMED as error:
        what = error.args[0] if error.args else type(error).__name__
        return BadLine(f"it is whole, but not a state ({what})")
