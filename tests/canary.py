"""Every way that a phase may give a secret away: how it is written, in which pieces, and where.

A project under test has a copy of this file, so it stands on nothing but Python.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import random
import re
import shlex
import subprocess
import sys
import time
import traceback
import urllib.parse
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def _shell_word(text: str) -> str:
    return "".join(char if char.isalnum() or not char.isascii() else f"\\{char}" for char in text)


def _table(data: bytes, many: int, form: str, between: str) -> str:
    lines = [between.join(form.format(byte) for byte in data[at : at + many]) for at in range(0, len(data), many)]
    return f"{between.rstrip()}\n{'  ' if between else ''}".join(lines)


def _at(shift: int, encode: Callable[[bytes], bytes]) -> Callable[[str], bytes]:
    return lambda text: encode(b"/:~"[:shift] + text.encode() + b"\xff\x00end")


def _after(many: int) -> Callable[[str], bytes]:
    return lambda text: base64.encodebytes(b"x" * many + text.encode())


WAYS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "json": lambda text: json.dumps(text).encode()[1:-1],
    "json, letters as they are": lambda text: json.dumps(text, ensure_ascii=False).encode()[1:-1],
    "json in json": lambda text: json.dumps(json.dumps(text)).encode()[3:-3],
    "repr": lambda text: repr(text).encode()[1:-1],
    "repr of bytes": lambda text: repr(text.encode()).encode()[2:-1],
    "ascii": lambda text: ascii(text).encode()[1:-1],
    "shell": lambda text: shlex.quote(text).encode().strip(b"'"),
    "shell, word": lambda text: _shell_word(text).encode(),
    "url": lambda text: urllib.parse.quote(text).encode(),
    "url, all": lambda text: urllib.parse.quote(text, safe="").encode(),
    "url, some": lambda text: urllib.parse.quote(text, safe="/@+&").encode(),
    "url, plus": lambda text: urllib.parse.quote_plus(text).encode(),
    "url, small": lambda text: urllib.parse.quote(text, safe="~").lower().encode() if text.islower() else b"",
    "url, every": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()).encode(),
    "url, twice": lambda text: urllib.parse.quote(urllib.parse.quote(text, safe=""), safe="").encode(),
    "url, plus, twice": lambda text: urllib.parse.quote_plus(urllib.parse.quote_plus(text)).encode(),
    "url, every, twice": lambda text: "".join(f"%25{byte:02x}" for byte in text.encode()).encode(),
    "html": lambda text: html.escape(text).encode(),
    "html, but quotes": lambda text: html.escape(text, quote=False).encode(),
    "html, digits": lambda text: "".join(f"&#{ord(char)};" for char in text).encode(),
    "html, for ascii": lambda text: html.escape(text).encode("ascii", "xmlcharrefreplace"),
    "html, hex": lambda text: "".join(f"&#x{ord(char):x};" for char in text).encode(),
    "backslash u": lambda text: b"".join(b"\\u" + unit.encode() for unit in text.encode("utf-16-be").hex(" ", 2).split()),
    "backslash x": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()).encode(),
    "hex": lambda text: text.encode().hex().encode(),
    "HEX": lambda text: text.encode().hex().upper().encode(),
    "he:x": lambda text: text.encode().hex(":").encode(),
    "he x": lambda text: text.encode().hex(" ").encode(),
    "a list": lambda text: str(list(text.encode())).encode()[1:-1],
    "a list, closer": lambda text: json.dumps([*text.encode()], separators=(",", ":")).encode()[1:-1],
    "numbers": lambda text: " ".join(map(str, text.encode())).encode(),
    "numbers of od": lambda text: _table(text.encode(), 16, "{:4d}", "").strip().encode(),
    "0x": lambda text: ", ".join(f"0x{byte:02x}" for byte in text.encode()).encode(),
    "0X": lambda text: ",".join(f"0x{byte:02X}" for byte in text.encode()).encode(),
    "0x of xxd": lambda text: _table(text.encode(), 12, "0x{:02x}", ", ").encode(),
    **{f"base64 at {n}": _at(n, base64.b64encode) for n in range(3)},
    **{f"base64 for urls at {n}": _at(n, base64.urlsafe_b64encode) for n in range(3)},
    **{f"base64 in lines at {n}": _at(n, base64.encodebytes) for n in range(3)},
    **{f"base64 broken {before}": _after(before) for before in (48, 50, 51, 52, 55)},
}  # fmt: skip


# ── where it is shown ──────────────────────────────────────────────────────────────────────────────────────────


def _pieces(data: bytes, draw: random.Random) -> list[bytes]:
    """All at once, byte by byte, or cut in a few places."""
    kind = draw.randrange(4)
    if kind == 0:
        return [data]
    if kind == 1:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(draw.randrange(len(data) + 1) for _ in range(kind))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _write(fd: int, data: bytes, draw: random.Random) -> None:
    for piece in _pieces(b"before " + data + b" after\n", draw):
        os.write(fd, piece)
        if draw.random() < 0.05:
            time.sleep(draw.choice((0.001, 0.02, 0.07, 0.15)))


def _error(text: str, draw: random.Random) -> Exception:
    kind = draw.choice((ValueError, RuntimeError, OSError, type(text[:150], (Exception,), {})))
    return kind(text)


def _print_traceback(data: bytes, draw: random.Random) -> None:
    try:
        raise _error(f"it was {_text(data)}", draw)
    except Exception:
        traceback.print_exc()


def _logged(data: bytes) -> None:
    logging.basicConfig(stream=sys.stderr)
    logging.getLogger("a").warning("it is %r and %s", _text(data), _text(data))


def _in_a_child(data: bytes, draw: random.Random) -> None:
    shown = draw.choice(("printenv SHOWN", "env", "cat /proc/self/environ", 'printf "%s" "$SHOWN" >&2', "export -p"))
    subprocess.run(["/bin/sh", "-c", shown], env={**os.environ, "SHOWN": _text(data)}, check=True)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\0", "?")


def _raised(data: bytes, draw: random.Random) -> None:
    raise _error(_text(data), draw)


def _exited(data: bytes, draw: random.Random) -> None:
    sys.exit(_text(data))


Place = Callable[[bytes, random.Random], Any]
PLACES: dict[str, Place] = {
    "output": lambda data, draw: _write(1, data, draw),
    "errors": lambda data, draw: _write(2, data, draw),
    "print": lambda data, draw: print(_text(data), [_text(data)], {"a": data}),
    "traceback": _print_traceback,
    "warning": lambda data, draw: warnings.warn(_text(data), stacklevel=1),
    "logging": lambda data, draw: _logged(data),
    "child": _in_a_child,
    "progress line": lambda data, draw: print(f"::progress 3/10 {_text(data)}"),
    "raised": _raised,
    "exit": _exited,
    "result": lambda data, draw: {"is": _text(data), "list": [[_text(data)]]},
    "key of the result": lambda data, draw: {_text(data): 1},
    "text as result": lambda data, draw: _text(data),
}


def show(secret: str, seed: int, progress: Callable[..., Any]) -> Any:
    """One of them, by its number."""
    draw = random.Random(seed)
    data = b""
    while not data:
        data = WAYS[draw.choice(list(WAYS))](secret)
    if draw.random() < 0.1:
        progress(1, 2, _text(data))
    return PLACES[draw.choice(list(PLACES))](data, draw)


# ── who looks for it ───────────────────────────────────────────────────────────────────────────────────────────

_FOLDS = re.compile(rb"\\n|\s")


def leaks(data: bytes, secrets: Mapping[str, str]) -> list[str]:
    """How any of them stands in it; by the encoders themselves, not by what hides them."""
    found, folded = [], _FOLDS.sub(b"", data)
    for name, secret in secrets.items():
        for way, write in WAYS.items():
            if not way.startswith("base64") and (written := write(secret)) and written in data:
                found.append(f"{name}: {way}")
        for shift in range(3):
            whole = base64.b64encode(bytes(shift) + secret.encode())
            inner = whole[-(-8 * shift // 6) : 8 * (shift + len(secret.encode())) // 6]
            if any(each in folded for each in (inner, inner.translate(bytes.maketrans(b"+/", b"-_")))):
                found.append(f"{name}: base64 at {shift}")
    return found
