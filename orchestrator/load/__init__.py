"""From phases/ to specs: reads, describes, checks and caches definitions; every fault of every file in one go."""

from orchestrator.load.definitions import Definitions as Definitions
from orchestrator.load.definitions import Fault as Fault
from orchestrator.load.loading import load as load
from orchestrator.load.loading import peek as peek

__all__ = ["Definitions", "Fault", "load", "peek"]
