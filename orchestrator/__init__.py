"""What a phase's author imports: `phase`, `Context` and the errors to raise; each is loaded when it is first used."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # importing typing for it would cost more than all the rest of this file
if TYPE_CHECKING:
    from orchestrator.author import phase as phase
    from orchestrator.context import Context as Context
    from orchestrator.errors import ConfigurationFault as ConfigurationFault
    from orchestrator.errors import Conflict as Conflict
    from orchestrator.errors import Critical as Critical
    from orchestrator.errors import Dependency as Dependency
    from orchestrator.errors import Failed as Failed
    from orchestrator.errors import Interrupted as Interrupted
    from orchestrator.errors import NotFound as NotFound
    from orchestrator.errors import PermissionFault as PermissionFault
    from orchestrator.errors import PhaseError as PhaseError
    from orchestrator.errors import Rejected as Rejected
    from orchestrator.errors import Resource as Resource
    from orchestrator.errors import TimeoutFault as TimeoutFault
    from orchestrator.errors import Transient as Transient
    from orchestrator.errors import ValidationFault as ValidationFault

__version__ = "0.1.0"

_ERRORS = (
    *("PhaseError", "ConfigurationFault", "ValidationFault", "NotFound", "PermissionFault", "Conflict", "TimeoutFault"),
    *("Transient", "Resource", "Interrupted", "Dependency", "Failed", "Rejected", "Critical"),
)
_HOME = {"phase": "author", "Context": "context", **dict.fromkeys(_ERRORS, "errors")}
__all__ = ["Context", "phase", *_ERRORS]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'orchestrator' has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"orchestrator.{_HOME[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
