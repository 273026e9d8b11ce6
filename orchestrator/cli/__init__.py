"""The commands: one file each, made of options, call, render, exit code."""

from __future__ import annotations

from orchestrator.cli.main import main

__all__ = ["main"]
