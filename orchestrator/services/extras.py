"""What the settings ask for that is not installed here; apart, because whoever only checks them sends nothing."""

from __future__ import annotations

from importlib.util import find_spec

from orchestrator.config import Settings
from orchestrator.core.target import host_only, is_plain

EXTRA = "pip install 'orch[notify]'"


def lacking(settings: Settings) -> list[str]:
    """What targets need that is not installed here."""
    wants = [name for name, target in settings.notify.items() if target.url and not is_plain(target.url)]
    if not wants or find_spec("apprise") is not None:
        return []
    listed = ", ".join(f"notify.{name} ({host_only(settings.notify[name].url)})" for name in wants)
    return [f"{listed}: no other address than http:// and https:// can be used without apprise: {EXTRA}"]
