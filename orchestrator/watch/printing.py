"""Text from outside as it may be shown: apart because most who show some need no more of what is said about a run."""

from __future__ import annotations


def printable(text: str) -> str:
    """What a phase printed may hold anything: on a terminal it must not move the cursor, nor turn the text round."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char == "\t" else "" for char in _without_escapes(text))


def _without_escapes(text: str) -> str:
    head, *rest = text.split("\x1b")
    return head + "".join(_after_escape(part) for part in rest)


def _after_escape(part: str) -> str:
    """The text behind one escape sequence: `[`, its numbers, one letter."""
    if not part.startswith("["):
        return part[1:]
    end = next((place for place, char in enumerate(part[1:], 1) if "@" <= char <= "~"), len(part))
    return part[end + 1 :]
