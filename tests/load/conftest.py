from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from orchestrator.load import Definitions, load

Make = Callable[..., Path]


@pytest.fixture
def project(tmp_path: Path) -> Make:
    """Writes files (path -> text) into a fresh project; the folder phases/ is always there."""

    def make(files: dict[str, str | bytes] | None = None) -> Path:
        (tmp_path / "phases").mkdir(exist_ok=True)
        for name, text in (files or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else dedent(text).lstrip("\n").encode())
            path.chmod(0o644)
        (tmp_path / "phases").chmod(0o755)
        return tmp_path

    return make


@pytest.fixture
def loaded(project: Make) -> Callable[..., Definitions]:
    """Writes the files and loads them."""

    def make(
        files: dict[str, str | bytes], *, load_timeout: float = 20, trust: bool = False, cache: bool = False
    ) -> Definitions:
        root = project(files)
        return load(root, load_timeout=load_timeout, trust=trust, cache=root / "system/cache" if cache else None)

    return make


@pytest.fixture
def faults(loaded: Callable[..., Definitions]) -> Callable[..., list[str]]:
    """The faults of a single TOML file with this text, or of these files, as people read them."""

    def make(files: str | dict[str, str | bytes]) -> list[str]:
        found = loaded({"phases/a.toml": files} if isinstance(files, str) else files)
        return [str(fault) for fault in found.faults]

    return make
