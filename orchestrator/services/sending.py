"""Sending: one message to one target, by the way that its address wants; and what stands in the way of that."""

from __future__ import annotations

import json
import logging
import os
import threading
from datetime import tzinfo
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo

from orchestrator import __version__
from orchestrator.config import Settings
from orchestrator.core.names import readable
from orchestrator.core.outward import Target
from orchestrator.core.quiet import quiet_of
from orchestrator.core.target import host_only, is_plain, worded
from orchestrator.core.telling import BEGUN, ENDED_BADLY
from orchestrator.errors import OrchError
from orchestrator.secret import hidden, resolve
from orchestrator.services.extras import EXTRA
from orchestrator.services.outbox import Letter
from orchestrator.services.webhook import Never, NotNow, post, within

APPRISE_WHOLE = 60.0


def send(target: Target, settings: Settings, root: Path, letter: Letter) -> str:
    """Returns what was answered; NotNow or Never where it was not taken."""
    address = address_of(target, settings, root)
    try:
        return _send(target, address, letter)
    except NotNow as fault:
        raise NotNow(hidden(str(fault)), fault.after) from None
    except Never as fault:
        raise Never(hidden(str(fault))) from None


def _send(target: Target, address: str, letter: Letter) -> str:
    if target.ping:
        return post(
            _of_ping(address, letter.message.event), letter.message.text.encode(), _headers(letter, "text/plain")
        )
    document = document_of(target, letter)
    if is_plain(address):
        return post(address, json.dumps(document).encode(), _headers(letter, "application/json"))
    return within(APPRISE_WHOLE, lambda: _by_apprise(address, letter, document["text"]))


def document_of(target: Target, letter: Letter) -> dict[str, Any]:
    message = letter.message
    phases = [{"number": number, "name": name} for number, name in message.phases]
    fields = {
        "project": letter.project, "event": message.event, "text": message.text, "run": message.run,
        "phases": ", ".join(f"{one['number']} {one['name']}".rstrip() for one in phases), "host": letter.host,
    }  # fmt: skip
    return {
        "id": message.id, "event": message.event, "project": letter.project, "host": letter.host, "run": message.run,
        "phases": phases, "text": worded(target, fields), "at": message.at,
    }  # fmt: skip


def address_of(target: Target, settings: Settings, root: Path) -> str:
    """NotNow where it cannot be had."""
    if not target.secret:
        return target.url or target.ping
    try:
        return resolve(target.secret, settings.secrets[target.secret], root, os.environ)
    except OrchError as fault:  # a file that comes with a mount, a command that asks a server: later it may be there
        raise NotNow(f"{fault.message}: {fault.remedy}") from None


def quiet_until(target: Target, now: float) -> float | None:
    """When somebody may be disturbed again; None: now."""
    return quiet_of(target.quiet).until(now, _zone(target.tz)) if target.quiet else None


def _zone(name: str) -> tzinfo | None:
    return ZoneInfo(name) if name else None


def _headers(letter: Letter, kind: str) -> dict[str, str]:
    return {
        "Content-Type": f"{kind}; charset=utf-8", "Idempotency-Key": letter.message.id,
        "User-Agent": f"orch/{__version__}",
    }  # fmt: skip


def _of_ping(address: str, event: str) -> str:
    parts = urlsplit(address)
    end = {BEGUN: "/start", ENDED_BADLY: "/fail"}.get(event, "")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + end, parts.query, ""))


def _by_apprise(address: str, letter: Letter, text: str) -> str:
    """It answers yes or no, and why not only in its log."""
    try:
        import apprise
    except ImportError:
        raise NotNow(f"apprise is not installed: {EXTRA}") from None
    heard = _Heard()
    logging.getLogger("apprise").addHandler(heard)
    try:
        if not (there := apprise.Apprise()).add(address):
            raise Never(f"{host_only(address)}: apprise does not understand this address")
        title = f"{letter.project}: {letter.message.event}"
        if there.notify(title=title, body=f"{text}\n[{letter.message.id}]"):
            return "apprise: sent"
    finally:
        logging.getLogger("apprise").removeHandler(heard)
    raise NotNow(f"{host_only(address)}: {_without(address, ' '.join(heard.lines)) or 'apprise could not send it'}")


class _Heard(logging.Handler):
    """What is said in this thread: others send to others."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


def _without(address: str, text: str) -> str:
    """What apprise says may hold pieces of the address: then nothing of it is kept."""
    pieces = [piece for piece in address.replace("?", "/").replace("&", "/").split("/")[2:] if len(piece) >= 4]
    return "" if any(piece in text for piece in pieces) else readable(" ".join(text.split()), 200)
