"""The values of this room: what was written, what is wrong with it, and the definitions that come out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from orchestrator.core.names import readable, short
from orchestrator.core.spec import Spec
from orchestrator.core.value import Value, plain


class Fault(Value):
    """One mistake of an author: where, what, and what to do."""

    file: str  # relative to the project's root
    line: int | None
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return readable(f"{place}: {self.message}" + (f": {self.hint}" if self.hint else ""))


class Written(Value):
    """One phase as its author wrote it; nothing is checked yet."""

    file: str
    line: int
    keys: dict[str, Any]
    name: str = ""  # what its function is called
    title: str = ""  # the first line of its docstring
    digest: str = ""
    threads: bool = False
    oddity: str = ""  # what is wrong with the function
    broken: str = ""

    @property
    def is_command(self) -> bool:
        return self.file.endswith(".toml")


Report = Callable[[Written, str, str, str], None]
"""Takes the phase, the key at fault ("" for the whole), the message and the hint."""

Wrong = Callable[[str, str], Any]
"""Takes what is wrong with a value and what to write instead; gives None, the value that is left."""

Reader = Callable[[Any, Wrong], Any]


class Definitions(Value):
    specs: tuple[Spec, ...] = ()  # by number
    faults: tuple[Fault, ...] = ()
    broken: dict[str, str] = {}  # noqa: RUF012  file -> why it could not be imported, and what to do
    digest: str = ""  # of everything
    files: dict[str, str] = {}  # noqa: RUF012  .py file -> digest: what a template has to import

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Definitions:
        fields = dict(data)
        fields["specs"] = tuple(Spec.from_dict(spec) for spec in fields.get("specs", ()))
        fields["faults"] = tuple(Fault(**fault) for fault in fields.get("faults", ()))
        return cls(**fields)


def digest_of(*parts: object) -> str:
    return hashlib.sha256(json.dumps(plain(parts), sort_keys=True).encode()).hexdigest()


def shown(value: object) -> str:
    """A value that an author wrote, for the message that refuses it."""
    if isinstance(value, dict) and len(value) == 1 and "" in value:  # what Python wrote and JSON cannot hold
        return str(value[""])
    return short(value)
