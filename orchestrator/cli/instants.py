"""What became of the instants of schedules, as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from orchestrator.core.due import RAN
from orchestrator.core.names import epoch, span

Records = Sequence[dict[str, Any]]

LATE = 60.0  # seconds after its instant that a run may begin without a word about it


def instants_lines(schedules: Mapping[str, Records], zone: tzinfo, most: int) -> list[str]:
    """Of each schedule the newest `most`, the newest last; in the given zone."""
    told = list[str]()
    for name, records in sorted(schedules.items()):
        told.append(f"schedule {name}")
        if len(records) > most:
            told.append(f"  ({len(records) - most} earlier: `orch history --all` shows them)")
        told += [f"  {record_line(record, zone)}" for record in records[-most:]]
        told.append("")
    return told


def record_line(record: Mapping[str, Any], zone: tzinfo) -> str:
    when = shown(epoch(record["due"]), zone)
    if record["count"] > 1:
        when += f" to {shown(epoch(record['last']), zone)}: {record['count']}"
    return f"{when}  {record['how'].replace('_', ' '):<9}  {_what(record)}".rstrip()


def shown(instant: float, zone: tzinfo) -> str:
    when = datetime.fromtimestamp(instant, UTC).astimezone(zone)
    return f"{when:%a %Y-%m-%d %H:%M} {when.tzname() or ''}".rstrip()


def _what(record: Mapping[str, Any]) -> str:
    if record["why"]:
        return str(record["why"])
    late = epoch(record["at"]) - epoch(record["due"])
    began = f"run {record['run']}" if record["run"] else "nothing was left to do"
    return began + (f", {span(late)} late" if late >= LATE or record["how"] != RAN else "")
