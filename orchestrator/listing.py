"""Which files a pattern means: for phases that fan out over files."""

from __future__ import annotations

import glob
from pathlib import Path

from orchestrator.core.actions import ListFiles
from orchestrator.core.item import MOST_ITEMS
from orchestrator.core.observations import FilesListed


def list_files(root: Path, asked: ListFiles) -> FilesListed:
    """Relative to the project's root and sorted; none at all is a list, too."""
    try:
        found = sorted(glob.glob(asked.pattern, root_dir=root, recursive=True))
        for path in found:
            path.encode()  # a name that is no text could not be written down
    except (OSError, ValueError) as error:
        return FilesListed(asked.number, why_not=f"the files {asked.pattern} cannot be listed: {error}")
    if len(found) > MOST_ITEMS:
        return FilesListed(
            asked.number, why_not=f"{asked.pattern} means {len(found)} files, and there may be {MOST_ITEMS}"
        )
    return FilesListed(asked.number, tuple(found))
