"""Flaw: what fsck found wrong with one file, why that matters, and the steps that repair it. Values only."""

from __future__ import annotations

from orchestrator.core.value import Value


class Step(Value):
    """One change of one path, whole or not at all, and harmless if it was made already. Paths are those of system/."""

    path: str


class Put(Step):
    """The file holds these bytes; whatever else stood there is gone."""

    data: bytes


class Cut(Step):
    """The file ends here."""

    size: int


class Drop(Step):
    """There is nothing of that name, neither file nor folder."""


class Close(Step):
    """Only who owns it may use it."""

    mode: int


class Own(Step):
    """It belongs to whom the folder around it belongs to."""

    user: int
    group: int


class Flaw(Value):
    file: str  # as in system/journal/…; for people
    what: str
    why: str  # it matters
    repair: str  # what --repair does; empty: it can do nothing
    line: int | None = None
    byte: int | None = None
    steps: tuple[Step, ...] = ()

    @property
    def is_hopeless(self) -> bool:
        return not self.repair

    @property
    def place(self) -> str:
        where = [f"line {self.line}"] if self.line else []
        where += [f"byte {self.byte}"] if self.byte is not None else []
        return self.file + (f" ({', '.join(where)})" if where else "")
