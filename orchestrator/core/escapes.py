"""The usual ways of writing a character where it does not stand for itself: JSON, Python, shells, URLs, HTML."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

BREAKS = (b"\n", b"\r\n", b"\\n", b"\\r\\n", b"\\\\n", b"%0A", b"%0a")
_DEPTHS = (1, 2, 4)  # backslashes before a letter: escaped once, twice, three times
_BEFORE = (0, 1, 2, 3, 4, 7)  # before a character that stands for itself: the same, and once more in a shell
_LETTERS = {
    "\n": "n", "\t": "t", "\r": "r", "\b": "b", "\f": "f", "\v": "v", "\a": "a", "\0": "0", "\x1b": "eE",
}  # fmt: skip
_IN_SHELL = ("'\\''", "'\\\\''", "'\"'\"'", "'\\\"'\\\"'")
_IN_HTML = {"&": ("amp",), "<": ("lt",), ">": ("gt",), '"': ("quot",), "'": ("#x27", "#39", "apos")}
_IN_URL = ("%", "%25")  # escaped once, twice
_BETWEEN = (b", ", b",", b" ", b"  ", b"\n", b"\n ", b"\n  ", b",\n", b",\n  ")  # numbers: of JSON, od, xxd -i
_IN_A_ROW = 8  # numbers in one line at least
_FIRST_TOO_LONG = 0x10000  # characters from here on are two of \uXXXX


@cache
def written(char: str) -> tuple[bytes, ...]:
    """All ways of one character of a text, the plain one first."""
    plain = char.encode("utf-8", "surrogateescape")
    if char.isascii() and (char.isalnum() or char == "_"):
        return (plain,)
    return tuple(dict.fromkeys((plain, *_escaped(char, plain))))


def _escaped(char: str, plain: bytes) -> Iterator[bytes]:
    code = ord(char)
    if char == "\\":
        yield from (b"\\" * many for many in (2, 3, 4, 8))
    elif char.isascii():
        yield from (b"\\" * many + plain for many in _BEFORE[1:])
    if char == "\n":
        yield b"\r\n"
    if char == " ":
        yield from (b"+", b"%2B", b"%2b")
    if char == "'":
        yield from (way.encode() for way in _IN_SHELL)
    for letter in _LETTERS.get(char, ""):
        yield from (b"\\" * many + letter.encode() for many in _DEPTHS)
    yield from _in_digits(char, code, plain)
    for name in _IN_HTML.get(char, ()):
        yield from (f"&{name};".encode(), f"&amp;{name};".encode())
    if 0x80 <= code < 0x100:
        yield bytes([code])


def _in_digits(char: str, code: int, plain: bytes) -> Iterator[bytes]:
    for form in ("02x", "02X"):
        yield from ("".join(f"{before}{byte:{form}}" for byte in plain).encode() for before in _IN_URL)
        for many in _DEPTHS:
            escape = "\\" * many
            yield "".join(f"{escape}x{byte:{form}}" for byte in plain).encode()
            yield f"{escape}x{code:{form}}".encode()
            yield "".join(f"{escape}u{unit:0{form[1:].replace('2', '4')}}" for unit in _units(char, code)).encode()
            if code >= _FIRST_TOO_LONG:
                yield f"{escape}U{code:0{form[1:].replace('2', '8')}}".encode()
        yield f"&#x{code:{form[-1]}};".encode()
    yield from ("".join("\\" * many + f"{byte:03o}" for byte in plain).encode() for many in _DEPTHS[:2])
    yield f"&#{code};".encode()


def _units(char: str, code: int) -> tuple[int, ...]:
    """As UTF-16 has it, which is what JSON writes."""
    if code < _FIRST_TOO_LONG:
        return (code,)
    pair = char.encode("utf-16-be")
    return int.from_bytes(pair[:2]), int.from_bytes(pair[2:])


def quoted(text: str) -> Iterator[bytes]:
    """All of a text in digits, even what could stand for itself."""
    data = text.encode("utf-8", "surrogateescape")
    for form in ("02x", "02X"):
        for between in ("", " ", ":"):
            yield between.join(f"{byte:{form}}" for byte in data).encode()
        for before in (*_IN_URL, "\\x", "\\\\x"):
            yield "".join(f"{before}{byte:{form}}" for byte in data).encode()
        for before in ("\\u", "\\\\u"):
            units = (unit for char in text for unit in _units(char, ord(char)))
            yield "".join(f"{before}{unit:{form.replace('2', '4')}}" for unit in units).encode()
        yield "".join(f"&#x{ord(char):{form[-1]}};" for char in text).encode()
    yield "".join(f"&#{ord(char)};" for char in text).encode()


def numbered(data: bytes) -> Iterator[tuple[list[tuple[bytes, ...]], int, set[bytes]]]:
    """As a list, or a table, of numbers: the pieces, and how the first so many of them are written."""
    for form in (b"%d", b"0x%02x", b"0x%02X"):
        numbers = [form % byte for byte in data]
        row = numbers[:_IN_A_ROW]
        rows = {b", ".join(row), b",".join(row)}
        if form == b"%d":
            rows |= {b" ".join(row), b" ".join(number.rjust(3) for number in row).lstrip()}
        pieces: list[tuple[bytes, ...]] = [(numbers[0],)]
        for number in numbers[1:]:
            pieces += [_BETWEEN, (number,)]
        yield pieces, 2 * len(row) - 1, rows
