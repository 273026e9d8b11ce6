"""A project for each section of a document; what it leaves running is a failure of its test."""

from __future__ import annotations

from tests.cli.conftest import projects

__all__ = ["projects"]
