"""Spec: what an author wrote about one phase, already checked and with every default filled in."""

from __future__ import annotations

from typing import Any

from orchestrator.core.gate import Approval
from orchestrator.core.value import Value

ROLLBACK = "rollback"


class RetryRule(Value):
    """How often and how long after a failure of one class a phase is tried again (`tries`: after the first)."""

    tries: int
    delay: float = 60.0
    factor: float = 2.0
    cap: float = 3600.0
    jitter: float = 0.1


class Limits(Value):
    """Ceilings for an attempt's processes, each of them: bytes, seconds of processor time, open files."""

    memory: int | None = None
    cpu: int | None = None
    open_files: int | None = None


class Foreach(Value):
    """Where a phase's items come from: written down, a parameter, files that match, or what a phase has returned."""

    items: tuple[Any, ...] | None = None
    files: str = ""  # a pattern below the project's root
    result: int | None = None
    keys: tuple[str | int, ...] = ()  # the way to the list within that result
    param: str = ""  # of the phase, whose value is the list

    def __str__(self) -> str:
        if self.items is not None:
            return f"a list of {len(self.items)}"
        if self.param:
            return f"params[{self.param!r}]"
        if self.result is None:
            return f"the files {self.files}"
        return f"result({self.result})" + "".join(f"[{key!r}]" for key in self.keys)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Foreach:
        fields = {**data, "keys": tuple(data.get("keys", ()))}
        if fields.get("items") is not None:
            fields["items"] = tuple(fields["items"])
        return cls(**fields)


class Spec(Value):
    number: int
    name: str
    file: str  # relative to the project's root
    line: int
    title: str = ""
    run: str | tuple[str, ...] | None = None  # a shell command, a list without a shell, or None: a Python function
    needs: tuple[int, ...] = ()
    timeout: float | None = None  # None: the project's
    heartbeat_timeout: float | None = None
    retries: int | None = None
    retry: dict[str, RetryRule] = {}  # noqa: RUF012  a frozen value: nobody writes to it
    env: dict[str, str] = {}  # noqa: RUF012
    cwd: str = "."
    limits: Limits = Limits()
    isolation: str = "fork"  # or "spawn"
    approval: Approval | None = None
    pools: dict[str, int] = {}  # noqa: RUF012  tokens that an attempt holds while it is live
    foreach: Foreach | None = None  # done for each of these by itself
    max_parallel: int | None = None  # of its items at once
    fail_fast: bool = False  # the first item that fails ends the others
    fail_after: float | None = None  # how many of its items may fail; below 1: which share of them
    secrets: tuple[str, ...] | None = None  # which it may have; None: a function may ask for any, a command has none
    item: tuple[Any] | None = None  # of one of its items: what it is done for
    inputs: tuple[str, ...] = ()  # patterns of files, relative to the project's root; a folder stands for all in it
    outputs: tuple[str, ...] = ()  # likewise
    params: dict[str, Any] = {}  # noqa: RUF012  plain values; text "$name" stands for the run's parameter of that name
    checkpoint: bool = False  # is made before it begins
    on_critical: str = ""  # "rollback": what failed for good goes back to its checkpoint
    # True: its success stands, through all runs, for as long as its key does. None: within a run, for as long as what
    # it needs comes out the same. False: within a run, whatever happens.
    cache: bool | None = None
    when: str = ""  # a condition; where it does not hold the phase is skipped
    digest: str = ""  # of the file and of the project files that its import loaded
    broken: str = ""  # why its file could not be imported: its attempts fail with this sentence

    @property
    def label(self) -> str:
        return f"{self.number} {self.name}"

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Spec:
        fields = dict(data)
        for name in ("needs", "inputs", "outputs"):
            fields[name] = tuple(fields.get(name, ()))
        if isinstance(fields.get("run"), list):
            fields["run"] = tuple(fields["run"])
        if "retry" in fields:
            fields["retry"] = {code: RetryRule(**rule) for code, rule in fields["retry"].items()}
        if fields.get("secrets") is not None:
            fields["secrets"] = tuple(fields["secrets"])
        if fields.get("item") is not None:
            fields["item"] = tuple(fields["item"])
        if fields.get("foreach") is not None:
            fields["foreach"] = Foreach.from_dict(fields["foreach"])
        if "limits" in fields:
            fields["limits"] = Limits(**fields["limits"])
        if fields.get("approval") is not None:  # one that says nothing but yes is stored as {}
            fields["approval"] = Approval.from_dict(fields["approval"])
        return cls(**fields)
