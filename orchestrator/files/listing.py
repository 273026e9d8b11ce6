"""Which files a pattern means: for phases that fan out over files."""

from __future__ import annotations

from pathlib import Path

from orchestrator.core.actions import ListFiles
from orchestrator.core.item import MOST_ITEMS
from orchestrator.core.observations import FilesListed
from orchestrator.files.patterns import Found, find


def list_files(root: Path, asked: ListFiles) -> FilesListed:
    """Relative to the project's root and sorted; none at all is a list, too."""
    found = Found()
    for _ in find(root, [asked.pattern], found):
        if len(found.files) > MOST_ITEMS:
            many = f"{asked.pattern} means more than {MOST_ITEMS} files, and there may be no more"
            return FilesListed(asked.number, why_not=many)
    for path, what in found.files.items():
        if isinstance(what, OSError):
            return FilesListed(
                asked.number, why_not=f"the files {asked.pattern} cannot be listed: {path}: {what.strerror}"
            )
        if not path.isprintable():
            return FilesListed(asked.number, why_not=f"{path!r} has a name that cannot be printed")
    return FilesListed(asked.number, tuple(sorted(found.files)))
