"""A document that proves itself: JSON with the digest of what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from orchestrator import disk
from orchestrator.core import formats
from orchestrator.core.formats import MALFORMED
from orchestrator.errors import StateDamaged


def seal(body: dict[str, Any]) -> bytes:
    document = {"version": formats.VERSION, "sum": _sum(body), "body": body}
    return json.dumps(document, separators=(",", ":"), default=str).encode() + b"\n"


def opened(path: Path, remedy: str) -> dict[str, Any]:
    """FileNotFoundError if it is not there; StateDamaged, by name, if it is not what was sealed."""
    try:
        document = json.loads(disk.read(path))
        version, told, body = document["version"], document["sum"], document["body"]
        if formats.is_newer(version):
            raise formats.refusal(version, str(path))
        if told != _sum(body):
            raise ValueError("what it says is not what was written")
        return dict(body)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
    except (OSError, *MALFORMED) as error:
        raise StateDamaged(f"{path} is damaged: {error}", remedy) from error


def _sum(body: dict[str, Any]) -> str:
    text = json.dumps(body, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
