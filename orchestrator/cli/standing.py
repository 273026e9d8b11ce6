"""Descriptors 0 to 2, whoever called: apart because it comes before anything else is opened or said."""

from __future__ import annotations

import io
import os
import sys

_MODES = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def say_what_can_be_said() -> None:
    """Where the language has no such letter (LANG=C) it is shown by its number: no reason to say nothing at all."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def open_what_was_closed() -> None:
    """`orch run >&-`: else the next file opened would be descriptor 1, and what is said would be written into it."""
    for number, (name, mode) in enumerate(_MODES):
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, os.O_RDWR)
            if fd != number:
                os.dup2(fd, number)
                os.close(fd)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
