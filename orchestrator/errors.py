"""The error tree and the 13 codes: meaning, family, retry rule, remedy.

A failed tool is an exception and knows the exit code of orch:

    OrchError
    ├── UsageError          2   wrong usage, settings or definitions: nothing was started
    │   ├── SettingsError
    │   └── DefinitionsError
    ├── Refused             1   an ask was refused
    ├── StateDamaged        4   the state is damaged, or of a newer format, and was not touched
    ├── StateUnwritable    74   the state could not be written
    ├── OutputUnwritable   74   what was to be shown could not be
    ├── RunActive          75   another run is active
    └── InternalFault      70   a fault of orch itself

Failed work is a value with one of the codes below (which end of an attempt means which: core/causes.py); inside a phase it is raised as

    PhaseError
    ├── ConfigurationFault  ├── ValidationFault  ├── NotFound   ├── PermissionFault  ├── Conflict
    ├── TimeoutFault        ├── Transient        ├── Resource   ├── Interrupted
    ├── Dependency          ├── Failed           ├── Rejected
    └── Critical (never tried again, whatever is configured)
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class RetryDefault(NamedTuple):
    tries: int  # after the first
    delay: float = 60.0
    factor: float = 2.0
    cap: float = 3600.0
    jitter: float = 0.1


class Code(NamedTuple):
    name: str
    family: str
    meaning: str
    remedy: str
    retry: RetryDefault | None = None  # None: never retried, whatever `retries` says


_WHEN_ASKED = RetryDefault(0)
_TRANSIENT = RetryDefault(3, 60)
_SLOWLY = RetryDefault(3, 300)

CODES: dict[str, Code] = {
    code.name: code
    for code in (
        Code("CONFIGURATION", "client", "its settings or its environment are wrong", "correct it, then `orch run`"),
        Code("VALIDATION", "client", "what it was given, or gave, is not valid", "correct the data, then `orch run`"),
        Code("NOT_FOUND", "client", "something it was told to use does not exist", "check the name or the path, then `orch run`"),
        Code("PERMISSION", "client", "it is not allowed to do that", "check who runs it and the file modes, then `orch run`"),
        Code("CONFLICT", "client", "something else holds or changed what it needs", "see its log; `orch run` tries it again", _TRANSIENT),
        Code("TIMEOUT", "server", "it did not end by its deadline", "look at its log; raise `timeout`, or set `retries`", _WHEN_ASKED),
        Code("TRANSIENT", "server", "a passing fault", "see its log; `orch run` tries it again", _TRANSIENT),
        Code("RESOURCE", "server", "memory, disk or descriptors ran out", "free some, or raise `limits`", _SLOWLY),
        Code("INTERRUPTED", "server", "its agent, host or power was lost", "`orch retry N` runs it again", RetryDefault(3, 0, 1, 0, 0)),
        Code("INTERNAL", "server", "a fault of orch itself", "report it with system/journal"),
        Code("DEPENDENCY", "business", "something it needs is not there yet", "see its log; `orch run` tries it again", _SLOWLY),
        Code("FAILED", "business", "the phase's own failure, cause unknown", "look at its log, then `orch run`", RetryDefault(1, 60)),
        Code("REJECTED", "business", "denied, expired or cancelled by a person", "`orch run` runs it again"),
    )
}  # fmt: skip


class OrchError(Exception):
    """Whose fault, what to do next, and the exit code."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class UsageError(OrchError):
    exit_code = 2


class SettingsError(UsageError):
    pass


class DefinitionsError(UsageError):
    pass


class Refused(OrchError):
    exit_code = 1


class StateDamaged(OrchError):
    exit_code = 4


class StateUnwritable(OrchError):
    exit_code = 74


class OutputUnwritable(OrchError):
    exit_code = 74


class RunActive(OrchError):
    exit_code = 75


class InternalFault(OrchError):
    exit_code = 70


class PhaseError(Exception):
    """Raised by a phase to say which kind of failure this is, and so whether trying again can help."""

    code: ClassVar[str] = "FAILED"


class Critical(PhaseError):
    """Not to be tried again: what it has done is to be undone, where `on_critical = "rollback"` says so."""


class ConfigurationFault(PhaseError):
    code = "CONFIGURATION"


class ValidationFault(PhaseError):
    code = "VALIDATION"


class NotFound(PhaseError):
    code = "NOT_FOUND"


class PermissionFault(PhaseError):
    code = "PERMISSION"


class Conflict(PhaseError):
    code = "CONFLICT"


class TimeoutFault(PhaseError):
    code = "TIMEOUT"


class Transient(PhaseError):
    code = "TRANSIENT"


class Resource(PhaseError):
    code = "RESOURCE"


class Interrupted(PhaseError):
    code = "INTERRUPTED"


class Dependency(PhaseError):
    code = "DEPENDENCY"


class Failed(PhaseError):
    code = "FAILED"


class Rejected(PhaseError):
    code = "REJECTED"
