"""Targets: what may be written of one, how its messages are worded, and as what it is shown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from orchestrator.core.names import nearest
from orchestrator.core.outward import Target
from orchestrator.core.quiet import quiet_of

FIELDS = ("project", "event", "text", "run", "phases", "host")  # of a template
TEMPLATE = "{project}: {text}"
_NOT_FOR_PINGS = ("events", "template", "quiet", "tz")


def worded(target: Target, fields: Mapping[str, str]) -> str:
    from string import Formatter  # only who tells, or is to tell, needs it

    return Formatter().vformat(target.template or TEMPLATE, (), {name: fields.get(name, "") for name in FIELDS})


def faults(given: Mapping[str, Any], secrets: Collection[str]) -> Iterator[tuple[str, str]]:
    """Which key of a target is wrong, and why."""
    if "ping" in given:
        for name in given.keys() & set(_NOT_FOR_PINGS):
            yield name, "has no meaning beside ping, which tells only that a run began and how it ended"
    for name in ("url", "ping"):
        if name in given and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/]", given[name]):
            yield name, 'is no URL: write "https://..."'
        elif name in given and is_plain(given[name]) and (fault := fault_of_address(given[name])):
            yield name, fault
    if not re.match(r"https?://", given.get("ping", "http://")):
        yield "ping", 'takes an address that begins with "https://" or "http://"'
    if "secret" in given and given["secret"] not in secrets:
        right = nearest(given["secret"], list(secrets))
        yield "secret", f"there is no secret {given['secret']}" + (f": did you mean {right}?" if right else "")
    if "template" in given and (fault := _fault_of_template(given["template"])):
        yield "template", fault
    if "quiet" in given:
        try:
            quiet_of(given["quiet"])
        except ValueError as error:
            yield "quiet", str(error)
    elif "tz" in given:
        yield "tz", "has no meaning without quiet"


def fault_of_address(url: str) -> str:
    """Why nobody can be called there; empty: somebody may be."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "its host is none: one of IPv6 stands in brackets, [::1]"
    try:
        is_port = parts.port != 0
    except ValueError:
        is_port = False
    if not is_port:
        return "its port is none: a number from 1 to 65535"
    if not parts.hostname:
        return "it names no host"
    for char in url:
        if not char.isprintable() or char == " " or (not char.isascii() and char not in parts.netloc):
            return f"it has {'a blank' if char.isspace() else repr(char)} in it: write {quote(char)}"
    return ""


def _fault_of_template(template: str) -> str:
    from string import Formatter

    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        return f"{error}; a brace itself is written {{{{ or }}}}"
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if name not in FIELDS or spec or conversion:
            right = nearest(name, list(FIELDS))
            hint = f"did you mean {{{right}}}?" if right and right != name else f"there is {_listed()}"
            written = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            return f"there is no {{{written}}}: {hint}"
    return ""


def _listed() -> str:
    return ", ".join(f"{{{name}}}" for name in FIELDS)


def host_only(url: str) -> str:
    """Whoever has the whole of an address may write there; one of apprise may have its token where a host stands."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return "..."
    return f"{scheme}://{re.split('[/?#]', rest)[0].rpartition('@')[2]}/..." if is_plain(url) else f"{scheme}://..."


def is_plain(url: str) -> bool:
    """A webhook; every other scheme is apprise's."""
    return url.lower().startswith(("http://", "https://"))
