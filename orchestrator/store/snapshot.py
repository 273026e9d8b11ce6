"""state.json: the fold, written whole and atomically. Each phase's bytes are kept: only what moved is encoded."""

from __future__ import annotations

import json
import zlib
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


class Position(NamedTuple):
    """Up to where the journal is folded in: sequence number, chain, and where the next line begins."""

    seq: int = 0
    chain: int = 0
    segment: int = 1
    offset: int = 0


class Encoder:
    """Turns the state into bytes; remembers each phase's, so that the cost is that of what changed."""

    def __init__(self) -> None:
        self._phases: dict[int, bytes] = {}  # and items
        self._stale: set[int] | None = None  # None: all

    def moved(self, number: int) -> None:
        if self._stale is not None:
            self._stale.add(number)

    def forget(self) -> None:
        self._stale = None

    def encode(self, state: State, position: Position) -> bytes:
        if self._stale is None:
            self._phases = {}
        for number in self._stale if self._stale is not None else (*state.phases, *state.items):
            self._phases[number] = _phase(number, state)
        self._stale = set()
        head = dumped({"version": formats.VERSION, **position._asdict(), **run_document(state)})
        numbers = sorted(self._phases)
        many = len(state.phases)  # items are sorted behind them
        body = head[:-1] + b',"phases":{' + b",".join(self._phases[number] for number in numbers[:many]) + b"\n}"
        if state.items:
            body += b',"items":{' + b",".join(self._phases[number] for number in numbers[many:]) + b"\n}"
        return body + _CHECK + b'%08x"}\n' % zlib.crc32(body)


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
